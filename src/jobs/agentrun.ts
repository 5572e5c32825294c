import { describe, failedWith, NexusError } from '../errors.ts';
import { bug, codeIn, type Say } from '../logline.ts';
import { listedByBackfillOnly } from '../openclaw/archive.ts';
import type { Listing, Place } from '../openclaw/source.ts';
import { type FailedItem, skip } from '../report.ts';
import { countsAgainstItem } from './failures.ts';
import type { KnownKey, Shipped } from './ledger.ts';
import { moveStored } from './moving.ts';
import type { Outages } from './outages.ts';
import { inParallel } from './parallel.ts';
import { measure, ship, type Shipping, storedDigest, type Target } from './ship.ts';
import {
  dueToMove,
  hasExactSize,
  isWaiting,
  isShipped,
  nothingFinished,
  type Preview,
  type RunOptions,
  sortOut,
  tooLarge,
} from './sortout.ts';
import { openTrust, type Trust } from './trust.ts';

export type { RunOptions };

/** One agent's part of a run. */
export interface AgentRun extends Preview {
  nexus: Outages['nexus'];
  outages: Outages;
  host: string;
  signal: AbortSignal;
  fail(item: FailedItem, code: string): void;
  warn: Say;
  /** Bytes of a place were stored. */
  storedBytes(bytes: number): void;
  /** The place as OpenClaw has it now, or at most seconds ago; `undefined` when it is gone. */
  look(place: string): Promise<Place | undefined>;
  listEverything(): Promise<Listing>;
  /** To be told of the listing that the run works on. */
  listed(listing: Listing): void;
  /** Transcripts that got bytes in this run. */
  grown: Set<string>;
  /** Directories of which a move was refused: not asked again in this run. */
  closedDirectories: Set<string>;
}

/** Counts in the audit what a run would do; reads the ledger and nothing else. */
export function previewAgent(preview: Preview): void {
  const shipped = preview.ledger.shipped(preview.store, preview.agent);
  const named = new Set<string>();
  for (const place of sortOut(preview, shipped, () => false)) {
    const row = shipped.get(place.place);
    if (row !== undefined && isShipped(place, row) && !isWaiting(place, row)) preview.audit.already++;
    else {
      preview.audit.stored++;
      if (!named.has(place.transcript)) preview.audit.transcripts++;
      named.add(place.transcript);
      preview.audit.bytes += Math.max(0, place.size - (row?.length ?? 0));
    }
    preview.settledPlace(place);
  }
}

/**
 * Ships what one agent's listing holds, each place counted in the audit exactly once: stored, already stored,
 * skipped with the reason, or failed with the reason. Places of one name go one after another, the oldest first,
 * so that what becomes `X` and what `X~2` does not depend on chance; different names go several at once.
 */
export async function runAgent(given: AgentRun): Promise<void> {
  const trust = await openTrust(given.nexus, given.ledger, given.store, given.agent, given.host);
  const run = trust.anew ? await withEverything(given) : given;
  run.listed(run.listing);
  const shipped = run.ledger.shipped(run.store, run.agent);
  const work = new Map<string, Place[]>();
  for (const place of sortOut(run, shipped, trust.isUnsure)) {
    const group = work.get(place.transcript);
    if (group) group.push(place);
    else work.set(place.transcript, [place]);
  }
  const keys = rememberKeys(run);
  const sure = work.size === 0 ? [] : [...shipped.values()].filter((row) => !trust.isUnsure(row));
  const siblings = longestByName(sure);
  await inParallel([...work.values()], run.options.concurrency, async (group) => {
    group.sort((a, b) => kindOrder[a.kind] - kindOrder[b.kind] || a.changedAt - b.changedAt);
    for (const place of group) {
      if (run.signal.aborted) return;
      await dealWith(run, trust, withKnownKey(place, keys), {
        row: shipped.get(place.place),
        sibling: siblings.get(place.transcript),
        first: place === group[0],
      });
    }
  });
  if (run.signal.aborted) return;
  forgetVanished(run, shipped);
  await trust.end();
}

/** The same run over all that there is, `archive/` and imports included. */
async function withEverything(run: AgentRun): Promise<AgentRun> {
  if (run.options.everything) return run;
  return { ...run, listing: await run.listEverything(), options: { ...run.options, everything: true } };
}

