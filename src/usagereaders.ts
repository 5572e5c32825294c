import { type Found, partsOf, type Pieces, type Wanted } from './usageparts.ts';
import { openReader } from './usagereader.ts';
import { beginReaderThread, type Place, type ReaderThread } from './usagereaderthread.ts';
import { unpacked } from './usagesent.ts';

export interface Readers {
  /** As `partsOf`; where threads read from the store, `pieces` is not asked. */
  partsOf: (wanted: Wanted, pieces: Pieces, told: (bytes: number) => void) => AsyncIterable<Found | 'moved'>;
  /** A thread has ended that should not have: what it was to read fails, and so does all that comes later. */
  hasEnded: () => boolean;
  close: () => Promise<void>;
}

interface Thread extends ReaderThread {
  /** Bytes that it was asked for and has not come to. */
  load: number;
}

/**
 * Readers of transcripts, in so many threads; without any, here. With a `place`, threads also read from the store. Of a
 * transcript the next part is only read when it is asked for.
 */
export function openReaders(threads: number, place?: Place): Readers {
  const begun = Array.from({ length: threads }, (): Thread => ({ ...beginReaderThread(place), load: 0 }));
  let opened = 0;

  async function* fromStore(
    thread: Thread,
    wanted: Wanted,
    told: (bytes: number) => void,
  ): AsyncGenerator<Found | 'moved', void, undefined> {
    const id = opened++;
    let left = wanted.to - wanted.from;
    thread.load += left;
    let more = true;
    try {
      for (let begins = true; more; begins = false) {
        const asked = begins ? ({ what: 'read', id, wanted } as const) : ({ what: 'go', id } as const);
        const { found, bytes } = await thread.ask(asked);
        thread.load -= bytes;
        left -= bytes;
        told(bytes);
        more = found !== undefined && found !== 'moved' && !found.last;
        if (found !== undefined)
          yield found === 'moved' ? found : { part: unpacked(found.part), last: found.last };
      }
    } catch (error) {
      more = false;
      throw error;
    } finally {
      thread.load -= left;
      if (more) thread.end(id);
    }
  }

  async function* fromPieces(
    thread: Thread,
    wanted: Wanted,
    pieces: Pieces,
    told: (bytes: number) => void,
  ): AsyncGenerator<Found | 'moved', void, undefined> {
    const id = opened++;
    let begins = true;
    let more = false;
    try {
      yield* partsOf(
        wanted,
        pieces,
        async (piece, following) => {
          const start = begins ? { agent: wanted.agent, before: wanted.before } : undefined;
          begins = false;
          more = following === 'more';
          const { found } = await thread.ask({ what: 'piece', id, start, piece, following });
          return found === undefined || found === 'moved' ? undefined : unpacked(found.part);
        },
        told,
      );
    } finally {
      if (more) thread.end(id);
    }
  }

  return {
    partsOf(wanted, pieces, told) {
      const [first, ...others] = begun;
      if (first === undefined) return partsOf(wanted, pieces, openReader(wanted.before, wanted.agent), told);
      const thread = others.reduce((least, one) => (one.load < least.load ? one : least), first);
      return place === undefined ? fromPieces(thread, wanted, pieces, told) : fromStore(thread, wanted, told);
    },
    hasEnded: () => begun.some((thread) => thread.hasEnded()),
    async close() {
      await Promise.all(begun.map((thread) => thread.close()));
    },
  };
}
