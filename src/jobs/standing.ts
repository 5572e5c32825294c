import type { Config } from '../config.ts';
import { NexusError } from '../errors.ts';
import { listAgent } from '../openclaw/agent.ts';
import type { State } from '../openclaw/locate.ts';
import { copyKinds, isQuiet, type Place, type Unreadable } from '../openclaw/source.ts';
import type { Era } from '../transcripts.ts';
import { timeOf } from './eventtimes.ts';
import { aliasOf } from './choosing.ts';
import type { Ledger } from './ledger.ts';
import { hasExactSize, isWaiting, isShipped } from './sortout.ts';

/** Transcripts of one era of one agent, counted by where they stand. */
export interface EraStanding {
  found: number;
  shipped: number;
  /** Never shipped, or grown since. */
  unshipped: number;
  /** Of the unshipped: complete or quiet, so that the next run ships them. */
  due: number;
  bytes: number;
}

/** How one agent stands: what OpenClaw has of it, and what of that is in the archive. */
export interface Standing {
  agent: string;
  /** Its id in Nexus. */
  as: string;
  eras: Partial<Record<Era, EraStanding>>;
  /** Time of the oldest event that is not shipped, and when OpenClaw deletes the first of the unshipped. */
  oldestUnshippedAt?: string;
  prunedAt?: string;
  /** The unshipped transcript that OpenClaw deletes first. */
  prunedFirst?: string;
  oversized: string[];
  /** What looks like a transcript and is not shipped, with why. */
  refused: { item: string; reason: string }[];
  unreadable: Unreadable[];
}

/** Looks at one agent and compares with the ledger; opens only some of what is not shipped, for its times. */
export async function standingOf(
  state: State,
  agent: State['agents'][number],
  config: Config,
  ledger: Ledger | undefined,
  store: string,
  now: number,
): Promise<Standing> {
  const as = aliasOf(config, agent.id);
  const settleMs = config.settleMinutes * 60_000;
  const listing = await listAgent(state, agent, { everything: true, now, settleMs });
  const shipped = ledger?.shipped(store, as);
  const { skipped: refused, unreadable } = listing;
  const standing: Standing = { agent: agent.id, as, eras: {}, oversized: [], refused, unreadable };
  let opened = 0;
  let oldest = Number.POSITIVE_INFINITY;
  let pruned = Number.POSITIVE_INFINITY;
  for (const place of listing.places) {
    if (copyKinds.has(place.kind)) continue;
    const era: EraStanding = (standing.eras[place.era] ??= {
      found: 0,
      shipped: 0,
      unshipped: 0,
      due: 0,
      bytes: 0,
    });
    era.found++;
    const row = shipped?.get(place.place);
    // What a database holds of a transcript is only guessed before it is read.
    era.bytes += row?.length ?? place.size;
    if (row !== undefined && isShipped(place, row)) {
      if (isWaiting(place, row)) era.unshipped++;
      else era.shipped++;
      continue;
    }
    era.unshipped++;
    if (config.maxTranscriptBytes > 0 && hasExactSize(place) && place.size > config.maxTranscriptBytes) {
      standing.oversized.push(place.place);
      continue;
    }
    if (isDue(place, now, settleMs)) era.due++;
    const since = opened++ < mostOpened ? await firstEventAfter(place, row?.length ?? 0) : undefined;
    oldest = Math.min(oldest, since ?? place.changedAt);
    if (place.prunedAt !== undefined && place.prunedAt < pruned) {
      pruned = place.prunedAt;
      standing.prunedFirst = place.place;
    }
  }
  if (Number.isFinite(oldest)) standing.oldestUnshippedAt = new Date(oldest).toISOString();
  if (Number.isFinite(pruned)) standing.prunedAt = new Date(pruned).toISOString();
  return standing;
}

/** Beyond this many, the last change of a transcript stands for its oldest unshipped event. */
const mostOpened = 100;

/** Time of the first record after `length` bytes, ms since 1970; `undefined` when it has none that can be read. */
async function firstEventAfter(place: Place, length: number): Promise<number | undefined> {
  try {
    const bytes = await place.open();
    try {
      const record: Buffer[] = [];
      let read = 0;
      for await (const piece of bytes.pieces()) {
        const rest = Buffer.from(piece.subarray(Math.max(0, Math.min(piece.length, length - read))));
        read += piece.length;
        const end = rest.indexOf(10);
        record.push(end === -1 ? rest : rest.subarray(0, end));
        if (end !== -1) break;
      }
      const time = timeOf(Buffer.concat(record));
      return time === undefined ? undefined : Date.parse(time);
    } finally {
      await bytes.close();
    }
  } catch (error) {
    // Gone or changed since the listing, or unreadable, which the listing or the next run tells.
    if (error instanceof NexusError) return undefined;
    throw error;
  }
}

function isDue(place: Place, now: number, settleMs: number): boolean {
  return place.complete === true || isQuiet(place.changedAt, now, settleMs);
}
