import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { canShim, from, shimmed } from './shimmed.ts';

test.runIf(canShim)(
  'a disk that is full while the ledger of deliveries is made leaves none that is damaged',
  async () => {
    const { home, at, run } = await shimmed();
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
  },
  60_000,
);

test.runIf(canShim)('a disk that fails under a lock is told as one', async () => {
  const { home, at, run } = await shimmed();
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

test.runIf(canShim)('a disk that fails in the middle of a transcript is told as one', async () => {
  const { home, at, run } = await shimmed();
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

test.runIf(canShim)('a disk that fails where the locks of agents are to be made is told as one', async () => {
  const { at, run } = await shimmed();
  const program = `
    import { underLock } from ${from('jobs/agentlock.ts')};
    try { await underLock({ dataDir: ${at('data')}, host: 'box' }, 'main', 'upload', async () => {}); }
    catch (error) { process.stdout.write(error.name); }`;
  const { stdout } = await run(program, { at: 1, how: '5', on: true });
  expect(stdout).toBe('NexusError');
});
