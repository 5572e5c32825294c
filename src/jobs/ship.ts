import { createHash } from 'node:crypto';
import { failedWith, NexusError } from '../errors.ts';
import type { About, Card, Nexus } from '../nexus.ts';
import type { Bytes, Place } from '../openclaw/source.ts';
import { historyOf } from '../transcripts.ts';
import { eventTimes } from './eventtimes.ts';

/** What shipping needs besides the place itself. */
export interface Shipping {
  nexus: Nexus;
  /** The agent's id in Nexus. */
  agent: string;
  host: string;
  /** Bytes of one append; what is held in memory for one transcript is about this much. */
  chunkBytes: number;
  /** Stops between two appends. */
  signal: AbortSignal;
  /** Called after each append that is durable, with what of the place is stored by then. */
  progress(stored: Stored, bytes: number): Promise<void>;
}

/** That a place's first `length` bytes, whose SHA-256 is `sha256`, are stored as `transcript`. */
export interface Stored {
  transcript: string;
  length: number;
  sha256: string;
}

/** Where to go on: `Stored`, and whether the archive knows it to be complete. */
export interface Target extends Stored {
  complete: boolean;
}

export interface Outcome extends Stored {
  /** Bytes that this shipment added, or an empty transcript that it made. */
  sent: number;
  made: boolean;
}

export interface ShipOptions {
  /** What an earlier run shipped of these bytes; checked against them before anything is added. */
  known?: Target | undefined;
  /** Look at what is stored before sending anything: for a place that is likely to be there. */
  settleFirst: boolean;
}

const noBytes = new Uint8Array(0);
const sha256OfNothing = createHash('sha256').digest('hex');

/** How often a place is settled anew when others append to the same names at the same time. */
const settlements = 8;

/**
 * Stores what is not stored yet of one place, and never anything twice: continues what is its prefix, and where
 * what is stored under its name is another history, makes the next `~n`. Resolves when all its bytes are stored.
 * `changed` when the place is not what it was when its reading began; what was stored by then is a true prefix.
 */
export async function ship(to: Shipping, place: Place, options: ShipOptions): Promise<Outcome> {
  let target = options.known ?? (options.settleFirst ? undefined : freshTarget(place.transcript));
  let sent = 0;
  let uncertain = 0;
  for (let attempt = 0; attempt < settlements; attempt++) {
    if (target === undefined) {
      const settled = await settle(to, place);
      if (settled.equal) {
        await describeEqual(to, place, settled);
        return { ...settled.stored, sent: sent + uncertain, made: uncertain > 0 };
      }
      target = settled.target;
    }
    const result = await send(to, place, target);
    sent += result.sent;
    if (result.stored !== undefined) return { ...result.stored, sent, made: result.made };
    uncertain = result.uncertain;
    target = undefined;
  }
  throw new NexusError('busy', `${place.place} could not be settled: others keep appending to its name.`, {
    hint: 'The next run takes it up.',
  });
}

function freshTarget(transcript: string): Target {
  return { transcript, length: 0, sha256: sha256OfNothing, complete: false };
}

interface SendResult {
  /** Absent: the target is not what it was taken for; settle. */
  stored?: Stored;
  sent: number;
  /** Bytes whose append was refused in a way that says they may have arrived before. */
  uncertain: number;
  made: boolean;
}

/** Reads the place from its start, checks that what is stored is its prefix, and appends the rest. */
async function send(to: Shipping, place: Place, target: Target): Promise<SendResult> {
  const bytes = await place.open();
  try {
    const hash = createHash('sha256');
    const times = eventTimes();
    let read = 0;
    let offset = target.length;
    // Grows with what there is to send, up to one chunk, and is used again for the next.
    let chunk = Buffer.alloc(0);
    let waiting = 0;
    let made = false;

    const append = async (
      chunk: Uint8Array,
      complete: boolean,
    ): Promise<'stored' | 'refused' | 'uncertain'> => {
      await bytes.unchanged();
      try {
        await to.nexus.append(to.agent, target.transcript, offset, chunk, {
          complete,
          about: aboutOf(to, place, times.seen()),
        });
      } catch (error) {
        if (!failedWith(error, 'conflict')) throw error;
        return chunk.length > 0 && error.length === offset + chunk.length ? 'uncertain' : 'refused';
      }
      made ||= offset === 0;
      offset += chunk.length;
      hash.update(chunk);
      await to.progress(
        { transcript: target.transcript, length: offset, sha256: hash.copy().digest('hex') },
        chunk.length,
      );
      return 'stored';
    };
    const elsewhere = (how: 'refused' | 'uncertain', chunk: number): SendResult => ({
      sent: offset - target.length,
      uncertain: how === 'uncertain' ? chunk : 0,
      made,
    });

    for await (const piece of bytes.pieces()) {
      to.signal.throwIfAborted();
      times.read(piece);
      const already = Math.max(0, Math.min(target.length - read, piece.length));
      if (already > 0) hash.update(piece.subarray(0, already));
      if (read < target.length && read + already === target.length)
        if (hash.copy().digest('hex') !== target.sha256) return elsewhere('refused', 0);
      read += piece.length;
      for (let from = already; from < piece.length; ) {
        // The last chunk is kept back, so that it can say whether it completes the transcript.
        if (waiting === to.chunkBytes) {
          const how = await append(chunk, false);
          if (how !== 'stored') return elsewhere(how, chunk.length);
          to.signal.throwIfAborted();
          waiting = 0;
        }
        const taken = Math.min(piece.length - from, to.chunkBytes - waiting);
        if (chunk.length < waiting + taken) chunk = grown(chunk, waiting, waiting + taken, to.chunkBytes);
        chunk.set(piece.subarray(from, from + taken), waiting);
        waiting += taken;
        from += taken;
      }
    }
    if (read < target.length) return elsewhere('refused', 0);

    const complete = place.complete === true;
    if (waiting > 0 || (complete && !target.complete)) {
      const how = await append(chunk.subarray(0, waiting), complete);
      if (how !== 'stored') return elsewhere(how, waiting);
    } else await bytes.unchanged();
    const stored = { transcript: target.transcript, length: offset, sha256: hash.digest('hex') };
    return { stored, sent: offset - target.length, uncertain: 0, made };
  } finally {
    await bytes.close();
  }
}

