import { beforeEach, describe, expect, test } from 'vitest';
import { type Row, type Store, maxTextUnits, rowOf } from '../../src/stores/store.ts';
import type { OpenedStore } from './contract.ts';
import { codeOf, collect, ids, winners } from './outcomes.ts';

/** The part of the contract that is about rows by key. */
export function describeRows(current: () => OpenedStore): void {
  let opened: OpenedStore;
  let store: Store;
  beforeEach(() => {
    opened = current();
    store = opened.store;
  });

  describe('rows', () => {
    const row = (id: string, fields: Record<string, string | number | boolean> = {}): Row => ({
      partition: 'main',
      id,
      ...fields,
    });

    test('keep text, numbers and booleans as they are', async () => {
      const full = row('a', {
        name: 'ünï 🦊 "q" \\ \n',
        empty: '',
        size: 9_007_199_254_740_991,
        cost: 0.1,
        yes: true,
        no: false,
      });
      await store.insert('Sessions', full);
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(full);
    });

    test('keep every finite number', async () => {
      const numbers = [0, -1, 2 ** 31, -(2 ** 53) + 1, 0.1 + 0.2, 1e21, 5e-324, Number.MAX_VALUE];
      await store.insert('Sessions', row('a', Object.fromEntries(numbers.map((n, i) => [`n${i}`, n]))));
      const stored = await rowOf(store, 'Sessions', 'main', 'a');
      expect(numbers.map((_, i) => stored?.[`n${i}`])).toEqual(numbers);
    });

    test('keep every text, also what is no proper Unicode', async () => {
      const texts = [
        '\ud800',
        'a\udfff\u0000b',
        '\u0001\u007f\u0085\u2028\ufeff\uffff',
        '\r\n\t',
        "it's",
        ' ',
        '1',
        'true',
      ];
      await store.put('Sessions', row('a', Object.fromEntries(texts.map((text, i) => [`t${i}`, text]))));
      const stored = await rowOf(store, 'Sessions', 'main', 'a');
      expect(texts.map((_, i) => stored?.[`t${i}`])).toEqual(texts);
    });

    test('keep fields whose names mean something elsewhere', async () => {
      const names = [
        'etag',
        'timestamp',
        'partitionKey',
        'rowKey',
        'type',
        'value',
        'metadata',
        'constructor',
        'ETag',
        'Etag',
        'ETAG',
        'Timestamp',
        'PartitionKey',
        'partitionkey',
        'RowKey',
        'ROWKEY',
        'Partition',
        'Id',
        'Odata',
        'odata',
      ];
      const full = row('a', Object.fromEntries(names.map((name) => [name, `${name}!`])));
      await store.insert('Sessions', full);
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(full);
      await store.put('Sessions', full);
      expect(await collect(store.rows('Sessions', 'main'))).toEqual([full]);
    });

    test('keep fields whose names differ only in their capitals', async () => {
      const full = row('a', {
        source: 'a',
        Source: 'b',
        SOURCE: 'c',
        A: 1,
        a: 2,
        timestamp: 3,
        Timestamp: 4,
      });
      await store.insert('Sessions', full);
      await store.insert('Sessions', row('b', { A: true }));
      expect(await collect(store.rows('Sessions', 'main'))).toEqual([full, row('b', { A: true })]);
    });

    test('refuse fields that not every store could hold', async () => {
      for (const name of ['', '_a', '_A', 'a_', 'a-b', 'a.b', '1a', 'ä', 'a'.repeat(65)]) {
        expect(await codeOf(store.insert('Sessions', row('a', { [name]: 1 })))).toBe('invalid');
        expect(await codeOf(store.put('Sessions', row('a', { [name]: 1 })))).toBe('invalid');
      }
      for (const number of [Number.NaN, Number.POSITIVE_INFINITY])
        expect(await codeOf(store.put('Sessions', row('a', { number })))).toBe('invalid');
      expect(await collect(store.rows('Sessions', 'main'))).toEqual([]);
    });

    test('hold the longest text and the largest row that are promised, and refuse more', async () => {
      const longest = '\ud800'.padEnd(maxTextUnits, 'ü🦊');
      await store.insert('Sessions', row('a', { text: longest, other: 'x'.repeat(maxTextUnits) }));
      expect((await rowOf(store, 'Sessions', 'main', 'a'))?.['text']).toBe(longest);
      expect(await codeOf(store.put('Sessions', row('a', { text: `${longest}x` })))).toBe('too_large');
      const fields = (count: number) =>
        Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, 'y'.repeat(maxTextUnits)]));
      await store.put('Sessions', row('b', fields(14)));
      expect(await rowOf(store, 'Sessions', 'main', 'b')).toEqual(row('b', fields(14)));
      expect(await codeOf(store.put('Sessions', row('b', fields(15))))).toBe('too_large');
      const many = Object.fromEntries(Array.from({ length: 201 }, (_, i) => [`f${i}`, i]));
      expect(await codeOf(store.insert('Sessions', row('c', many)))).toBe('too_large');
    });

    test('inserted twice conflict, and the first stays', async () => {
      await store.insert('Sessions', row('a', { n: 1 }));
      expect(await codeOf(store.insert('Sessions', row('a', { n: 2 })))).toBe('conflict');
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a', { n: 1 }));
    });

    test('inserted in order are there up to the first that was there before', async () => {
      const rows = ['a', 'b', 'c'].map((id) => ({ table: 'Sessions', row: row(id, { n: 1 }) }));
      await store.insert('Deliveries', row('x', {}));
      const [a, b, c] = rows;
      if (a === undefined || b === undefined || c === undefined) throw new Error('three rows');
      expect(await store.insertAll([])).toBe(0);
      expect(await store.insertAll([a, { table: 'Deliveries', row: row('x', { n: 2 }) }, b])).toBe(1);
      expect(await ids(store.rows('Sessions', 'main'))).toEqual(['a']);
      expect(await rowOf(store, 'Deliveries', 'main', 'x')).not.toHaveProperty('n');
      expect(await store.insertAll([a, b])).toBe(0);
      expect(await ids(store.rows('Sessions', 'main'))).toEqual(['a']);
      expect(await store.insertAll([b, c])).toBe(2);
      expect(await collect(store.rows('Sessions', 'main'))).toEqual(rows.map(({ row }) => row));
    });

    test('inserted in order are refused all when one is no row', async () => {
      const rows = [row('a', {}), row('b', { _: 1 })].map((one) => ({ table: 'Sessions', row: one }));
      expect(await codeOf(store.insertAll(rows))).toBe('invalid');
      expect(await ids(store.rows('Sessions', 'main'))).toEqual([]);
    });

    test('inserted by many racers are won by exactly one', async () => {
      const other = await opened.reopen();
      const races = Array.from({ length: 12 }, (_, i) =>
        (i % 2 ? store : other).insert('Sessions', row('a', { i })),
      );
      const won = await winners(races);
      expect(won).toHaveLength(1);
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a', { i: won[0] ?? -1 }));
    });

    test('inserted along with one that conflicts are stored', async () => {
      await store.insert('Sessions', row('b'));
      const results = await Promise.allSettled(
        ['a', 'b', 'c'].map((id) => store.insert('Sessions', row(id))),
      );
      expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect(await ids(store.rows('Sessions', 'main'))).toEqual(['a', 'b', 'c']);
    });

    test('that are put replace the whole of an earlier one', async () => {
      await store.put('Sessions', row('a', { old: 1, both: 1 }));
      await store.put('Sessions', row('a', { both: 2 }));
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toEqual(row('a', { both: 2 }));
    });

    test('put one after another without waiting end with the last', async () => {
      await Promise.all([1, 2, 3].map((n) => store.put('Sessions', row('a', { n }))));
      const last = await rowOf(store, 'Sessions', 'main', 'a');
      expect([1, 2, 3]).toContain(last?.['n']);
    });

    test('come in the order of their characters', async () => {
      const shuffled = ['b', 'a', '~x', 'B', 'a~2', '-', '0', 'a-1', '10', '9', '_', 'a.b'];
      await Promise.all(shuffled.map((id) => store.insert('Sessions', row(id))));
      expect(await ids(store.rows('Sessions', 'main'))).toEqual([...shuffled].sort());
    });

    test('can be read from one id, inclusive, to before another', async () => {
      for (const id of ['a', 'b', 'c', 'd']) await store.insert('Sessions', row(id));
      expect(await ids(store.rows('Sessions', 'main', { from: 'b', before: 'd' }))).toEqual(['b', 'c']);
      expect(await ids(store.rows('Sessions', 'main', { from: 'c' }))).toEqual(['c', 'd']);
      expect(await ids(store.rows('Sessions', 'main', { before: 'c' }))).toEqual(['a', 'b']);
      expect(await ids(store.rows('Sessions', 'main', { from: 'bb' }))).toEqual(['c', 'd']);
      expect(await ids(store.rows('Sessions', 'main', { from: 'b\u0000', before: 'd\u0000' }))).toEqual([
        'c',
        'd',
      ]);
      expect(await ids(store.rows('Sessions', 'main', { from: 'c', before: 'b' }))).toEqual([]);
    });

    test('are found alone where their id begins another', async () => {
      await store.insert('Sessions', row('a~2'));
      expect(await rowOf(store, 'Sessions', 'main', 'a')).toBeUndefined();
      await store.insert('Sessions', row('a'));
      expect((await rowOf(store, 'Sessions', 'main', 'a'))?.id).toBe('a');
    });

    test('come whole when there are more than a page of them', async () => {
      const many = Array.from({ length: 1203 }, (_, i) => String(i).padStart(5, '0'));
      for (let i = 0; i < many.length; i += 100)
        await Promise.all(many.slice(i, i + 100).map((id) => store.insert('Sessions', row(id))));
      expect(await ids(store.rows('Sessions', 'main'))).toEqual(many);
      expect(await ids(store.rows('Sessions', 'main', { from: '00100', before: '00900' }))).toEqual(
        many.slice(100, 900),
      );
    });

    test('may be changed while they are read', async () => {
      for (const id of ['a', 'b', 'c']) await store.insert('Sessions', row(id));
      const seen: string[] = [];
      for await (const { id } of store.rows('Sessions', 'main')) {
        seen.push(id);
        await store.removeRows('Sessions', 'main', [id]);
      }
      expect(seen).toEqual(['a', 'b', 'c']);
      expect(await ids(store.rows('Sessions', 'main'))).toEqual([]);
    });

    test('of other tables and partitions are others', async () => {
      await store.insert('Sessions', row('a', { n: 1 }));
      await store.insert('Changes', row('a', { n: 2 }));
      await store.insert('Sessions', { partition: 'main2', id: 'a', n: 3 });
      expect(await collect(store.rows('Sessions', 'main'))).toEqual([row('a', { n: 1 })]);
      expect(await collect(store.rows('Changes', 'main'))).toEqual([row('a', { n: 2 })]);
      await store.removeRows('Sessions', 'main', ['a']);
      expect(await rowOf(store, 'Sessions', 'main2', 'a')).toMatchObject({ n: 3 });
      expect(await rowOf(store, 'Changes', 'main', 'a')).toMatchObject({ n: 2 });
    });

    test('of an absent table are none', async () => {
      expect(await collect(store.rows('Nowhere', 'main'))).toEqual([]);
      await store.removeRows('Nowhere', 'main', ['a']);
    });

    test('are removed, absent ones among them or not', async () => {
      const many = Array.from({ length: 230 }, (_, i) => `r${String(i).padStart(4, '0')}`);
      await Promise.all(many.map((id) => store.insert('Sessions', row(id))));
      await store.removeRows('Sessions', 'main', [...many.slice(1), 'absent']);
      await store.removeRows('Sessions', 'main', []);
      expect(await ids(store.rows('Sessions', 'main'))).toEqual(['r0000']);
    });
  });
}
