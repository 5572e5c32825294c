import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Operation } from './proof/shim/shim.ts';
import { canShim, from, shimmed } from './shimmed.ts';

/** The paths below `home` that were synced before the first operation that this is. */
function syncedBefore(home: string, operations: Operation[], is: (one: Operation) => boolean): string[] {
  const first = operations.findIndex(is);
  expect(first).toBeGreaterThan(-1);
  return operations
    .slice(0, first)
    .filter(({ kind }) => kind === 'sync')
    .map(({ path: file }) => path.relative(home, file));
}

test.runIf(canShim)(
  "a store's directories have lasting names before it has a database, whoever made them",
  async () => {
    const { home, at, run } = await shimmed();
    await mkdir(path.join(home, 'data'));
    const { operations } = await run(`
    import { openLocalStore } from ${from('stores/local.ts')};
    await (await openLocalStore(${at('data/store')})).close();`);
    const synced = syncedBefore(
      home,
      operations,
      (one) => one.kind === 'create' && one.path.endsWith('store.sqlite'),
    );
    expect(synced).toEqual(expect.arrayContaining(['data/store', 'data', '']));
  },
);

test.runIf(canShim)(
  'the directories of the ledger of deliveries have lasting names before it has its own',
  async () => {
    const { home, at, run } = await shimmed();
    await mkdir(path.join(home, 'data', 'host'), { recursive: true });
    const { operations } = await run(`
    import { openDatabase } from ${from('jobs/deliveriesfile.ts')};
    openDatabase(${at('data/host/deliveries.sqlite')}).close();`);
    const synced = syncedBefore(home, operations, ({ kind }) => kind === 'link');
    expect(synced).toEqual(expect.arrayContaining(['data', '']));
  },
);

test.runIf(canShim)(
  'a directory for moved transcripts has a lasting name before one is moved into it',
  async () => {
    const { home, at, run } = await shimmed();
    await writeFile(path.join(home, 'x.jsonl'), 'one');
    const { operations } = await run(`
    import { lookAtFile, moveToArchive } from ${from('openclaw/archive.ts')};
    await moveToArchive(${at('x.jsonl')}, (await lookAtFile(${at('x.jsonl')})).identity);`);
    expect(syncedBefore(home, operations, ({ kind }) => kind === 'link')).toContain('');
  },
);
