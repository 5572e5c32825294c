import { NexusError } from '../../../src/errors.ts';
import type { Store } from '../../../src/stores/store.ts';
import type { Plan } from './badway.ts';

/** What a store throws, before it did what it was asked for or after. */
export type StoreFault = `${'a bug' | 'unavailable'} ${'before' | 'after'}`;

export const storeFaults: readonly StoreFault[] = [
  'a bug before',
  'a bug after',
  'unavailable before',
  'unavailable after',
];

/** What a bug's message must not show to anybody outside. */
export const inside = 'inside of /var/lib/nexus AccountKey=1234';

export interface ThrowingStore extends Store {
  begin(plan?: Plan): void;
  /** Calls since `begin`. */
  calls(): number;
}

/** A store whose n-th call throws. What is read in pieces throws before the first or after the last. */
export function throwing(store: Store): ThrowingStore {
  let plan: Plan | undefined;
  let count = 0;

  function next(): string | undefined {
    count++;
    return plan === undefined || count < plan.at || count >= plan.at + plan.times ? undefined : plan.fault;
  }
  function failIf(fault: string | undefined, when: 'before' | 'after'): void {
    if (fault === undefined || !fault.endsWith(when)) return;
    if (fault.startsWith('a bug')) throw new TypeError(`Cannot read ${inside}`);
    // Its caller need not wait: what is proved is what it is told.
    throw new NexusError('unavailable', 'The store does not answer.', { retryAfter: 0 });
  }
  async function pass<T>(work: () => Promise<T>): Promise<T> {
    const fault = next();
    failIf(fault, 'before');
    const result = await work();
    failIf(fault, 'after');
    return result;
  }
  async function* passAll<T>(items: () => AsyncIterable<T>): AsyncIterable<T> {
    const fault = next();
    failIf(fault, 'before');
    yield* items();
    failIf(fault, 'after');
  }
  return {
    begin(wanted) {
      plan = wanted;
      count = 0;
    },
    calls: () => count,
    id: () => pass(() => store.id()),
    create: (...given) => pass(() => store.create(...given)),
    append: (...given) => pass(() => store.append(...given)),
    open: (...given) => passAll(() => store.open(...given)),
    stat: (name) => pass(() => store.stat(name)),
    list: (prefix) => passAll(() => store.list(prefix)),
    remove: (name) => pass(() => store.remove(name)),
    insert: (...given) => pass(() => store.insert(...given)),
    insertAll: (rows) => pass(() => store.insertAll(rows)),
    put: (...given) => pass(() => store.put(...given)),
    rows: (...given) => passAll(() => store.rows(...given)),
    removeRows: (...given) => pass(() => store.removeRows(...given)),
    damage: () => passAll(() => store.damage()),
    close: () => store.close(),
  };
}
