import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { buildShim, type Fault, type Operation, readOperations, type Shim } from './proof/shim/shim.ts';

const source = path.join(import.meta.dirname, '..', 'src');
let root: string;
let home: string;
let shim: Shim;

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'nexus-shim-'));
  shim = await buildShim(root);
});
beforeEach(async () => {
  home = await mkdtemp(path.join(root, 'home-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs a module of its own, in which operations on files below `home` are recorded, or one fails. */
async function run(
  program: string,
  fault?: Fault,
  reads = false,
): Promise<{ stdout: string; operations: Operation[] }> {
  const log = `${home}.log`;
  await rm(log, { force: true });
  await writeFile(log, '');
  const env = shim({
    roots: [home],
    log,
    reads: fault !== undefined && reads,
    ...(fault === undefined ? { data: true } : { fault }),
  });
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  const operations = await readOperations(log);
  return { stdout, operations };
}

const from = (file: string): string => JSON.stringify(path.join(source, file));
const at = (name: string): string => JSON.stringify(path.join(home, name));

/** The paths that were synced before the first operation that this is. */
function syncedBefore(operations: Operation[], is: (one: Operation) => boolean): string[] {
  const first = operations.findIndex(is);
  expect(first).toBeGreaterThan(-1);
  return operations
    .slice(0, first)
    .filter(({ kind }) => kind === 'sync')
    .map(({ path: file }) => path.relative(home, file));
}

test("a store's directories have lasting names before it has a database, whoever made them", async () => {
  await mkdir(path.join(home, 'data'));
  const { operations } = await run(`
    import { openLocalStore } from ${from('stores/local.ts')};
    await (await openLocalStore(${at('data/store')})).close();`);
  const synced = syncedBefore(
    operations,
    (one) => one.kind === 'create' && one.path.endsWith('store.sqlite'),
  );
  expect(synced).toEqual(expect.arrayContaining(['data/store', 'data', '']));
});

test('the directories of the ledger of deliveries have lasting names before it has its own', async () => {
  await mkdir(path.join(home, 'data', 'host'), { recursive: true });
  const { operations } = await run(`
    import { openDatabase } from ${from('jobs/deliveriesfile.ts')};
    openDatabase(${at('data/host/deliveries.sqlite')}).close();`);
  const synced = syncedBefore(operations, ({ kind }) => kind === 'link');
  expect(synced).toEqual(expect.arrayContaining(['data', '']));
});

test('a directory for moved transcripts has a lasting name before one is moved into it', async () => {
  await writeFile(path.join(home, 'x.jsonl'), 'one');
  const { operations } = await run(`
    import { lookAtFile, moveToArchive } from ${from('openclaw/archive.ts')};
    await moveToArchive(${at('x.jsonl')}, (await lookAtFile(${at('x.jsonl')})).identity);`);
  expect(syncedBefore(operations, ({ kind }) => kind === 'link')).toContain('');
});

test('a disk that is full while the ledger of deliveries is made leaves none that is damaged', async () => {
  const program = `
    import { openDatabase } from ${from('jobs/deliveriesfile.ts')};
    try { openDatabase(${at('host/deliveries.sqlite')}).close(); } catch (error) { process.stdout.write(error.name); }`;
  // Of the file under its first name: afterwards there is a ledger, whatever becomes of this opening of it.
  const { operations } = await run(program);
  const making = operations.filter(({ kind, path: file }) => kind === 'write' && file.includes('.new-'));
  expect(making.length).toBeGreaterThan(5);
  for (const { n } of making) {
    await rm(path.join(home, 'host'), { recursive: true, force: true });
    const { stdout } = await run(program, { at: n, how: '28', on: false });
    expect(stdout, `at operation ${n}`).toBe('NexusError');
    expect((await run(program)).stdout, `after operation ${n}`).toBe('');
  }
}, 60_000);

test('a disk that fails under a lock is told as one', async () => {
  const program = `
    import { acquireLock } from ${from('processlock.ts')};
    try { await (await acquireLock(${at('main.lock')}, { waitMs: 0, holder: 'x' })).release(); }
    catch (error) { process.stdout.write(error.name); }`;
  const { operations } = await run(program);
  const ours = operations.filter(({ kind, path: file }) => kind === 'chmod' || file.includes('.holder'));
  for (const { n, kind } of ours) {
    await rm(path.join(home, 'main.lock'), { force: true });
    expect((await run(program, { at: n, how: '5', on: false })).stdout, kind).toBe('NexusError');
  }
});

test('a disk that fails in the middle of a transcript is told as one', async () => {
  await writeFile(path.join(home, 'x.jsonl'), 'one\n');
  const program = `
    import { lstatSync } from 'node:fs';
    import { openPlainFile } from ${from('openclaw/plainfile.ts')};
    const { dev, ino } = lstatSync(${at('x.jsonl')});
    try {
      const bytes = await openPlainFile({ path: ${at('x.jsonl')}, dev, ino, directory: ${at('.')} }, true);
      for await (const piece of bytes.pieces()) process.stdout.write(piece);
    } catch (error) { process.stdout.write(error.name); }`;
  expect((await run(program)).stdout).toBe('one\n');
  // Its opening is the first, and its only read the second.
  const { stdout } = await run(program, { at: 2, how: '5', on: false }, true);
  expect(stdout).toBe('NexusError');
});
