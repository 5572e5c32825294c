import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openLocalStore } from '../../src/stores/local.ts';
import { rowOf, type Store } from '../../src/stores/store.ts';
import { bytes, codeOf, collect, failure, text } from './outcomes.ts';

const log = 'sessions/inbox/main/one.jsonl';
let data: string;
let store: Store;

beforeEach(async () => {
  data = await mkdtemp(path.join(tmpdir(), 'nexus-rot-'));
  store = await openLocalStore(data);
});
afterEach(async () => {
  await store.close();
  await rm(data, { recursive: true });
});

const fileOf = (name: string) => path.join(data, 'blobs', ...name.split('/'));
const row = (id: string) => ({ partition: 'main', id, said: `of ${id}` });

/** Changes the database behind the store's back. */
function sql(...statements: string[]): void {
  const db = new DatabaseSync(path.join(data, 'store.sqlite'), { defensive: false });
  for (const statement of statements) db.exec(statement);
  db.close();
}

async function change(name: string): Promise<void> {
  const file = await readFile(fileOf(name));
  file[1] = (file[1] ?? 0) ^ 4;
  await writeFile(fileOf(name), file);
}

const damage = async () => (await collect(store.damage())).map(({ item }) => item);

describe('a row that rotted', () => {
  beforeEach(async () => {
    for (const id of ['a', 'b', 'c']) await store.insert('Sessions', row(id));
    sql("UPDATE rows SET json = replace(json, 'of b', 'of d')");
  });

  test('is corrupt, and named with its table and key', async () => {
    const error = await failure(rowOf(store, 'Sessions', 'main', 'b'));
    expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining('main/b of Sessions') });
    expect(await codeOf(collect(store.rows('Sessions', 'main')))).toBe('corrupt');
    expect(await damage()).toEqual(['Sessions main/b']);
  });

  test('is told to who can do without it, before the one behind it', async () => {
    const seen: string[] = [];
    for await (const { id } of store.rows('Sessions', 'main', {}, (rotted) => seen.push(`rotted ${rotted}`)))
      seen.push(id);
    expect(seen).toEqual(['a', 'rotted b', 'c']);
  });

  test('is sound again when it is written again', async () => {
    await store.put('Sessions', row('b'));
    expect(await rowOf(store, 'Sessions', 'main', 'b')).toEqual(row('b'));
    expect(await damage()).toEqual([]);
  });
});

test('a row that is found under another key is not what was stored', async () => {
  await store.insert('Sessions', row('a'));
  sql("UPDATE rows SET id = 'b'");
  expect(await codeOf(rowOf(store, 'Sessions', 'main', 'b'))).toBe('corrupt');
});

test('a row that lost its sum is not what was stored', async () => {
  await store.insert('Sessions', row('a'));
  sql('UPDATE rows SET sum = NULL');
  expect(await codeOf(rowOf(store, 'Sessions', 'main', 'a'))).toBe('corrupt');
});

describe('a blob that rotted', () => {
  beforeEach(async () => {
    await store.append(log, 0, bytes('abc'));
    await store.append(log, 3, bytes('defghi'));
  });

  test('is not given out to its end, and named', async () => {
    await change(log);
    expect(await codeOf(collect(store.open(log)))).toBe('corrupt');
    expect(await codeOf(collect(store.open(log, 0, 9)))).toBe('corrupt');
    expect(await damage()).toEqual([log]);
  });

  test('is not given out in parts either, were it read before or not', async () => {
    expect(await text(store.open(log, 5, 8))).toBe('fgh');
    await change(log);
    for (const [from, to] of [
      [5, 8],
      [0, 3],
      [3, 9],
      [8, undefined],
    ] as const)
      expect(await codeOf(collect(store.open(log, from, to)))).toBe('corrupt');
    await store.append(log, 9, bytes('jkl'));
    expect(await codeOf(collect(store.open(log, 9)))).toBe('corrupt');
    await store.close();
    store = await openLocalStore(data);
    expect(await codeOf(collect(store.open(log, 10)))).toBe('corrupt');
  });

  test('is known by its sum whatever was appended since', async () => {
    await change(log);
    await store.append(log, 9, bytes('jkl'));
    expect(await codeOf(collect(store.open(log)))).toBe('corrupt');
  });

  test('of which the length rotted is corrupt, and left out of the others', async () => {
    await store.append('sessions/inbox/main/two.jsonl', 0, bytes('x'));
    sql(`UPDATE blobs SET length = 5 WHERE name = '${log}'`);
    // The trigger takes it for an older release's work: in a database of this one, that is rot too.
    expect(await codeOf(store.stat(log))).toBe('corrupt');
    const rotted: string[] = [];
    const names = (await collect(store.list('sessions/', (name) => rotted.push(name)))).map(
      ({ name }) => name,
    );
    expect([names, rotted]).toEqual([['sessions/inbox/main/two.jsonl'], [log]]);
  });

  test('of which the name rotted is not absent, and its bytes are not overwritten', async () => {
    sql(`UPDATE blobs SET name = 'sessions/inbox/main/onf.jsonl' WHERE name = '${log}'`);
    expect(await codeOf(store.stat(log))).toBe('corrupt');
    expect(await codeOf(store.append(log, 0, bytes('other')))).toBe('corrupt');
    expect((await readFile(fileOf(log))).toString()).toBe('abcdefghi');
  });
});

