import { describe, failedWith, NexusError } from '../errors.ts';
import type { Nexus } from '../nexus.ts';
import { fileIdentity, listedByBackfillOnly, moveToArchive } from '../openclaw/archive.ts';
import { copyKinds, type Listing, type Place } from '../openclaw/source.ts';
import { type Audit, type FailedItem, skip } from '../report.ts';
import type { KnownKey, Ledger, Shipped } from './ledger.ts';
import { openTrust, type Trust } from './marks.ts';
import { measure, ship, type Shipping, storedPrefix, type Target } from './ship.ts';

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
}

/** One agent's part of a run. */
export interface AgentRun extends Preview {
  nexus: Nexus;
  host: string;
  signal: AbortSignal;
  fail(item: FailedItem): void;
  warn(message: string): void;
  /** Bytes of a place were stored. */
  storedBytes(bytes: number): void;
  /** Tells how often in a row Nexus could not be reached, over all agents. */
  outages: { inARow: number };
}

/** What it takes to say what a run would do. */
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
}

/** After this many items in a row that found Nexus unavailable the rest are not tried: each costs all its retries. */
const outagesToGiveUp = 3;

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

/** Counts in the audit what a run would do; reads the ledger and nothing else. */
export function previewAgent(preview: Preview): void {
  const shipped = preview.ledger.shipped(preview.store, preview.agent);
  for (const place of sortOut(preview, shipped, undefined)) {
    const row = shipped.get(place.place);
    if (row !== undefined && row.signature === place.signature) preview.audit.already++;
    else {
      preview.audit.stored++;
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
export async function runAgent(run: AgentRun): Promise<void> {
  const { ledger, options } = run;
  const trust = await openTrust(run.nexus, ledger, run.store, run.agent, run.host);
  const shipped = ledger.shipped(run.store, run.agent);
  const work = new Map<string, Place[]>();
  for (const place of sortOut(run, shipped, trust.unsure)) {
    const group = work.get(place.transcript);
    if (group) group.push(place);
    else work.set(place.transcript, [place]);
  }
  const keys = rememberKeys(run);
  const sure = work.size === 0 ? [] : [...shipped.values()].filter((row) => row.mark !== trust.unsure);
  const siblings = longestByName(sure);
  await inParallel([...work.values()], options.concurrency, async (group) => {
    group.sort((a, b) => kindOrder[a.kind] - kindOrder[b.kind] || a.changedAt - b.changedAt);
    for (const place of group) {
      if (run.signal.aborted) return;
      await dealWith(run, trust, withKnownKey(place, keys), shipped.get(place.place), {
        sibling: siblings.get(place.transcript),
        first: place === group[0],
      });
    }
  });
  if (run.signal.aborted) return;
  forgetVanished(run, shipped);
  await trust.end();
}

/** The places that need work; the others are counted. */
function sortOut(run: Preview, shipped: Map<string, Shipped>, unsure: string | undefined): Place[] {
  const { audit } = run;
  const work: Place[] = [];
  for (const place of run.listing.places) {
    audit.found++;
    const row = shipped.get(place.place);
    const reason = reasonToSkip(run, place, row);
    const settled = row?.mark !== unsure || unsure === undefined;
    if (reason === undefined || (reason === 'unchanged' && (!settled || dueToMove(run, place)))) {
      work.push(place);
      continue;
    }
    if (reason === 'unchanged') audit.already++;
    else skip(audit, reason);
    if (reason === tooLarge) run.oversized({ item: place.place, reason: `${place.size} bytes, ${tooLarge}` });
    run.settledPlace(place);
  }
  for (const { reason } of run.listing.skipped) {
    audit.found++;
    skip(audit, reason);
  }
  return work;
}

const tooLarge = 'larger than maxTranscriptBytes';

function reasonToSkip(run: Preview, place: Place, row: Shipped | undefined): string | undefined {
  const { options } = run;
  if (copyKinds.has(place.kind) && !options.all) return 'copy of a transcript (shipped with --all)';
  if (options.since !== undefined && place.changedAt < options.since) return 'before --since';
  if (options.until !== undefined && place.changedAt >= options.until) return 'not before --until';
  const told = row !== undefined && (row.complete || place.complete !== true);
  if (told && row.signature === place.signature && !options.verify) return 'unchanged';
  if (options.maxTranscriptBytes > 0 && place.size > options.maxTranscriptBytes) return tooLarge;
  if (options.quietMs !== undefined && place.complete !== true && run.now - place.changedAt < options.quietMs)
    return 'active, waiting to be quiet';
  return undefined;
}

function dueToMove(run: Preview, place: Place): boolean {
  if (run.options.afterUpload === 'keep') return false;
  if (place.movable === 'closed') return true;
  return place.movable === 'left' && run.now - place.changedAt >= run.options.archiveAfterMs;
}

/** Ships one place and moves it if that is due; its failure is noted and does not stop the others. */
async function dealWith(
  run: AgentRun,
  trust: Trust,
  place: Place,
  row: Shipped | undefined,
  hints: { sibling: Shipped | undefined; first: boolean },
): Promise<void> {
  const { audit } = run;
  let stored = 0;
  try {
    if (run.outages.inARow >= outagesToGiveUp)
      throw new NexusError(
        'unavailable',
        'Not tried, because Nexus could not be reached for the items before.',
      );
    const believed = row === undefined ? undefined : await believe(run, trust, row);
    const unchanged = believed?.signature === place.signature && !run.options.verify;
    let whole: Target | undefined = believed;
    let made = false;
    if (!unchanged || (place.complete === true && !believed?.complete)) {
      const mark = await trust.mark();
      const note = (known: Omit<Shipped, 'place' | 'mark'>) =>
        run.ledger.record(run.store, run.agent, { ...known, place: place.place, mark });
      const to: Shipping = {
        nexus: run.nexus,
        agent: run.agent,
        host: run.host,
        chunkBytes: run.options.chunkBytes,
        signal: run.signal,
        async progress(known, bytes) {
          stored += bytes;
          run.storedBytes(bytes);
          // No place has an empty signature: the next run opens it again and goes on from here.
          note({ ...known, signature: '', complete: false });
        },
      };
      const outcome = await ship(to, place, {
        known: run.options.verify ? undefined : (believed ?? hints.sibling),
        settleFirst: run.options.verify || !hints.first || (trust.distrusted && trust.shippedBefore),
      });
      whole = { ...outcome, complete: place.complete === true };
      note({ ...whole, signature: place.signature });
      stored = outcome.sent;
      made = outcome.made;
    }
    if (run.options.verify && whole !== undefined) await verify(run, place, whole);
    if (whole !== undefined && dueToMove(run, place)) await move(run, trust, place, whole);
    run.outages.inARow = 0;
    if (stored > 0 || made) audit.stored++;
    else audit.already++;
  } catch (error) {
    if (run.signal.aborted) return;
    if (failedWith(error, 'changed')) {
      skip(audit, 'changed while it was read; the next run takes it up');
      run.warn(`${place.place}: ${describe(error)}`);
    } else {
      if (!(error instanceof NexusError))
        run.warn(`internal error: ${error instanceof Error ? error.stack : String(error)}`);
      run.outages.inARow = failedWith(error, 'unavailable') ? run.outages.inARow + 1 : 0;
      audit.failed++;
      run.fail({ item: place.place, reason: describe(error) });
    }
  } finally {
    audit.bytes += stored;
    run.settledPlace(place);
  }
}

/** A row of a run that did not end is believed, and recorded anew, when the archive has at least its bytes. */
async function believe(run: AgentRun, trust: Trust, row: Shipped): Promise<Shipped | undefined> {
  if (row.mark !== trust.unsure) return row;
  const card = await run.nexus.stat(run.agent, row.transcript);
  if (card === undefined || card.length < row.length) return undefined;
  const sure = { ...row, mark: await trust.mark() };
  run.ledger.record(run.store, run.agent, sure);
  return sure;
}

async function verify(run: AgentRun, place: Place, whole: Target): Promise<void> {
  const card = await run.nexus.stat(run.agent, whole.transcript, { digest: 'reread' });
  const stored =
    card !== undefined && card.length > whole.length
      ? await storedPrefix(run, whole.transcript, whole.length)
      : card?.digest;
  if (card === undefined ? whole.length > 0 : stored !== whole.sha256)
    throw new NexusError('corrupt', `What is stored of ${place.place} is not what is here.`);
  run.audit.verified = (run.audit.verified ?? 0) + 1;
}

/**
 * Moves a stored file away, after its bytes as they are now were compared with the stored ones by digest. What is
 * stored stays stored when the move is refused, so that is a warning.
 */
async function move(run: AgentRun, trust: Trust, place: Place, whole: Target): Promise<void> {
  const identity = await fileIdentity(place.place);
  const now = await measure(place, [], run.signal);
  // The bytes themselves are read back: this is the last look before the file leaves its place.
  const card = await run.nexus.stat(run.agent, whole.transcript, { digest: 'reread' });
  const stored =
    card !== undefined && card.length > now.length
      ? await storedPrefix(run, whole.transcript, now.length)
      : card?.digest;
  if (stored !== now.sha256)
    throw new NexusError('changed', 'Not moved to archive/: its bytes are not (yet) the stored ones.');
  let moved: { place: string; signature: string };
  try {
    moved = await moveToArchive(place.place, identity);
  } catch (error) {
    if (!failedWith(error, 'forbidden')) throw error;
    if (run.audit.notMoved === undefined) run.warn(describe(error));
    run.audit.notMoved = (run.audit.notMoved ?? 0) + 1;
    return;
  }
  run.audit.moved++;
  const row = { ...whole, ...moved, complete: true, mark: await trust.mark() };
  run.ledger.record(run.store, run.agent, row);
  run.ledger.forget(run.store, run.agent, place.place);
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
  const here = new Set(run.listing.places.map((place) => place.place));
  for (const place of shipped.keys())
    if (!here.has(place) && (run.options.everything || !listedByBackfillOnly(place)))
      run.ledger.forget(run.store, run.agent, place);
}

async function inParallel<T>(items: T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
}