type Settled = { equal: true; stored: Stored; card: Card | undefined } | { equal: false; target: Target };

/**
 * Walks X, X~2, X~3, … to the first that is absent and says where the place's bytes belong: equal to a stored
 * history or a prefix of it, nothing is to be sent; else after the longest that is their prefix; else in the next
 * free one.
 */
async function settle(to: Shipping, place: Place): Promise<Settled> {
  const cards: Card[] = [];
  for (;;) {
    const next = historyOf(place.transcript, cards.length + 1);
    const card = await to.nexus.stat(to.agent, next, { digest: 'stored' });
    if (card === undefined) break;
    cards.push(card);
  }
  if (cards.length === 0) return { equal: false, target: freshTarget(place.transcript) };

  const here = await measure(
    place,
    cards.map((card) => card.length),
    to.signal,
  );
  const whole = { length: here.length, sha256: here.sha256 };
  const equal = cards.find((card) => card.length === here.length && card.digest === here.sha256);
  if (equal) return { equal: true, stored: { transcript: equal.transcript, ...whole }, card: equal };
  for (const card of cards) {
    if (card.length <= here.length) continue;
    if ((await storedPrefix(to, card.transcript, here.length)) === here.sha256)
      return { equal: true, stored: { transcript: card.transcript, ...whole }, card: undefined };
  }
  const prefixes = cards
    .filter((card) => card.length < here.length && here.prefixes.get(card.length) === card.digest)
    .sort((a, b) => b.length - a.length);
  const longest = prefixes[0];
  if (longest?.digest !== undefined) {
    const { transcript, length, digest, complete } = longest;
    return { equal: false, target: { transcript, length, sha256: digest, complete } };
  }
  return { equal: false, target: freshTarget(historyOf(place.transcript, cards.length + 1)) };
}

/** Tells the archive what it does not know of an equal transcript: that it is complete, or whose it is. */
async function describeEqual(to: Shipping, place: Place, settled: Settled & { equal: true }): Promise<void> {
  const { card, stored } = settled;
  if (card === undefined) return;
  const complete = card.complete || place.complete === true;
  if (complete === card.complete && card.host !== undefined) return;
  try {
    const facts = { complete, about: aboutOf(to, place, {}) };
    await to.nexus.append(to.agent, stored.transcript, stored.length, noBytes, facts);
  } catch (error) {
    // It has grown meanwhile, by another host or run: then it is not complete, and its card is theirs.
    if (!failedWith(error, 'conflict')) throw error;
  }
}

/** SHA-256 of a place's bytes as they are now, whole and up to each of `lengths`. */
export async function measure(
  place: Place,
  lengths: readonly number[],
  signal: AbortSignal,
): Promise<{ length: number; sha256: string; prefixes: Map<number, string> }> {
  const bytes: Bytes = await place.open();
  try {
    const marks = [...new Set(lengths)].filter((length) => length > 0).sort((a, b) => a - b);
    const prefixes = new Map<number, string>([[0, sha256OfNothing]]);
    const hash = createHash('sha256');
    let length = 0;
    for await (const piece of bytes.pieces()) {
      signal.throwIfAborted();
      let from = 0;
      while (marks[0] !== undefined && marks[0] <= length + piece.length) {
        const mark = marks.shift() ?? 0;
        hash.update(piece.subarray(from, mark - length));
        prefixes.set(mark, hash.copy().digest('hex'));
        from = mark - length;
      }
      hash.update(piece.subarray(from));
      length += piece.length;
    }
    await bytes.unchanged();
    return { length, sha256: hash.digest('hex'), prefixes };
  } finally {
    await bytes.close();
  }
}

/** SHA-256 of the first `length` stored bytes of a transcript. */
export async function storedPrefix(
  to: Pick<Shipping, 'nexus' | 'agent' | 'signal'>,
  transcript: string,
  length: number,
): Promise<string> {
  const hash = createHash('sha256');
  if (length > 0)
    for await (const piece of to.nexus.read(to.agent, transcript, 0, length)) {
      to.signal.throwIfAborted();
      hash.update(piece);
    }
  return hash.digest('hex');
}

/** A fact longer than this is left out: no endpoint takes it, and bytes must not wait for their description. */
const longestFact = 512;

function aboutOf(to: Shipping, place: Place, times: Pick<About, 'firstEventAt' | 'lastEventAt'>): About {
  const facts: About = { host: to.host, era: place.era, sessionId: place.sessionId, ...times };
  return Object.fromEntries(
    Object.entries({ ...facts, ...place.about }).filter(
      ([, fact]) => typeof fact === 'string' && fact !== '' && fact.length <= longestFact,
    ),
  );
}

/** A larger buffer with the same first bytes; doubled, so that few copies are made. */
function grown(buffer: Buffer, used: number, needed: number, most: number): Buffer<ArrayBuffer> {
  const larger = Buffer.allocUnsafeSlow(Math.min(most, Math.max(needed, used * 2)));
  larger.set(buffer.subarray(0, used));
  return larger;
}