test('parts of a large blob are what was stored, also where it grew or was made anew, and the spans that rotted are not', async () => {
  const grown = randomBytes(11 * 1024 * 1024 + 7);
  const half = 5 * 1024 * 1024 + 1;
  await store.append(log, 0, grown.subarray(0, half));
  const part = async (from: number, to: number): Promise<Buffer> =>
    Buffer.concat(await collect(store.open(log, from, to)));
  const span = 4 * 1024 * 1024;
  expect(await part(span - 3, span + 3)).toEqual(grown.subarray(span - 3, span + 3));
  await store.append(log, half, grown.subarray(half));
  for (const [from, to] of [
    [half - 2, half + 2],
    [span, 2 * span],
    [1, grown.length],
    [2 * span + 5, grown.length],
    [0, grown.length - 1],
  ] as const)
    expect((await part(from, to)).equals(grown.subarray(from, to))).toBe(true);
  const file = await open(fileOf(log), 'r+');
  await file.write(Buffer.from([(grown[span + 9] ?? 0) ^ 1]), 0, 1, span + 9);
  await file.close();
  expect(await codeOf(part(span + 100, span + 200))).toBe('corrupt');
  // What was found whole before and lies elsewhere is what was stored.
  expect(await part(2 * span, 2 * span + 4)).toEqual(grown.subarray(2 * span, 2 * span + 4));

  await store.remove(log);
  const anew = randomBytes(12 * 1024 * 1024);
  await store.append(log, 0, anew.subarray(0, 10 * 1024 * 1024));
  await store.append(log, 10 * 1024 * 1024, anew.subarray(10 * 1024 * 1024));
  expect((await part(span, anew.length)).equals(anew.subarray(span))).toBe(true);
});

test('a look is ended by its signal wherever it is', async () => {
  for (const id of ['a', 'b']) await store.insert('Sessions', row(id));
  await store.append(log, 0, bytes('abc'));
  sql("UPDATE rows SET sum = 1 WHERE id = 'a'");
  const reason = new Error('enough');
  const stopped = async (afterMs: number | 'the first'): Promise<void> => {
    const stop = new AbortController();
    const look = store.damage(stop.signal)[Symbol.asyncIterator]();
    if (afterMs === 'the first') await look.next();
    const next = look.next();
    if (typeof afterMs === 'number') await sleep(afterMs);
    stop.abort(reason);
    await expect(next).rejects.toBe(reason);
  };
  await stopped(0);
  // While SQLite looks through its file in a thread.
  await stopped(2);
  await stopped('the first');
});

