import { availableParallelism } from 'node:os';
import { describe, failedWith, NexusError } from './errors.ts';
import type { Card, Nexus } from './nexus.ts';
import type { Store } from './stores/store.ts';
import { slots } from './slots.ts';
import { openCommits } from './usagecommits.ts';
import { openCounting } from './usagecount.ts';
import { type IndexFile, IndexGone } from './usagefile.ts';
import { openLook } from './usagelook.ts';
import type { Found } from './usageparts.ts';
import { openReaders, type Readers } from './usagereaders.ts';
import type { Place } from './usagereaderthread.ts';
import { type Chunk, openStates, type State } from './usagestate.ts';

export interface CatchUpProgress {
  transcripts: number;
  transcriptsTotal: number;
  bytes: number;
  bytesTotal: number;
}

export interface CatchUpOptions {
  /** Stops after what is in hand; what was read stays. */
  signal?: AbortSignal | undefined;
  progress?: ((state: CatchUpProgress) => void) | undefined;
}

export interface Reading {
  /** The store, where it is a local one: threads read from it themselves. */
  place?: Place | undefined;
  /** With so many bytes to read, threads are begun. Default 16 MiB. */
  threadsFrom?: number | undefined;
}

/** A time further ahead than this is none, ms. */
const aheadMs = 366 * 86_400_000;
/** Transcripts read at once. */
const readers = 24;
/** Transcripts in hand at once: what was read of the others waits to be written, many in one transaction. */
const inHand = 192;
/** From so many bytes on, other threads read. */
const muchBytes = 16 * 1024 * 1024;
/** As many as have work while one writes what they read: where they have to be given what they read, one is enough. */
const threadsAtStore = 2;
/** With more than these to be read anew, all is: what is counted of one is found by reading through all. */
const mostAnew = 50;
const mostTries = 20;
const mostRefused = 3;

interface Pending {
  agent: string;
  name: string;
  looks: number;
}

/** One catching up. */
interface Run {
  /** Cards that the listing brought, by `agent/transcript`. */
  cards: Map<string, Card>;
  signal: AbortSignal | undefined;
  /** Transcripts in a row that the store did not give. */
  refused: number;
  /** Transcripts whose calls were taken back. */
  takenBack: number;
  readers: Readers;
  /** Lets so many read at once. */
  reading: ReturnType<typeof slots>;
  read: (bytes: number) => void;
}

/**
 * Brings the index to what is stored: looks which transcripts have changed (by the feed; by the whole list on first
 * use, once a day, and when the feed may have been pruned), notes them, and reads of each the bytes that it has not
 * read. Every transaction compares where it begins with how far the transcript has been read, and advances that:
 * whatever other process does the same meanwhile, and wherever one is killed, each byte is taken up once.
 */
