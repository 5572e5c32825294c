import { failedWith, NexusError } from '../errors.ts';
import type { Store } from './store.ts';

/** Told of each operation that ended: how long the store took, and the code of its failure. */
export type Observe = (operation: keyof Store, seconds: number, failure: string | undefined) => void;

/** A store as it was given, whose operations are timed. Of what is read, the time of who reads it is left out. */
export function timedStore(store: Store, observe: Observe): Store {
  async function timed<T>(operation: keyof Store, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    try {
      const result = await work();
      observe(operation, (performance.now() - began) / 1000, undefined);
      return result;
    } catch (error) {
      observe(operation, (performance.now() - began) / 1000, failureOf(error));
      throw error;
    }
  }

  async function* timedEach<T>(operation: keyof Store, work: () => AsyncIterable<T>): AsyncIterable<T> {
    let spent = 0;
    let failure: string | undefined;
    let began = performance.now();
    try {
      for await (const one of work()) {
        spent += performance.now() - began;
        yield one;
        began = performance.now();
      }
      spent += performance.now() - began;
    } catch (error) {
      spent += performance.now() - began;
      failure = failureOf(error);
      throw error;
    } finally {
      observe(operation, spent / 1000, failure);
    }
  }

  return {
    id: () => timed('id', () => store.id()),
    create: (name, body) => timed('create', () => store.create(name, body)),
    append: (name, offset, body) => timed('append', () => store.append(name, offset, body)),
    open: (name, from, to) => timedEach('open', () => store.open(name, from, to)),
    stat: (name) => timed('stat', () => store.stat(name)),
    list: (prefix, rotted) => timedEach('list', () => store.list(prefix, rotted)),
    remove: (name) => timed('remove', () => store.remove(name)),
    insert: (table, row) => timed('insert', () => store.insert(table, row)),
    insertAll: (rows) => timed('insertAll', () => store.insertAll(rows)),
    put: (table, row) => timed('put', () => store.put(table, row)),
    rows: (table, partition, range, rotted) =>
      timedEach('rows', () => store.rows(table, partition, range, rotted)),
    removeRows: (table, partition, ids) => timed('removeRows', () => store.removeRows(table, partition, ids)),
    damage: (signal) => timedEach('damage', () => store.damage(signal)),
    close: () => store.close(),
  };
}

/** `undefined` for answers that say what is there, for what the caller has done wrong, and where nobody waits any more. */
function failureOf(error: unknown): string | undefined {
  if (error instanceof Error && error.name === 'AbortError') return undefined;
  if (failedWith(error, 'conflict', 'not_found', 'range', 'full', 'too_large', 'invalid')) return undefined;
  return error instanceof NexusError ? error.code : 'internal';
}