describe('a store of the version before', () => {
  /** Of that release, which has the store open all the while. */
  let older: DatabaseSync;
  const addRow = (id: string) =>
    older
      .prepare('INSERT INTO rows (tbl, partition, id, json) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING')
      .run('Sessions', 'main', id, '{}');
  const addBlob = (name: string) =>
    older.prepare('INSERT INTO blobs (name, length) VALUES (?, ?) ON CONFLICT DO NOTHING').run(name, 0);
  const setLength = (length: number) =>
    older.prepare('UPDATE blobs SET length = ? WHERE name = ?').run(length, log);
  async function openAgain(): Promise<void> {
    await store.close();
    store = await openLocalStore(data);
  }

  beforeEach(async () => {
    await store.insert('Sessions', row('a'));
    await store.append(log, 0, bytes('abc'));
    await store.close();
    sql(
      'DROP TRIGGER length_without_sum',
      'ALTER TABLE rows DROP COLUMN sum',
      'ALTER TABLE blobs DROP COLUMN sum',
      'ALTER TABLE blobs DROP COLUMN crc',
      "DELETE FROM facts WHERE name = 'sums'",
      'PRAGMA user_version = 1',
    );
    older = new DatabaseSync(path.join(data, 'store.sqlite'));
    store = await openLocalStore(data);
  });
  afterEach(() => older.close());

  test('goes on, and so does the older release that has it open', async () => {
    expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a'));
    expect(await text(store.open(log))).toBe('abc');
    expect(await damage()).toEqual([]);
    addRow('b');
    setLength(3);
    await openAgain();
    expect(await rowOf(store, 'Sessions', 'main', 'b')).toEqual({ partition: 'main', id: 'b' });
    expect(await store.append(log, 3, bytes('def'))).toBe(6);
    expect(await damage()).toEqual([]);
  });

  test('keeps a sum that another length has by chance', async () => {
    await damage();
    older.prepare('UPDATE blobs SET length = 4, crc = 1 WHERE name = ?').run(log);
    expect(older.prepare('SELECT sum FROM blobs').get()?.['sum']).not.toBeNull();
    older.prepare('UPDATE blobs SET length = 5 WHERE name = ?').run(log);
    expect(older.prepare('SELECT sum FROM blobs').get()?.['sum']).toBeNull();
  });

  test('has its sums after it was looked through twice', async () => {
    expect(await damage()).toEqual([]);
    await change(log);
    expect(await codeOf(collect(store.open(log)))).toBe('corrupt');
    await change(log);
    sql("UPDATE rows SET sum = NULL WHERE id = 'a'");
    expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a'));
    expect(await damage()).toEqual([]);
    await openAgain();
    sql("UPDATE rows SET sum = NULL WHERE id = 'a'");
    expect(await codeOf(rowOf(store, 'Sessions', 'main', 'a'))).toBe('corrupt');
  });

  test('has not all of its sums where something kept them from being seen', async () => {
    sql(
      'PRAGMA writable_schema = ON',
      "UPDATE sqlite_master SET sql = replace(sql, 'json TEXT NOT NULL', 'json TEXT') WHERE name = 'rows'",
    );
    sql("INSERT INTO rows (tbl, partition, id) VALUES ('Sessions', 'main', 'none')");
    sql(
      'PRAGMA writable_schema = ON',
      "UPDATE sqlite_master SET sql = replace(sql, 'json TEXT', 'json TEXT NOT NULL') WHERE name = 'rows'",
    );
    await openAgain();
    for (const _ of ['once', 'twice']) expect(await damage()).toEqual(['store.sqlite', 'Sessions main/none']);
    await openAgain();
    sql("UPDATE rows SET sum = NULL WHERE id = 'a'");
    expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a'));
  });

  test('refuses what an older release would have taken for stored when all have their sums', async () => {
    expect(await damage()).toEqual([]);
    expect(await damage()).toEqual([]);
    const again = /newer nexus keeps sums/;
    expect(() => addRow('b')).toThrow(again);
    expect(() => addBlob('sessions/inbox/main/two.jsonl')).toThrow(again);
    expect(() => setLength(2)).toThrow(again);
    await openAgain();
    expect(await store.append(log, 3, bytes('def'))).toBe(6);
    await store.append('sessions/inbox/main/two.jsonl', 0, bytes('x'));
    await store.insert('Sessions', row('b'));
    await store.put('Sessions', row('a'));
    expect(await damage()).toEqual([]);
  });
});

test('a store whose schema rotted is damaged, and is closed again', async () => {
  await store.close();
  sql('ALTER TABLE rows RENAME COLUMN json TO jsoo');
  expect(await codeOf(openLocalStore(data))).toBe('corrupt');
  sql('ALTER TABLE rows RENAME COLUMN jsoo TO json');
  store = await openLocalStore(data);
  expect(await damage()).toEqual([]);
});