const kindOrder: Record<Place['kind'], number> = {
  archived: 0,
  reset: 0,
  deleted: 0,
  'archive-row': 0,
  cold: 1,
  imported: 1,
  plain: 2,
  rows: 3,
  backup: 4,
  corrupt: 4,
  checkpoint: 5,
};

interface Hints {
  /** What the ledger says of the place. */
  row: Shipped | undefined;
  /** The longest that was shipped under its name. */
  sibling: Shipped | undefined;
  /** No other place of its name goes before it in this run. */
  first: boolean;
}

/** Ships one place and moves it if that is due; its failure is noted and does not stop the others. */
async function dealWith(run: AgentRun, trust: Trust, place: Place, hints: Hints): Promise<void> {
  const { audit, outages } = run;
  if (outages.givenUp()) {
    audit.failed++;
    run.fail(
      {
        item: place.place,
        reason: 'Not tried, because Nexus could not be reached for the items before.',
      },
      'unavailable',
    );
    run.settledPlace(place);
    return;
  }
  let bytes = 0;
  try {
    const row = hints.row === undefined ? undefined : await believe(run, trust, hints.row);
    if (run.options.verify && row !== undefined) await stillThere(run, place, row);
    const settled =
      row !== undefined && isShipped(place, row) && !isWaiting(place, row) && !run.options.verify;
    const result = settled
      ? { stored: row, made: false, skipped: undefined }
      : await shipPlace(run, trust, place, { ...hints, row }, (sent) => (bytes += sent));
    if (result.skipped !== undefined) {
      skip(audit, result.skipped);
      if (result.skipped === tooLarge) run.oversized({ item: place.place, reason: tooLarge });
    } else {
      if (run.options.verify) await verify(run, place, result.stored);
      if (dueToMove(run, place)) await moveStored(run, trust, place, result.stored);
      if (bytes > 0 || result.made) {
        audit.stored++;
        if (!run.grown.has(result.stored.transcript)) audit.transcripts++;
        run.grown.add(result.stored.transcript);
      } else audit.already++;
    }
    outages.note(undefined);
    if (run.failures.has(place.place)) run.ledger.forgetFailure(run.store, run.agent, place.place);
  } catch (error) {
    if (run.signal.aborted) return;
    outages.note(error);
    if (failedWith(error, 'changed')) {
      skip(audit, 'changed while it was read; the next run takes it up');
      run.warn(`${place.place}: ${describe(error)}`, { item: place.place, code: error.code });
    } else {
      if (!(error instanceof NexusError)) run.warn(...bug(error));
      audit.failed++;
      const failed = { item: place.place, reason: describe(error) };
      if (countsAgainstItem(error))
        run.ledger.noteFailure(run.store, run.agent, { ...failed, signature: place.signature }, run.now);
      run.fail(failed, codeIn(error));
    }
  } finally {
    audit.bytes += bytes;
    run.settledPlace(place);
  }
}

async function shipPlace(
  run: AgentRun,
  trust: Trust,
  place: Place,
  { row, sibling, first }: Hints,
  sent: (bytes: number) => void,
): Promise<{ stored: Target; made: boolean; skipped: string | undefined }> {
  const { options } = run;
  const mark = await trust.mark();
  const note = (known: Target & { signature: string }) =>
    run.ledger.record(run.store, run.agent, { ...known, place: place.place, mark, at: run.now });
  const nothing: Target = { transcript: place.transcript, length: 0, sha256: '', complete: false };
  if (options.maxTranscriptBytes > 0 && !hasExactSize(place)) {
    const { length } = await measure(place, run.signal);
    if (length > options.maxTranscriptBytes) return { stored: nothing, made: false, skipped: tooLarge };
  }
  const to: Shipping = {
    nexus: run.nexus,
    agent: run.agent,
    host: run.host,
    chunkBytes: options.chunkBytes,
    signal: run.signal,
    headerWaits: options.quietMs !== undefined && place.era === 'file',
    async progress(known, bytes) {
      sent(bytes);
      run.storedBytes(bytes);
      // No place has an empty signature: the next run opens it again and goes on from here.
      note({ ...known, signature: '', complete: false });
    },
  };
  const outcome = await ship(to, place, {
    known: options.verify ? undefined : (row ?? sibling),
    settleFirst: options.verify || !first || trust.lost,
  });
  const { transcript, length, sha256, made, waits, uncertain } = outcome;
  sent(uncertain);
  const stored = { transcript, length, sha256, complete: place.complete === true };
  note({ ...stored, signature: place.signature });
  const nothingYet = waits || (length === 0 && !made && place.complete !== true);
  return { stored, made, skipped: nothingYet ? nothingFinished : undefined };
}

