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
  /** An active transcript that is only a header so far waits: see `isOnlyHeader`. */
  headerWaits: boolean;
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
  /** It added bytes, or made an empty transcript. */
  made: boolean;
  /** Nothing was shipped, because there is only a header so far. */
  waits: boolean;
  /** Bytes that are there and may have been sent by a try of this run whose answer was lost. */
  uncertain: number;
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
 * what is stored under its name is another history, makes the next `~n`. One that the store can append to no more
 * (50,000 times on Azure) is begun anew as the next `~n`, whole, in far fewer appends. Resolves when all its bytes are stored.
 * `changed` when the place is not what it was when its reading began; what was stored by then is a true prefix.
 */
export async function ship(to: Shipping, place: Place, options: ShipOptions): Promise<Outcome> {
  let target = options.known ?? (options.settleFirst ? undefined : freshTarget(place.transcript));
  let made = false;
  let uncertain = 0;
  let compared: Bytes | undefined;
  const full = new Set<string>();
  for (let attempt = 0; attempt < settlements; attempt++) {
    if (target === undefined) {
      const settled = await settle(to, place, full);
      if (settled.equal) {
        await describeEqual(to, place, settled);
        return { ...settled.stored, made: made || uncertain > 0, waits: false, uncertain };
      }
      target = settled.target;
      compared = settled.bytes;
    }
    let result: SendResult;
    try {
      result = await send(to, place, target, compared, full);
    } finally {
      await compared?.close();
      compared = undefined;
    }
    made ||= result.made;
    const { stored, waits } = result;
    // What a lost answer was about is there: it was gone on after.
    if (stored !== undefined) return { ...stored, made, waits, uncertain };
    uncertain += result.uncertain;
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
  /** Bytes whose append was refused in a way that says they may have arrived before. */
  uncertain: number;
  made: boolean;
  waits: boolean;
}

/** Reads the place from its start, checks that what is stored is its prefix, and appends the rest. */
async function send(
  to: Shipping,
  place: Place,
  target: Target,
  compared: Bytes | undefined,
  full: Set<string>,
): Promise<SendResult> {
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
      await compared?.unchanged();
      await bytes.unchanged();
      try {
        await to.nexus.append(to.agent, target.transcript, offset, chunk, {
          complete,
          about: aboutOf(to, place, times.seen()),
        });
      } catch (error) {
        if (failedWith(error, 'full')) {
          full.add(target.transcript);
          return 'refused';
        }
        if (!failedWith(error, 'conflict')) throw error;
        // Only after a try whose answer was lost may the bytes that are there be those of this run.
        return error.repeated && error.length === offset + chunk.length ? 'uncertain' : 'refused';
      }
      made ||= offset === 0 || chunk.length > 0;
      offset += chunk.length;
      hash.update(chunk);
      await to.progress(
        { transcript: target.transcript, length: offset, sha256: hash.copy().digest('hex') },
        chunk.length,
      );
      return 'stored';
    };
    const elsewhere = (how: 'refused' | 'uncertain', chunk: number): SendResult => ({
      uncertain: how === 'uncertain' ? chunk : 0,
      made,
      waits: false,
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
    if (to.headerWaits && !complete && offset === 0 && isOnlyHeader(chunk.subarray(0, waiting)))
      return { stored: freshTarget(target.transcript), uncertain: 0, made, waits: true };
    if (waiting > 0 || (complete && !target.complete)) {
      const how = await append(chunk.subarray(0, waiting), complete);
      if (how !== 'stored') return elsewhere(how, waiting);
    } else await bytes.unchanged();
    const stored = { transcript: target.transcript, length: offset, sha256: hash.digest('hex') };
    return { stored, uncertain: 0, made, waits: false };
  } finally {
    await bytes.close();
  }
}

/**
 * True for a lone `session` record. OpenClaw makes one at a reset and writes it anew, with another `cwd`, at the next
 * turn (seen in 2026.7.35): shipped as it is, it would take the name that the conversation shall have.
 */
function isOnlyHeader(bytes: Buffer): boolean {
  if (bytes.length > longestHeader || bytes.indexOf(10) !== bytes.length - 1) return false;
  return /^\s*\{\s*"type"\s*:\s*"session"/.test(bytes.toString('utf8'));
}

const longestHeader = 64 * 1024;

type Settled =
  | { equal: true; stored: Stored; card: Card | undefined }
  /** `bytes` are those that were compared, still open: what is sent must be theirs. Absent where nothing was. */
  | { equal: false; target: Target; bytes?: Bytes };

/**
 * Walks X, X~2, X~3, … to the first that is absent and says where the place's bytes belong: equal to a stored
 * history or a prefix of it, nothing is to be sent; else after the longest that is their prefix; else in the next
 * free one.
 */
async function settle(to: Shipping, place: Place, full: ReadonlySet<string>): Promise<Settled> {
  const cards: Card[] = [];
  for (;;) {
    const next = historyOf(place.transcript, cards.length + 1);
    const card = await to.nexus.stat(to.agent, next, { digest: 'stored' });
    if (card === undefined) break;
    cards.push(card);
  }
  if (cards.length === 0) return { equal: false, target: freshTarget(place.transcript) };

  const bytes = await place.open();
  let kept = false;
  try {
    const lengths = cards.map((card) => card.length);
    const here = await measureOpened(bytes, lengths, to.signal);
    const whole = { length: here.length, sha256: here.sha256 };
    const equal = cards.find((card) => card.length === here.length && card.digest === here.sha256);
    if (equal) return { equal: true, stored: { transcript: equal.transcript, ...whole }, card: equal };
    for (const card of cards) {
      if (card.length <= here.length) continue;
      if ((await storedPrefix(to, card.transcript, here.length)) === here.sha256)
        return { equal: true, stored: { transcript: card.transcript, ...whole }, card: undefined };
    }
    kept = true;
    const prefixes = cards
      .filter((card) => card.length < here.length && !full.has(card.transcript))
      .filter((card) => here.prefixes.get(card.length) === card.digest)
      .sort((a, b) => b.length - a.length);
    const longest = prefixes[0];
    if (longest?.digest === undefined)
      return { equal: false, target: freshTarget(historyOf(place.transcript, cards.length + 1)), bytes };
    const { transcript, length, digest, complete } = longest;
    return { equal: false, target: { transcript, length, sha256: digest, complete }, bytes };
  } finally {
    if (!kept) await bytes.close();
  }
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

/** SHA-256 of a place's bytes as they are now, and how many they are. */
export async function measure(
  place: Place,
  signal: AbortSignal,
): Promise<{ length: number; sha256: string }> {
  const bytes = await place.open();
  try {
    return await measureOpened(bytes, [], signal);
  } finally {
    await bytes.close();
  }
}

/** SHA-256 of bytes, whole and up to each of `lengths`. */
async function measureOpened(
  bytes: Bytes,
  lengths: readonly number[],
  signal: AbortSignal,
): Promise<{ length: number; sha256: string; prefixes: Map<number, string> }> {
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
}

/** SHA-256 of the first `length` stored bytes of a transcript, as they are read now; `undefined` when it has fewer. */
export async function storedDigest(
  to: Pick<Shipping, 'nexus' | 'agent' | 'signal'>,
  transcript: string,
  length: number,
): Promise<string | undefined> {
  const card = await to.nexus.stat(to.agent, transcript, { digest: 'reread' });
  if (card === undefined || card.length < length) return undefined;
  return card.length === length ? card.digest : await storedPrefix(to, transcript, length);
}

async function storedPrefix(
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
