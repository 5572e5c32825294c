import type { Config } from '../config.ts';
import { listAgent } from '../openclaw/agent.ts';
import type { State } from '../openclaw/locate.ts';
import { copyKinds, type Place, type Unreadable } from '../openclaw/source.ts';
import type { Era } from '../transcripts.ts';
import { aliasOf } from './job.ts';
import type { Ledger } from './ledger.ts';

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
  /** Last change of the transcript that has waited longest, and when OpenClaw deletes one of the unshipped. */
  oldestUnshippedAt?: string;
  prunedAt?: string;
  /** The unshipped transcript that OpenClaw deletes first. */
  prunedFirst?: string;
  oversized: string[];
  unreadable: Unreadable[];
}

/** Looks at one agent and compares with the ledger; opens no transcript. */
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
  const standing: Standing = { agent: agent.id, as, eras: {}, oversized: [], unreadable: listing.unreadable };
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
    if (row !== undefined && row.signature === place.signature && (row.complete || place.complete !== true)) {
      era.shipped++;
      continue;
    }
    era.unshipped++;
    if (config.maxTranscriptBytes > 0 && place.size > config.maxTranscriptBytes) {
      standing.oversized.push(place.place);
      continue;
    }
    if (isDue(place, now, settleMs)) era.due++;
    oldest = Math.min(oldest, place.changedAt);
    if (place.prunedAt !== undefined && place.prunedAt < pruned) {
      pruned = place.prunedAt;
      standing.prunedFirst = place.place;
    }
  }
  if (Number.isFinite(oldest)) standing.oldestUnshippedAt = new Date(oldest).toISOString();
  if (Number.isFinite(pruned)) standing.prunedAt = new Date(pruned).toISOString();
  return standing;
}

function isDue(place: Place, now: number, settleMs: number): boolean {
  return place.complete === true || now - place.changedAt >= settleMs;
}
