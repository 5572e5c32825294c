import * as fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { maxBodyBytes, type Store } from '../../src/stores/store.ts';
import type { OpenedStore } from './contract.ts';
import { bytes, codeOf, collect, failure, read, text, winners } from './outcomes.ts';

const log = 'sessions/inbox/main/one.jsonl';
const whole = 'payloads/main/one.json';

/** The part of the contract that is about bytes by name. */
export function describeBlobs(current: () => OpenedStore): void {
  let opened: OpenedStore;
  let store: Store;
  beforeEach(() => {
    opened = current();
    store = opened.store;
  });

  describe('create', () => {
    test('stores a blob that can be read back', async () => {
      await store.create(whole, bytes('hello'));
      expect(await text(store.open(whole))).toBe('hello');
      expect(await store.stat(whole)).toEqual({ name: whole, length: 5 });
    });

    test('refuses a second blob of that name and leaves the first', async () => {
      await store.create(whole, bytes('first'));
      expect(await codeOf(store.create(whole, bytes('second')))).toBe('conflict');
      expect(await text(store.open(whole))).toBe('first');
    });

    test('lets exactly one of many racers win', async () => {
      const other = await opened.reopen();
      const races = Array.from({ length: 12 }, (_, i) =>
        (i % 2 ? store : other).create(whole, bytes(`racer ${i}`)),
      );
      const won = await winners(races);
      expect(won).toHaveLength(1);
      expect(await text(store.open(whole))).toBe(`racer ${won[0]}`);
    });

    test('stores a blob without bytes', async () => {
      await store.create(whole, bytes(''));
      expect(await store.stat(whole)).toEqual({ name: whole, length: 0 });
      expect(await text(store.open(whole))).toBe('');
      expect(await codeOf(store.create(whole, bytes('late')))).toBe('conflict');
    });

    test('refuses names that grow by append, there or not', async () => {
      expect(await codeOf(store.create(log, bytes('b')))).toBe('invalid');
      await store.append(log, 0, bytes('a'));
      expect(await codeOf(store.create(log, bytes('b')))).toBe('invalid');
      expect(await text(store.open(log))).toBe('a');
    });

    test('refuses more bytes than a store takes at once', async () => {
      expect(await codeOf(store.create(whole, new Uint8Array(maxBodyBytes + 1)))).toBe('too_large');
      expect(await store.stat(whole)).toBeUndefined();
    });
  });

  describe('append', () => {
    test('begins an absent blob at 0 and answers the new length', async () => {
      expect(await store.append(log, 0, bytes('abc'))).toBe(3);
      expect(await store.append(log, 3, bytes('de'))).toBe(5);
      expect(await text(store.open(log))).toBe('abcde');
    });

    test('refuses any other offset with the true length', async () => {
      expect(await failure(store.append(log, 3, bytes('x')))).toMatchObject({
        code: 'conflict',
        length: 0,
      });
      expect(await store.stat(log)).toBeUndefined();
      await store.append(log, 0, bytes('abc'));
      for (const offset of [0, 2, 4, -1])
        expect(await failure(store.append(log, offset, bytes('x')))).toMatchObject({
          length: 3,
        });
      expect(await text(store.open(log))).toBe('abc');
    });

    test('lets the sender of a lost answer recognise that its bytes arrived', async () => {
      await store.append(log, 0, bytes('abc'));
      const repeat = await failure(store.append(log, 0, bytes('abc')));
      expect(repeat.code).toBe('conflict');
      expect(repeat.length).toBe(3);
    });

    test('of no bytes stores nothing and only checks the offset', async () => {
      expect(await store.append(log, 0, bytes(''))).toBe(0);
      expect(await store.stat(log)).toBeUndefined();
      expect(await codeOf(text(store.open(log)))).toBe('not_found');
      await store.append(log, 0, bytes('abc'));
      expect(await store.append(log, 3, bytes(''))).toBe(3);
      expect(await failure(store.append(log, 0, bytes('')))).toMatchObject({ code: 'conflict', length: 3 });
    });

    test('refuses names of blobs that are created whole', async () => {
      expect(await codeOf(store.append(whole, 0, bytes('a')))).toBe('invalid');
      await store.create(whole, bytes('abc'));
      expect(await codeOf(store.append(whole, 3, bytes('d')))).toBe('invalid');
      expect(await text(store.open(whole))).toBe('abc');
    });

    test('stores 10 MiB at once, and refuses more bytes than a store takes', async () => {
      const chunk = Buffer.alloc(10 * 1024 * 1024, '0123456789abcde\n');
      expect(await store.append(log, 0, chunk)).toBe(chunk.length);
      expect((await read(store.open(log))).equals(chunk)).toBe(true);
      expect(await codeOf(store.append(log, chunk.length, new Uint8Array(maxBodyBytes + 1)))).toBe(
        'too_large',
      );
      expect(await store.stat(log)).toEqual({ name: log, length: chunk.length });
    });

    test('lets exactly one of many racers begin a blob', async () => {
      const other = await opened.reopen();
      const races = Array.from({ length: 12 }, (_, i) =>
        (i % 2 ? store : other).append(log, 0, bytes(`r ${i}`)),
      );
      const won = await winners(races);
      expect(won).toHaveLength(1);
      expect(await text(store.open(log))).toBe(`r ${won[0]}`);
    });

    test('lets exactly one of many racers win a place', async () => {
      await store.append(log, 0, bytes('head '));
      const other = await opened.reopen();
      const races = Array.from({ length: 12 }, (_, i) =>
        (i % 2 ? store : other).append(log, 5, bytes(`tail ${i}`)),
      );
      const won = await winners(races);
      expect(won).toHaveLength(1);
      expect(await text(store.open(log))).toBe(`head tail ${won[0]}`);
    });

    test('keeps many blobs apart that grow at once', async () => {
      const names = Array.from({ length: 20 }, (_, i) => `sessions/inbox/agent-${i % 3}/t${i}.jsonl`);
      await Promise.all(
        names.map(async (name, i) => {
          for (let n = 0; n < 3; n++) await store.append(name, n * 4, bytes(`${i}:${n}`.padEnd(4)));
        }),
      );
      for (const [i, name] of names.entries())
        expect(await text(store.open(name))).toBe([0, 1, 2].map((n) => `${i}:${n}`.padEnd(4)).join(''));
    });

    test('in any pieces stores the same bytes', async () => {
      let n = 0;
      await fc.assert(
        fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), async (pieces) => {
          const name = `sessions/inbox/main/p${n++}.jsonl`;
          let length = 0;
          for (const piece of pieces) length = await store.append(name, length, piece);
          const all = Buffer.concat(pieces);
          expect(length).toBe(all.length);
          const stored = all.length === 0 ? Buffer.alloc(0) : await read(store.open(name));
          expect(stored).toEqual(all);
        }),
        { numRuns: 20 },
      );
    });
  });

  describe('open', () => {
    test('gives every byte back as it was', async () => {
      const body = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7 + (i >> 8)) % 256);
      await store.append(log, 0, body);
      expect(await read(store.open(log))).toEqual(Buffer.from(body));
    });

    test('reads from one byte up to, not including, another', async () => {
      await store.append(log, 0, bytes('0123456789'));
      expect(await text(store.open(log, 4))).toBe('456789');
      expect(await text(store.open(log, 0, 4))).toBe('0123');
      expect(await text(store.open(log, 4, 5))).toBe('4');
      expect(await text(store.open(log, 4, 4))).toBe('');
      expect(await text(store.open(log, 8, 99))).toBe('89');
      expect(await text(store.open(log, 10))).toBe('');
    });

    test('refuses to begin beyond the end, with the true length', async () => {
      await store.append(log, 0, bytes('0123456789'));
      expect(await failure(text(store.open(log, 11)))).toMatchObject({ code: 'range', length: 10 });
    });

    test('says that an absent blob is not found', async () => {
      expect(await codeOf(text(store.open(log)))).toBe('not_found');
    });

    test('reads a blob of many pieces from any place', async () => {
      const chunk = Buffer.from(Array.from({ length: 9_000_000 }, (_, i) => (i * 31 + (i >> 9)) % 256));
      await store.append(log, 0, chunk);
      expect((await read(store.open(log))).equals(chunk)).toBe(true);
      const part = await read(store.open(log, 4_194_303, 8_388_610));
      expect(part.equals(chunk.subarray(4_194_303, 8_388_610))).toBe(true);
    });

    test('refuses to begin before the first byte or between two', async () => {
      await store.append(log, 0, bytes('0123456789'));
      for (const from of [-1, 0.5])
        expect(await failure(text(store.open(log, from)))).toMatchObject({ code: 'range', length: 10 });
    });

    test('is not disturbed by bytes that arrive meanwhile', async () => {
      await store.append(log, 0, bytes('before'));
      const pieces: Uint8Array[] = [];
      for await (const piece of store.open(log)) {
        if (pieces.length === 0) await store.append(log, 6, bytes(' after'));
        pieces.push(piece);
      }
      expect(Buffer.concat(pieces).toString()).toBe('before');
    });
  });

  describe('list', () => {
    test('gives the blobs below a prefix in ascending order with their lengths', async () => {
      for (const [i, id] of ['b', 'a', 'B', 'a~2', 'a-1', 'a.b', 'a_'].entries())
        await store.append(`sessions/inbox/main/${id}.jsonl`, 0, bytes('x'.repeat(i + 1)));
      await store.append('sessions/inbox/main2/z.jsonl', 0, bytes('z'));
      const found = await collect(store.list('sessions/inbox/main/'));
      const names = ['B', 'a-1', 'a.b', 'a', 'a_', 'a~2', 'b'].map((id) => `sessions/inbox/main/${id}.jsonl`);
      expect(found.map((blob) => blob.name)).toEqual(names.sort());
      expect(found.find((blob) => blob.name.endsWith('/a~2.jsonl'))?.length).toBe(4);
    });

    test('takes a prefix that ends within a name', async () => {
      await store.append('sessions/inbox/main/abc.jsonl', 0, bytes('x'));
      await store.append('sessions/inbox/main/abd.jsonl', 0, bytes('x'));
      await store.append('sessions/inbox/main/acd.jsonl', 0, bytes('x'));
      expect(await collect(store.list('sessions/inbox/main/ab'))).toHaveLength(2);
      expect(await collect(store.list('sessions/'))).toHaveLength(3);
    });

    test('refuses a prefix that names no container', async () => {
      for (const bad of ['', 'sessions', '/', 'Sess/', '../x'])
        expect(await codeOf(collect(store.list(bad)))).toBe('invalid');
    });

    test('of a prefix that nothing has is empty', async () => {
      expect(await collect(store.list('sessions/inbox/nobody/'))).toEqual([]);
    });
  });

  describe('remove', () => {
    test('makes a blob absent', async () => {
      await store.append(log, 0, bytes('abc'));
      await store.remove(log);
      expect(await store.stat(log)).toBeUndefined();
      expect(await codeOf(text(store.open(log)))).toBe('not_found');
      expect(await collect(store.list('sessions/'))).toEqual([]);
    });

    test('of an absent blob is fine', async () => {
      await store.remove(log);
      await store.remove(log);
      expect(await store.stat(log)).toBeUndefined();
    });

    test('leaves the name free for another blob', async () => {
      await store.create(whole, bytes('first and longer'));
      await store.remove(whole);
      await store.create(whole, bytes('second'));
      expect(await text(store.open(whole))).toBe('second');
      await store.append(log, 0, bytes('abc'));
      await store.remove(log);
      expect(await store.append(log, 0, bytes('d'))).toBe(1);
    });
  });
}
