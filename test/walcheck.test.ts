import { copyFile, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkWal } from '../src/walcheck.ts';

const frame = 24 + 4096;
let directory: string;
let database: string;
let wal: Buffer;

/** As a process leaves it that is killed after five commits. */
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-wal-'));
  database = path.join(directory, 'left.sqlite');
  const live = path.join(directory, 'live.sqlite');
  const db = new DatabaseSync(live);
  db.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)');
  for (let n = 0; n < 5; n++) db.prepare('INSERT INTO t VALUES (?, ?)').run(n, 'x'.repeat(500));
  for (const suffix of ['', '-wal']) await copyFile(live + suffix, database + suffix);
  db.close();
  wal = await readFile(`${database}-wal`);
});
afterEach(() => rm(directory, { recursive: true }));

async function flip(at: number): Promise<void> {
  const bytes = Buffer.from(wal);
  bytes[at] = (bytes[at] ?? 0) ^ 16;
  await writeFile(`${database}-wal`, bytes);
}

const kept = () => {
  const db = new DatabaseSync(database);
  const count = Number(db.prepare('SELECT count(*) AS count FROM t').get()?.['count']);
  db.close();
  return count;
};

/** Without its first commit there is no table. */
const keptAtMost = () => {
  try {
    return kept();
  } catch {
    return 0;
  }
};

test('a log that is whole, absent or empty is none', async () => {
  checkWal(database);
  expect(kept()).toBe(5);
  checkWal(path.join(directory, 'nothing'));
  await writeFile(`${database}-wal`, '');
  checkWal(database);
});

describe('a log is damaged', () => {
  test.each([
    ['in its header', 17],
    ['in the sums of its header', 25],
    ['in a frame', 32 + 2 * frame + 3000],
    ['in what makes a frame one of this log', 32 + 2 * frame + 9],
    ['in what makes a frame the end of a commit', 32 + 3 * frame + 7],
  ])('%s, of which SQLite says nothing', async (_, at) => {
    await flip(at);
    expect(() => checkWal(database)).toThrow(/damaged/);
    expect(keptAtMost()).toBeLessThan(5);
  });
});

test('what a power cut leaves of the last commit is no damage', async () => {
  await flip(wal.length - 100);
  checkWal(database);
  const handle = await open(`${database}-wal`, 'r+');
  await handle.truncate(wal.length - 2000);
  await handle.close();
  checkWal(database);
  expect(kept()).toBe(4);
});

test('a log that was begun anew over a longer one is no damage', async () => {
  const live = path.join(directory, 'again.sqlite');
  const db = new DatabaseSync(live);
  db.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)');
  for (let n = 0; n < 40; n++) db.prepare('INSERT INTO t VALUES (?, ?)').run(n, 'x'.repeat(500));
  db.exec('PRAGMA wal_checkpoint(RESTART)');
  db.prepare('INSERT INTO t VALUES (?, ?)').run(99, 'y');
  expect(() => checkWal(live)).not.toThrow();
  db.close();
});