export function openCatchUp(
  index: IndexFile,
  store: Store,
  nexus: Pick<Nexus, 'stat' | 'read' | 'list'>,
  now: () => Date,
  { place, threadsFrom = muchBytes }: Reading = {},
): (options: CatchUpOptions) => Promise<void> {
  const { db } = index;
  const counting = openCounting(db);
  const states = openStates(db, counting);
  const selectPending = db.prepare('SELECT agent, name, looks FROM pending ORDER BY agent, name');
  const dropPending = db.prepare('DELETE FROM pending WHERE agent = ? AND name = ? AND looks = ?');
  const { commit, expect } = openCommits(index, counting);
  const look = openLook({ index, store, nexus, now, commit, muchBytes: threadsFrom });

  /**
   * Reads one transcript as far as its card says, again where another process was faster. What cannot be read is noted
   * with its reason and stays pending.
   */
  async function settle(run: Run, { agent, name, looks }: Pending): Promise<void> {
    let card = run.cards.get(`${agent}/${name}`);
    let reason = 'It changes faster than it can be read.';
    for (let tries = 0; tries < mostTries; tries++) {
      try {
        card ??= await nexus.stat(agent, name);
        if (card === undefined) {
          await drop(run, agent, name, looks);
          return;
        }
        const how = await readTo(run, card, () => dropPending.run(agent, name, looks));
        if (how !== 'again') return;
      } catch (error) {
        const isOurs = failedWith(error, 'busy') || run.readers.hasEnded();
        if (isOurs || !(error instanceof NexusError)) throw error;
        reason = describe(error);
        // Removed, or set back, since the card was read: another look at it tells.
        const moved = failedWith(error, 'not_found', 'range') || run.cards.has(`${agent}/${name}`);
        if (!moved || tries > 1) {
          await unreadable(run, agent, name, error);
          return;
        }
      }
      run.cards.delete(`${agent}/${name}`);
      card = undefined;
    }
    await unreadable(run, agent, name, new NexusError('busy', reason));
  }

  async function drop(run: Run, agent: string, name: string, looks: number): Promise<void> {
    if (await index.read(() => states.stateOf(agent, name) !== undefined)) await takingBack(run);
    await commit(() => {
      const state = states.stateOf(agent, name);
      if (state !== undefined) states.drop(state);
      dropPending.run(agent, name, looks);
    });
  }

  async function unreadable(run: Run, agent: string, name: string, error: NexusError): Promise<void> {
    await commit(() => {
      states.unreadable(states.made({ agent, transcript: name }), describe(error));
    });
    if (!failedWith(error, 'unavailable', 'forbidden', 'unauthorized') || ++run.refused < mostRefused) return;
    // Blobs that cannot be read are their own trouble, unless the store answers nothing else either.
    await nexus.stat('main', 'readyz');
    run.refused = 0;
  }

  /** Where very many are to be taken back, it is quicker to begin anew. */
  async function takingBack(run: Run): Promise<void> {
    if (++run.takenBack <= mostAnew) return;
    await index.empty();
    throw new IndexGone();
  }

  /** `again` where the transcript has to be looked at once more; `done` is part of the last transaction. */
  async function readTo(run: Run, card: Card, done: () => void): Promise<'read' | 'again' | 'stopped'> {
    const { epoch, state } = await index.read(() => ({
      epoch: index.epoch(),
      state: states.stateOf(card.agent, card.transcript),
    }));
    const readTo = state?.readTo ?? 0;
    if (state !== undefined && (card.length < readTo || (state.tail && card.length > readTo)))
      return await anew(run, card, state);
    if (card.length === readTo) {
      await commit(() => {
        const current = states.made(card);
        states.described(current, card);
        if (current.unreadable !== null) states.unreadable(current, null);
        done();
      });
      return 'read';
    }
    const seam = state?.seam ?? new Uint8Array();
    let from = readTo;

    const submit = async ({ part, last }: Found): Promise<boolean> => {
      const { lines, mail, ended } = part;
      const chunk: Chunk = { from, lines, seam: part.seam.length > 0 ? part.seam : seam, tail: ended, mail };
      let took = false;
      await commit(() => {
        took = false;
        const current = index.epoch() === epoch ? states.made(card) : undefined;
        if (current?.readTo !== from || current.tail) return;
        states.apply(current, card, chunk);
        if (last) done();
        took = true;
      });
      from += lines.bytes;
      return took;
    };

    const isStopped = (): boolean => run.signal?.aborted === true;
    const pieces = (_: string, begin: number, to: number): AsyncIterable<Uint8Array> =>
      nexus.read(card.agent, card.transcript, begin, to);

    /** Takes up all but the last part, which it gives back: who waits for that one's transaction reads nothing. */
    const read = async (): Promise<Found | 'again' | 'stopped'> => {
      if (isStopped()) return 'stopped';
      const latest = now().getTime() + aheadMs;
      const wanted = {
        agent: card.agent,
        blob: `sessions/${card.path}`,
        from: readTo,
        to: card.length,
        seam,
        complete: card.complete,
        before: { lines: state?.lines ?? 0, asked: state?.asked ?? false, latest },
      };
      for await (const found of run.readers.partsOf(wanted, pieces, run.read)) {
        if (found === 'moved') return state === undefined ? 'again' : await anew(run, card, state);
        if (found.last) return found;
        if (!(await submit(found))) return 'again';
        if (isStopped()) return 'stopped';
      }
      // It ended before the length that its card says: the next look at it tells why.
      return 'again';
    };
    const last = await run.reading(read);
    if (typeof last === 'string') return last;
    run.refused = 0;
    return (await submit(last)) ? 'read' : 'again';
  }

  async function anew(run: Run, card: Card, state: State): Promise<'again'> {
    await takingBack(run);
    await commit(() => {
      const current = states.stateOf(card.agent, card.transcript);
      if (current !== undefined && current.readTo === state.readTo) states.reset(current);
    });
    return 'again';
  }

  return async ({ signal, progress }) => {
    const threads = availableParallelism() === 1 ? 0 : place === undefined ? 1 : threadsAtStore;
    let begun: Readers | undefined;
    try {
      // They take their time to begin: on first use they do while the list is read.
      const cards = await look(() => (begun ??= openReaders(threads, place)));
      await readAll(cards, (isMuch) => (begun ??= openReaders(isMuch ? threads : 0, place)), {
        signal,
        progress,
      });
    } finally {
      await begun?.close();
    }
  };

  async function readAll(
    cards: Map<string, Card>,
    readersFor: (isMuch: boolean) => Readers,
    { signal, progress }: CatchUpOptions,
  ): Promise<void> {
    const pending = (await index.read(() => selectPending.all())).map(
      (row): Pending => ({
        agent: String(row['agent']),
        name: String(row['name']),
        looks: Number(row['looks']),
      }),
    );
    const bytesOf = (card: Card): number =>
      card.length - (states.stateOf(card.agent, card.transcript)?.readTo ?? 0);
    const told: CatchUpProgress = {
      transcripts: 0,
      transcriptsTotal: pending.length,
      bytes: 0,
      bytesTotal: 0,
    };
    told.bytesTotal = await index.read(() =>
      pending
        .flatMap(({ agent, name }) => cards.get(`${agent}/${name}`) ?? [])
        .reduce((sum, card) => sum + Math.max(0, bytesOf(card)), 0),
    );
    const isMuch = told.bytesTotal > threadsFrom;
    const run: Run = {
      cards,
      signal,
      refused: 0,
      takenBack: 0,
      readers: readersFor(isMuch),
      reading: slots(readers),
      read(bytes) {
        told.bytes += bytes;
        progress?.(told);
      },
    };
    const queue = pending.values();
    let failed: { error: unknown } | undefined;
    const settling = async (): Promise<void> => {
      for (const one of queue) {
        if (signal?.aborted === true || failed !== undefined) return;
        try {
          await settle(run, one);
        } catch (error) {
          failed ??= { error };
          return;
        }
        told.transcripts++;
        progress?.(told);
      }
    };
    const expected = isMuch ? 1 : 0;
    expect(inHand * expected);
    await Promise.all(
      Array.from({ length: isMuch ? inHand : readers }, () => settling().finally(() => expect(-expected))),
    );
    if (failed !== undefined) throw failed.error;
  }
}
