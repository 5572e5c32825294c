import { copyKinds, isQuiet, type Listing, type Place } from '../openclaw/source.ts';
import { type Audit, type FailedItem, skip } from '../report.ts';
import { type Failure, isSetAside, setAsideReason } from './failures.ts';
import type { Ledger, Shipped } from './ledger.ts';

/** How one run treats what it finds. Times in ms. */
export interface RunOptions {
  /** Ship checkpoints, backups and damaged copies too. */
  all: boolean;
  /** Only places that last changed in [since, until), ms since 1970. */
  since: number | undefined;
  until: number | undefined;
  /** Active transcripts wait until they have been quiet this long; `undefined` ships them as they are. */
  quietMs: number | undefined;
  /** Read everything again, here and in the archive. */
  verify: boolean;
  /** The listing holds everything there is, so a place that is not in it is gone. */
  everything: boolean;
  afterUpload: 'archive' | 'keep';
  archiveAfterMs: number;
  /** 0: no limit. */
  maxTranscriptBytes: number;
  concurrency: number;
  chunkBytes: number;
  /** How often, over at least a day, a place fails before it is left alone. */
  setAsideAfter: number;
}

/** What it takes to say what a run would do for one agent. */
export interface Preview {
  ledger: Ledger;
  /** The store's id. */
  store: string;
  /** The agent's id in Nexus. */
  agent: string;
  listing: Listing;
  options: RunOptions;
  now: number;
  audit: Audit;
  /** Progress: a place is dealt with. */
  settledPlace(place: Place): void;
  /** A place is larger than the operator allows. */
  oversized(item: FailedItem): void;
  /** What failed before, by place. */
  failures: ReadonlyMap<string, Failure>;
  /** A place has failed too often and is left alone. */
  setAside(item: FailedItem): void;
}

/** An active transcript that is never quiet is shipped all the same once this many quiet times have passed. */
const quietTimesAtMost = 6;

export const tooLarge = 'larger than maxTranscriptBytes';
export const leftAlone = 'set aside after many failures';
export const nothingFinished = 'active, nothing but a header is finished yet';

/**
 * The places that need work; the others are counted in the audit. `ask` says of which rows the archive must be asked
 * before they are believed.
 */
export function sortOut(
  run: Preview,
  shipped: Map<string, Shipped>,
  ask: (row: Shipped) => boolean,
): Place[] {
  const { audit } = run;
  const work: Place[] = [];
  for (const place of run.listing.places) {
    audit.found++;
    const row = shipped.get(place.place);
    const verdict = judge(run, place, row);
    if (
      verdict === 'ship' ||
      (verdict === 'shipped' && row !== undefined && (ask(row) || dueToMove(run, place)))
    ) {
      const failure = run.failures.get(place.place);
      if (!isSetAside(failure, place.signature, run.options.setAsideAfter)) {
        work.push(place);
        continue;
      }
      skip(audit, leftAlone);
      run.setAside({ item: place.place, reason: setAsideReason(failure) });
    } else if (verdict === 'shipped') audit.already++;
    else skip(audit, verdict);
    if (verdict === tooLarge)
      run.oversized({ item: place.place, reason: `${place.size} bytes, ${tooLarge}` });
    run.settledPlace(place);
  }
  return work;
}

/** `shipped`, `ship`, or why it is skipped. */
function judge(run: Preview, place: Place, row: Shipped | undefined): string {
  const { options, now } = run;
  if (copyKinds.has(place.kind) && !options.all) return 'copy of a transcript (shipped with --all)';
  if (options.since !== undefined && place.changedAt < options.since) return 'before --since';
  if (options.until !== undefined && place.changedAt >= options.until) return 'not before --until';
  if (row !== undefined && isShipped(place, row) && !options.verify) {
    if (!isWaiting(place, row)) return 'shipped';
    if (row.length > 0) return 'active, its last line is not finished';
    return options.quietMs === undefined ? 'ship' : nothingFinished;
  }
  if (options.maxTranscriptBytes > 0 && hasExactSize(place) && place.size > options.maxTranscriptBytes)
    return tooLarge;
  if (options.quietMs === undefined || place.complete === true) return 'ship';
  const waited = now - (row?.at ?? place.bornAt ?? now);
  const quiet =
    isQuiet(place.changedAt, now, options.quietMs) || waited >= options.quietMs * quietTimesAtMost;
  return quiet ? 'ship' : 'active, waiting to be quiet';
}

/** All that is there was shipped, and the archive was told when it is complete. */
export function isShipped(place: Place, row: Shipped): boolean {
  return row.signature === place.signature && (row.complete || place.complete !== true);
}

/** Not all that was found there is stored: the last line is not finished, or there is only a header so far. */
export function isWaiting(place: Place, row: Shipped): boolean {
  if (place.complete === true) return false;
  return hasExactSize(place) ? row.length < place.size : row.length === 0 && place.size > 0;
}

/** Of a compressed place and of rows the listing only guesses how many bytes they are. */
export function hasExactSize(place: Place): boolean {
  return place.era === 'file' && !place.place.endsWith('.zst');
}

export function dueToMove(run: Preview, place: Place): boolean {
  if (run.options.afterUpload === 'keep') return false;
  if (place.movable === 'closed') return true;
  return place.movable === 'left' && run.now - place.changedAt >= run.options.archiveAfterMs;
}