/** A row of a run that did not end is believed, and recorded anew, when the archive has at least its bytes. */
async function believe(run: AgentRun, trust: Trust, row: Shipped): Promise<Shipped | undefined> {
  if (!trust.isUnsure(row)) return row;
  const card = await run.nexus.stat(run.agent, row.transcript);
  if (card === undefined || card.length < row.length) return undefined;
  const sure = { ...row, mark: await trust.mark() };
  run.ledger.record(run.store, run.agent, sure);
  return sure;
}

async function verify(run: AgentRun, place: Place, whole: Target): Promise<void> {
  const missing = whole.length > 0 || place.complete === true;
  const digest = await storedDigest(run, whole.transcript, whole.length);
  if (digest === undefined ? missing : digest !== whole.sha256)
    throw new NexusError('corrupt', `What is stored of ${place.place} is not what is here.`);
  run.audit.verified = (run.audit.verified ?? 0) + 1;
}

/** What was shipped and has changed since is damage, and no other history to store beside it. */
async function stillThere(run: AgentRun, place: Place, row: Shipped): Promise<void> {
  const digest = await storedDigest(run, row.transcript, row.length);
  if (digest !== undefined && digest !== row.sha256)
    throw new NexusError('corrupt', `What is stored of ${place.place} is not what was shipped.`);
}

/** A reset takes a session's key away from it in OpenClaw; the ledger keeps what was seen. */
function rememberKeys(run: AgentRun): Map<string, KnownKey> {
  const keys = run.ledger.keys(run.agent);
  for (const { sessionId, about } of run.listing.places) {
    if (about.sessionKey === undefined || keys.get(sessionId)?.sessionKey === about.sessionKey) continue;
    const key: KnownKey = { sessionKey: about.sessionKey };
    const known = about.trigger === undefined ? key : { ...key, trigger: about.trigger };
    keys.set(sessionId, known);
    run.ledger.rememberKey(run.agent, sessionId, known);
  }
  return keys;
}

function withKnownKey(place: Place, keys: Map<string, KnownKey>): Place {
  const known = keys.get(place.sessionId);
  if (place.about.sessionKey !== undefined || known === undefined) return place;
  return { ...place, about: { ...place.about, ...known } };
}

/** Per name the longest that was shipped: where a file that was renamed since goes on. */
function longestByName(rows: Iterable<Shipped>): Map<string, Shipped> {
  const longest = new Map<string, Shipped>();
  for (const row of rows) {
    const name = row.transcript.replace(/~\d+$/, '');
    if (row.length > (longest.get(name)?.length ?? 0)) longest.set(name, row);
  }
  return longest;
}

/** Rows of places that are gone would pile up; what they said is found again by content. */
function forgetVanished(run: AgentRun, shipped: Map<string, Shipped>): void {
  if (run.listing.unreadable.length > 0) return;
  const { places, skipped } = run.listing;
  const here = new Set([...places.map((place) => place.place), ...skipped.map(({ item }) => item)]);
  // Where nothing is left at all, its disk may not be mounted: without these nobody would know what is missing.
  if (here.size > 0)
    for (const place of shipped.keys()) if (isGone(place)) run.ledger.forget(run.store, run.agent, place);
  const signatures = new Map(places.map(({ place, signature }) => [place, signature]));
  // One that is another by now, and not refused any more, has not failed yet.
  for (const { item, signature } of run.ledger.failures(run.store, run.agent).values())
    if (isGone(item) || (signatures.get(item) ?? signature) !== signature)
      run.ledger.forgetFailure(run.store, run.agent, item);

  function isGone(place: string): boolean {
    return !here.has(place) && (run.options.everything || !listedByBackfillOnly(place));
  }
}
