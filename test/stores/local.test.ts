import { mkdirSync } from 'node:fs';
import {
  appendFile,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { acquireLock } from '../../src/processlock.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { describeStore } from './contract.ts';
import { bytes, codeOf, collect, failure, text } from './outcomes.ts';

describeStore('local', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'nexus-store-'));
  const store = await openLocalStore(join(directory, 'data'));
  const opened = [store];
  return {
    store,
    async reopen() {
      const again = await openLocalStore(join(directory, 'data'));
      opened.push(again);
      return again;
    },
    async cleanup() {
      await Promise.all(opened.map((store) => store.close()));
      await rm(directory, { recursive: true });
    },
  };
});

describe('the local store on its disk', () => {
  const log = 'sessions/inbox/main/one.jsonl';
  let base: string;
  let data: string;
  let file: string;
  const opened: Store[] = [];

  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'nexus-store-'));
    data = join(base, 'deep', 'data');
    file = join(data, 'blobs', ...log.split('/'));
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
    await rm(base, { recursive: true });
  });

  async function open(directory = data, waitMs = 10_000): Promise<Store> {
    const store = await openLocalStore(directory, { waitMs });
    opened.push(store);
    return store;
  }

  describe('a blob', () => {
    test('is a plain file with its bytes', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      expect(await readFile(file, 'utf8')).toBe('abc');
    });

    test('hides the bytes of a torn append', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await appendFile(file, 'torn');
      expect(await text(store.open(log))).toBe('abc');
      expect(await store.stat(log)).toEqual({ name: log, length: 3 });
      expect(await collect(store.list('sessions/'))).toEqual([{ name: log, length: 3 }]);
    });

    test('loses the bytes of a torn append with the next one', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await appendFile(file, 'torn and longer');
      await store.append(log, 3, bytes('de'));
      expect(await readFile(file, 'utf8')).toBe('abcde');
    });

    test('begins anew over what a torn first append left', async () => {
      const store = await open();
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, 'torn and longer');
      expect(await store.stat(log)).toBeUndefined();
      expect(await codeOf(text(store.open(log)))).toBe('not_found');
      await store.append(log, 0, bytes('abc'));
      expect(await readFile(file, 'utf8')).toBe('abc');
    });

    test('shorter than what was stored is corrupt for every method', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await truncate(file, 2);
      expect(await codeOf(text(store.open(log)))).toBe('corrupt');
      expect(await codeOf(store.stat(log))).toBe('corrupt');
      expect(await codeOf(store.append(log, 3, bytes('d')))).toBe('corrupt');
    });

    test('whose file is gone is corrupt, not absent', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await rm(file);
      expect(await codeOf(text(store.open(log)))).toBe('corrupt');
      expect(await codeOf(store.stat(log))).toBe('corrupt');
      expect(await codeOf(store.append(log, 3, bytes('d')))).toBe('corrupt');
      expect(await codeOf(store.append(log, 0, bytes('d')))).toBe('conflict');
    });

    test('leaves no file when it is removed', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await store.remove(log);
      expect(await readdir(dirname(file))).toEqual([]);
    });

    test('is read to its end although it is removed and made anew meanwhile', async () => {
      const store = await open();
      await store.append(log, 0, Buffer.alloc(3 * 1024 * 1024, 'a'));
      const pieces: Uint8Array[] = [];
      for await (const piece of store.open(log)) {
        if (pieces.length === 0) {
          await store.remove(log);
          await store.append(log, 0, bytes('b'));
        }
        pieces.push(piece);
      }
      expect(Buffer.concat(pieces).equals(Buffer.alloc(3 * 1024 * 1024, 'a'))).toBe(true);
    });

    test('is read to its end although a remove that was killed left its file to another', async () => {
      const store = await open();
      await store.append(log, 0, Buffer.alloc(3 * 1024 * 1024, 'a'));
      const pieces: Uint8Array[] = [];
      for await (const piece of store.open(log)) {
        if (pieces.length === 0) {
          const sqlite = new DatabaseSync(join(data, 'store.sqlite'));
          sqlite.exec('DELETE FROM blobs');
          sqlite.close();
          await store.append(log, 0, bytes('b'));
        }
        pieces.push(piece);
      }
      expect(Buffer.concat(pieces).equals(Buffer.alloc(3 * 1024 * 1024, 'a'))).toBe(true);
      expect(await text(store.open(log))).toBe('b');
    });

    test('comes in pieces of at most 1 MiB that stay as they are', async () => {
      const store = await open();
      const body = Buffer.alloc(2.5 * 1024 * 1024, 'abcdefg');
      await store.append(log, 0, body);
      const pieces = await collect(store.open(log));
      expect(pieces.map((piece) => piece.length)).toEqual([1048576, 1048576, 524288]);
      expect(Buffer.concat(pieces).equals(body)).toBe(true);
    });

    test('is written again where somebody removed its directory', async () => {
      const store = await open();
      await store.append(log, 0, bytes('abc'));
      await store.remove(log);
      await rm(join(data, 'blobs', 'sessions'), { recursive: true });
      await store.append(log, 0, bytes('abc'));
      expect(await text(store.open(log))).toBe('abc');
    });

    test('whose name lies inside another blob is refused', async () => {
      const store = await open();
      await store.create('payloads/a', bytes('x'));
      expect(await codeOf(store.create('payloads/a/b', bytes('x')))).toBe('invalid');
      await store.create('payloads/c/d', bytes('x'));
      expect(await codeOf(store.create('payloads/c', bytes('x')))).toBe('invalid');
      expect(await text(store.open('payloads/c/d'))).toBe('x');
    });

    test('being written by another process makes a writer wait and then say that it is busy', async () => {
      const store = await open(data, 50);
      await store.append(log, 0, bytes('abc'));
      const locks = (await readdir(join(data, 'locks'))).map((name) => join(data, 'locks', name));
      const held = await acquireLock(locks[0] ?? '', { waitMs: 0 });
      expect(await codeOf(store.append(log, 3, bytes('d')))).toBe('busy');
      expect(await text(store.open(log))).toBe('abc');
      await held?.release();
      expect(await store.append(log, 3, bytes('d'))).toBe(4);
    });
  });

  test('leaves nothing in its locks and no journal beside them', async () => {
    const store = await open();
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.append(`sessions/inbox/main/${i}.jsonl`, 0, bytes('x'))),
    );
    const names = await readdir(join(data, 'locks'));
    expect(names.length).toBeGreaterThan(1);
    for (const name of names) {
      expect(name).toMatch(/^\d\d\.sqlite$/);
      expect((await stat(join(data, 'locks', name))).size).toBe(0);
    }
  });

  test('lists and counts more blobs than a page', async () => {
    const store = await open();
    const names = Array.from(
      { length: 1100 },
      (_, i) => `sessions/inbox/main/${String(i).padStart(4, '0')}.jsonl`,
    );
    for (let i = 0; i < names.length; i += 50)
      await Promise.all(names.slice(i, i + 50).map((name) => store.append(name, 0, bytes('x'))));
    expect((await collect(store.list('sessions/inbox/main/'))).map((blob) => blob.name)).toEqual(names);
  });

  test('makes directories 700 and files 600 whatever the umask', async () => {
    for (const umask of [0o000, 0o777]) {
      const directory = join(base, `umask-${umask}`);
      mkdirSync(directory);
      const before = process.umask(umask);
      try {
        const store = await open(join(directory, 'data'));
        await store.append(log, 0, bytes('abc'));
        await store.insert('Sessions', { partition: 'main', id: 'a' });
      } finally {
        process.umask(before);
      }
      const modes = await modesBelow(directory);
      expect(modes.directories).toEqual(['700']);
      expect(modes.files).toEqual(['600']);
    }
  });

  test.skipIf(process.getuid?.() !== 0)('of another user is refused, even to root', async () => {
    await (await open()).close();
    await chown(data, 12345, 12345);
    const error = await failure(openLocalStore(data));
    expect(error.code).toBe('forbidden');
    expect(error.message).toContain('12345');
    expect(error.hint).toContain('endpoint');
  });

  test('where a file lies is refused', async () => {
    await writeFile(join(base, 'file'), '');
    expect(await codeOf(openLocalStore(join(base, 'file')))).toBe('config');
    expect(await codeOf(openLocalStore(join(base, 'file', 'data')))).toBe('config');
  });

  describe('its id', () => {
    test('stays when it is opened again, also after it was moved', async () => {
      const store = await open();
      const id = await store.id();
      await store.close();
      expect(await (await open()).id()).toBe(id);
      await Promise.all(opened.splice(0).map((one) => one.close()));
      await rename(data, join(base, 'moved'));
      expect(await (await open(join(base, 'moved'))).id()).toBe(id);
    });

    test('is another in a copy, which keeps its own from then on', async () => {
      const store = await open();
      const id = await store.id();
      await store.close();
      await cp(data, join(base, 'copy'), { recursive: true, preserveTimestamps: true });
      const copied = await (await open(join(base, 'copy'))).id();
      expect(copied).not.toBe(id);
      expect(await (await open(join(base, 'copy'))).id()).toBe(copied);
      expect(await (await open()).id()).toBe(id);
    });

    test('is one for many who open an absent store at once', async () => {
      const stores = await Promise.all(Array.from({ length: 6 }, () => open()));
      expect(new Set(await Promise.all(stores.map((store) => store.id()))).size).toBe(1);
    });
  });

  test('that was replaced under an open store takes nothing more', async () => {
    const store = await open();
    await store.append(log, 0, bytes('abc'));
    await rename(data, join(base, 'old'));
    await open();
    expect(await codeOf(store.put('Sessions', { partition: 'main', id: 'a' }))).toBe('unavailable');
    expect(await codeOf(store.append('sessions/inbox/main/two.jsonl', 0, bytes('x')))).toBe('unavailable');
    expect(await codeOf(store.id())).toBe('unavailable');
  });

  test('made by a newer version is refused, naming both', async () => {
    await (await open()).close();
    const sqlite = new DatabaseSync(join(data, 'store.sqlite'));
    sqlite.exec('PRAGMA user_version = 7');
    sqlite.close();
    const error = await failure(openLocalStore(data));
    expect(error.code).toBe('config');
    expect(error.message).toMatch(/version 7.*up to 2/);
  });

  test('whose database is damaged is corrupt', async () => {
    await mkdir(data, { recursive: true });
    await writeFile(
      join(data, 'store.sqlite'),
      'this is no database, and it is long enough to tell '.repeat(20),
    );
    expect(await codeOf(openLocalStore(data))).toBe('corrupt');
  });

  test('refuses numbers that JSON cannot hold', async () => {
    const store = await open();
    for (const n of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(await codeOf(store.put('Sessions', { partition: 'main', id: 'a', n }))).toBe('invalid');
  });

  test('is unavailable once it is closed', async () => {
    const store = await open();
    await store.close();
    expect(await codeOf(store.append(log, 0, bytes('x')))).toBe('unavailable');
    expect(await codeOf(store.insert('Sessions', { partition: 'main', id: 'a' }))).toBe('unavailable');
    expect(await codeOf(collect(store.rows('Sessions', 'main')))).toBe('unavailable');
    expect(await codeOf(text(store.open(log)))).toBe('unavailable');
  });

  test('gives others their turn while many rows are read', async () => {
    const store = await open();
    await store.insertAll(
      Array.from({ length: 1500 }, (_, n) => ({
        table: 'History',
        row: { partition: 'main', id: `r${String(n).padStart(4, '0')}` },
      })),
    );
    let turns = 0;
    const count = () => {
      turns++;
      next = setImmediate(count);
    };
    let next = setImmediate(count);
    const rows = await collect(store.rows('History', 'main'));
    clearImmediate(next);
    expect(rows).toHaveLength(1500);
    expect(turns).toBeGreaterThanOrEqual(2);
  });

  test('waits for another process that writes rows, and then says that it is unavailable', async () => {
    const store = await open(data, 500);
    const other = new DatabaseSync(join(data, 'store.sqlite'));
    other.exec('BEGIN IMMEDIATE');
    expect(await codeOf(store.insert('Sessions', { partition: 'main', id: 'a' }))).toBe('unavailable');
    const waiting = store.insert('Sessions', { partition: 'main', id: 'b' });
    setTimeout(() => other.exec('ROLLBACK'), 20);
    await waiting;
    other.close();
  });
});

async function modesBelow(directory: string): Promise<{ directories: string[]; files: string[] }> {
  const directories = new Set<string>();
  const files = new Set<string>();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const mode = ((await stat(join(entry.parentPath, entry.name))).mode & 0o777).toString(8);
    (entry.isDirectory() ? directories : files).add(mode);
  }
  return { directories: [...directories], files: [...files] };
}
