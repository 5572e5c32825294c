import { failedWith } from '../errors.ts';
import type { Nexus } from '../nexus.ts';

/** After this many items in a row that found Nexus unavailable the rest are not tried: each costs all its retries. */
const outagesToGiveUp = 3;

/** Nexus, and how often in a row it could not be reached. What fails on this machine is no outage of it. */
export interface Outages {
  nexus: Nexus;
  /** To be told how each item ended; `undefined` is well. */
  note(error: unknown): void;
  /** So many items in a row found it unavailable that the next would too. */
  givenUp(): boolean;
  /** The last item, or the last agent, could not reach it. */
  last(): boolean;
}

export function watchOutages(nexus: Nexus): Outages {
  const own = new WeakSet<object>();
  let inARow = 0;
  let answered = false;

  async function noting<T>(work: Promise<T>): Promise<T> {
    try {
      const result = await work;
      answered = true;
      return result;
    } catch (error) {
      if (failedWith(error, 'unavailable')) own.add(error);
      throw error;
    }
  }

  return {
    nexus: {
      ...nexus,
      storeId: () => noting(nexus.storeId()),
      stat: (...given) => noting(nexus.stat(...given)),
      append: (...given) => noting(nexus.append(...given)),
      mark: (...given) => noting(nexus.mark(...given)),
      setMark: (...given) => noting(nexus.setMark(...given)),
      setPrices: (...given) => noting(nexus.setPrices(...given)),
      async *read(...given) {
        const pieces = nexus.read(...given)[Symbol.asyncIterator]();
        for (;;) {
          const { done, value } = await noting(pieces.next());
          if (done === true) return;
          yield value;
        }
      },
    },
    note(error) {
      // An item that never asked Nexus says nothing of it.
      if (typeof error === 'object' && error !== null && own.has(error)) inARow++;
      else if (answered) inARow = 0;
      answered = false;
    },
    givenUp: () => inARow >= outagesToGiveUp,
    last: () => inARow > 0,
  };
}
