import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Store, rowOf } from '../../src/stores/store.ts';
import { describeBlobs } from './contract-blobs.ts';
import { describeRows } from './contract-rows.ts';
import { bytes, codeOf, collect, text } from './outcomes.ts';

export interface OpenedStore {
  store: Store;
  /** Another Store on the same data, as another process would open it; `store` may still be open. */
  reopen(): Promise<Store>;
  /** Closes all of them and removes the data. */
  cleanup(): Promise<void>;
}

/**
 * What every store keeps. `open` gives an empty one each time. Blobs that are appended to lie below
 * `sessions/inbox/`, those that are created whole below `payloads/`.
 */
export function describeStore(name: string, open: () => Promise<OpenedStore>): void {
  describe(`the ${name} store`, () => {
    let opened: OpenedStore;
    let store: Store;
    beforeEach(async () => {
      opened = await open();
      store = opened.store;
    });
    afterEach(async () => {
      await opened.cleanup();
    });

    const log = 'sessions/inbox/main/one.jsonl';
    const whole = 'payloads/main/one.json';

    describeBlobs(() => opened);
    describeRows(() => opened);

    describe('names', () => {
      const badNames = [
        '',
        'sessions',
        'sessions/',
        'sessions/../x',
        'sessions/.x',
        'sessions/x.',
        'sessions//x',
        'Se/x',
        'sessions/a b',
        'sessions/ä',
        'sessions/a\u0000',
        '/sessions/x',
      ];

      test('of blobs that break the grammar are refused by every method', async () => {
        for (const bad of badNames) {
          expect(await codeOf(store.create(bad, bytes('x')))).toBe('invalid');
          expect(await codeOf(store.append(bad, 0, bytes('x')))).toBe('invalid');
          expect(await codeOf(store.append(bad, 0, bytes('')))).toBe('invalid');
          expect(await codeOf(text(store.open(bad)))).toBe('invalid');
          expect(await codeOf(store.stat(bad))).toBe('invalid');
          expect(await codeOf(store.remove(bad))).toBe('invalid');
        }
      });

      test('of rows that break the grammar are refused by every method', async () => {
        for (const bad of ['', '.', '..', 'a/b', 'a b', 'ä', 'a\u0000', 'a#', 'a?', 'x'.repeat(201)]) {
          for (const row of [
            { partition: bad, id: 'a' },
            { partition: 'main', id: bad },
          ]) {
            expect(await codeOf(store.insert('Sessions', row))).toBe('invalid');
            expect(await codeOf(store.put('Sessions', row))).toBe('invalid');
          }
          expect(await codeOf(store.removeRows('Sessions', bad, ['a']))).toBe('invalid');
          expect(await codeOf(store.removeRows('Sessions', 'main', ['a', bad]))).toBe('invalid');
          expect(await codeOf(collect(store.rows('Sessions', bad)))).toBe('invalid');
        }
      });

      test('of tables that break the grammar are refused by every method', async () => {
        for (const bad of ['', 'ab', '1abc', 'a-b-c', 'rows; drop', 'x'.repeat(42)]) {
          expect(await codeOf(store.insert(bad, { partition: 'main', id: 'a' }))).toBe('invalid');
          expect(await codeOf(store.put(bad, { partition: 'main', id: 'a' }))).toBe('invalid');
          expect(await codeOf(store.removeRows(bad, 'main', ['a']))).toBe('invalid');
          expect(await codeOf(collect(store.rows(bad, 'main')))).toBe('invalid');
        }
      });

      test('as long as the grammar allows are stored', async () => {
        const long = `payloads/${Array.from({ length: 4 }, () => 'n'.repeat(200)).join('/')}`;
        await store.create(long, bytes('x'));
        expect(await text(store.open(long))).toBe('x');
        await store.insert('T'.repeat(41), { partition: 'p'.repeat(200), id: 'i'.repeat(200) });
        expect(await collect(store.rows('T'.repeat(41), 'p'.repeat(200)))).toHaveLength(1);
      });
    });

    describe('another opening of the same data', () => {
      test('finds what was acknowledged', async () => {
        await store.append(log, 0, bytes('abc'));
        await store.create(whole, bytes('whole'));
        await store.insert('Sessions', { partition: 'main', id: 'a', n: 1 });
        await store.close();
        const again = await opened.reopen();
        expect(await text(again.open(log))).toBe('abc');
        expect(await again.append(log, 3, bytes('d'))).toBe(4);
        expect(await text(again.open(whole))).toBe('whole');
        expect(await rowOf(again, 'Sessions', 'main', 'a')).toEqual({ partition: 'main', id: 'a', n: 1 });
      });

      test('sees at once what the first one does', async () => {
        const other = await opened.reopen();
        await store.append(log, 0, bytes('abc'));
        expect(await other.append(log, 3, bytes('def'))).toBe(6);
        expect(await store.stat(log)).toEqual({ name: log, length: 6 });
        await store.put('Sessions', { partition: 'main', id: 'a', n: 1 });
        expect(await rowOf(other, 'Sessions', 'main', 'a')).toMatchObject({ n: 1 });
      });

      test('has the same id', async () => {
        const id = await store.id();
        const other = await opened.reopen();
        expect(id).toMatch(/^[0-9a-f-]{36}$/);
        expect(await other.id()).toBe(id);
        expect(await store.id()).toBe(id);
      });
    });

    test('closes only after what was begun is stored', async () => {
      const append = store.append(log, 0, bytes('abc'));
      const insert = store.insert('Sessions', { partition: 'main', id: 'a' });
      await store.close();
      await store.close();
      await Promise.all([append, insert]);
      expect(await text((await opened.reopen()).open(log))).toBe('abc');
    });
  });
}
