import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { type Database, openDatabase } from '../../src/stores/local-database.ts';

let directory: string;
let database: Database;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nexus-database-'));
  database = await openDatabase(join(directory, 'store.sqlite'), 1000);
});
afterEach(async () => {
  await database.close();
  await rm(directory, { recursive: true });
});

const insert = (id: string): Promise<void> =>
  database.commit(() => {
    database.sqlite.prepare("INSERT INTO rows (tbl, partition, id, json) VALUES ('T', 'p', ?, '{}')").run(id);
  });
const stored = (): Promise<unknown[]> =>
  database.read(() =>
    database.sqlite
      .prepare('SELECT id FROM rows ORDER BY id')
      .all()
      .map((row) => row['id']),
  );

test('a mutation that comes at any moment after another is committed too', async () => {
  for (let moments = 0; moments < 20; moments++) {
    await insert(`a${moments}`);
    for (let n = 0; n < moments; n++) await Promise.resolve();
    await insert(`b${moments}`);
  }
  expect(await stored()).toHaveLength(40);
});

test('a mutation that throws is refused alone', async () => {
  const results = await Promise.allSettled([
    insert('a'),
    database.commit(() => {
      throw new NexusError('conflict', 'It was in the way.');
    }),
    insert('b'),
  ]);
  expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(await stored()).toEqual(['a', 'b']);
});

test('when the transaction fails, none of its mutations passes for stored', async () => {
  const results = await Promise.allSettled([
    insert('a'),
    database.commit(() => database.sqlite.exec('ROLLBACK')), // as SQLite does by itself when the disk is full
    insert('b'),
  ]);
  expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(await stored()).toEqual([]);
  await insert('c');
  expect(await stored()).toEqual(['c']);
});
