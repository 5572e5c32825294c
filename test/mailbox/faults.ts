import { NexusError } from '../../src/errors.ts';
import type { Store } from '../../src/stores/store.ts';

export type Fault = 'before' | 'after';

/**
 * A store whose n-th operation (from 1) fails, before it was done or after. As an answer that was lost
 * (`unavailable`), or, with `dead`, as a process that died there: nothing reaches the store any more. `at` 0 fails
 * nothing; `operations` are those that were begun.
 */
export function failingStore(
  store: Store,
  at: number,
  fault: Fault,
  dead: boolean,
): { store: Store; operations: string[] } {
  const operations: string[] = [];
  const error = (): Error =>
    dead ? new Error('The process is dead.') : new NexusError('unavailable', 'The answer was lost.');

  function begin(name: string): boolean {
    operations.push(name);
    const now = operations.length;
    if (at > 0 && dead && now > at) throw error();
    if (now === at && fault === 'before') throw error();
    return now === at;
  }
  async function pass<T>(name: string, work: () => Promise<T>): Promise<T> {
    const hit = begin(name);
    const result = await work();
    if (hit) throw error();
    return result;
  }
  async function* passAll<T>(name: string, items: AsyncIterable<T>): AsyncIterable<T> {
    const hit = begin(name);
    yield* items;
    if (hit) throw error();
  }
  return {
    operations,
    store: {
      id: () => pass('id', () => store.id()),
      create: (name, body) => pass('create', () => store.create(name, body)),
      append: (...given) => pass('append', () => store.append(...given)),
      open: (...given) => passAll('open', store.open(...given)),
      stat: (name) => pass('stat', () => store.stat(name)),
      list: (prefix) => passAll('list', store.list(prefix)),
      remove: (name) => pass('remove', () => store.remove(name)),
      insert: (table, row) => pass(`insert ${table}`, () => store.insert(table, row)),
      // One after the other, as where one sync for all cannot be had: what fails leaves those before it.
      async insertAll(rows) {
        for (const [added, one] of rows.entries())
          if ((await pass(`insert ${one.table}`, () => store.insertAll([one]))) === 0) return added;
        return rows.length;
      },
      put: (table, row) => pass(`put ${table}`, () => store.put(table, row)),
      rows: (table, ...given) => passAll(`rows ${table}`, store.rows(table, ...given)),
      removeRows: (table, ...given) => pass(`removeRows ${table}`, () => store.removeRows(table, ...given)),
      damage: () => store.damage(),
      close: () => store.close(),
    },
  };
}
