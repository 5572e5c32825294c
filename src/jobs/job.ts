import { agentIdPattern } from '../agents.ts';
import type { Config } from '../config.ts';
import { stoppedBy } from '../context.ts';
import { describe, NexusError } from '../errors.ts';
import { bug, codeIn, type Facts, type Say } from '../logline.ts';
import type { Nexus } from '../nexus.ts';
import { isFresh } from '../open.ts';
import { listAgent } from '../openclaw/agent.ts';
import { locate, type State } from '../openclaw/locate.ts';
import type { Listing, Place } from '../openclaw/source.ts';
import { type Audit, closeReport, emptyAudit, type FailedItem, type Report, skip } from '../report.ts';
import { underLock } from './agentlock.ts';
import { previewAgent, runAgent } from './agentrun.ts';
import { endBackfill } from './backfillend.ts';
import { aliasOf, chooseAgents } from './choosing.ts';
import { noteDamage } from './damage.ts';
import { type Failure, isSetAside, setAsideReason } from './failures.ts';
import { rememberRun } from './lastruns.ts';
import { ledgerFile, openLedger } from './ledger.ts';
import { type Missing, missingOf } from './missing.ts';
import { watchOutages } from './outages.ts';
import { leavePrices } from './prices.ts';
import { leftAlone, type RunOptions } from './sortout.ts';

/** What one `backfill` or `upload` is asked to do. */
export interface JobRequest {
  job: 'backfill' | 'upload';
  /** OpenClaw agent ids; empty means all. */
  agents: readonly string[];
  dryRun: boolean;
  /** List everything there is, and ship active transcripts as they are. */
  everything: boolean;
  all: boolean;
  verify: boolean;
  since?: number | undefined;
  until?: number | undefined;
  concurrency?: number | undefined;
}

export interface Progress {
  transcripts: number;
  transcriptsTotal: number;
  /** Bytes dealt with, stored or found to be stored. */
  bytes: number;
  bytesTotal: number;
}

export interface JobSurroundings {
  config: Config;
  /** Where OpenClaw's own names are looked up. */
  env: Record<string, string | undefined>;
  openNexus: () => Promise<Nexus>;
  signal: AbortSignal;
  now: () => Date;
  warn: Say;
  /** Told of each item when it fails; the report has them all. */
  failed?: (item: FailedItem, facts: Facts) => void;
  progress: (state: Progress) => void;
  /** To be told when it works on an agent, which nobody else does then. */
  begun?: () => void;
  /** It is one round of many that follow each other by seconds. */
  stays?: boolean;
}

type Fail = (item: FailedItem, facts: Facts) => void;

/** One agent of OpenClaw that this job works on. */
interface Candidate {
  id: string;
  /** Its id in Nexus. */
  as: string;
  listing: Listing;
  /** When it was made, ms since 1970. */
  listedAt: number;
  list: ListAgain;
}

/** Lists again: what the job asks for, only where files can still change, or all there is. */
type ListAgain = (what: 'asked' | 'changing' | 'everything') => Promise<Listing>;

/**
 * One run over OpenClaw's agents on this host, which resolves with the report of what became of each of them; what
 * goes wrong with one agent stands in it. Throws when nothing could begin: no state directory (`config`), an unknown
 * agent (`usage`), Nexus or its store cannot be opened. `report.ok` says whether all went well.
 */
export async function runJob(
  request: JobRequest,
  around: JobSurroundings,
): Promise<{ report: Report; unavailable: boolean }> {
  const { config, now } = around;
  const report: Report = {
    schemaVersion: 1,
    job: request.job,
    ok: false,
    startedAt: now().toISOString(),
    durationMs: 0,
    done: 0,
    already: 0,
    skipped: 0,
    failed: [],
    oversized: [],
    warnings: [],
    bytes: 0,
    moved: 0,
    agents: {},
    ...(request.dryRun ? { dryRun: true } : {}),
  };
  const warn: Say = (message, facts) => {
    report.warnings.push(message);
    around.warn(message, facts);
  };
  const fail: Fail = (item, facts) => {
    report.failed.push(item);
    around.failed?.(item, facts);
  };
  const state = await locate(around.env);
  for (const warning of state.warnings) warn(warning);
  const chosen = chooseAgents(state, config, request.agents);

  // A dry run on a fresh machine leaves nothing behind, not even an empty store.
  const fresh = request.dryRun && (await isFresh(config));
  const ledger = openLedger(fresh ? ':memory:' : ledgerFile(config), warn);
  let nexus: Nexus | undefined;
  try {
    nexus = fresh ? undefined : await around.openNexus();
    const outages = nexus === undefined ? undefined : watchOutages(nexus);
    const store = nexus === undefined ? '' : await nexus.storeId();
    const candidates = await lookAt(request, around, state, chosen, report, fail);
    const settings = runOptions(request, config);
    const missing = await missingHere(request, around, state, candidates, ledger.shippedAgents(store));
    noteMissing(missing, state.stateDir, fail);
    const tell = progressOver(candidates, around.progress);
    for (const { id, as, ...first } of candidates) {
      if (around.signal.aborted) break;
      const audit = emptyAudit();
      if (as !== id) audit.as = as;
      report.agents[id] = audit;
      const gone = missing.find(({ agent }) => agent === undefined || agent === id);
      if (gone !== undefined) {
        if (gone.agent === id) audit.found = audit.failed = 1;
        continue;
      }
      const preview = (listing: Listing) => {
        return {
          ledger,
          store,
          agent: as,
          listing,
          options: settings,
          now: now().getTime(),
          audit,
          settledPlace: tell.place,
          oversized: (item: FailedItem) => {
            report.oversized.push(item);
            around.failed?.(item, { agent: id, code: 'too_large' });
          },
          failures: ledger.failures(store, as),
          setAside: (item: FailedItem) => setAside(report, item),
        };
      };
      if (outages === undefined || request.dryRun) {
        noteProblems(report, id, audit, first.listing, fail, () => undefined);
        previewAgent(preview(first.listing));
        continue;
      }
      const work = async () => {
        around.begun?.();
        const looking = lookingAgain(first, now);
        const said: Say = (message, facts) => warn(message, { agent: id, ...facts });
        await runAgent({
          ...preview(await looking.listing(everythingAgainMs)),
          nexus: outages.nexus,
          outages,
          host: config.host,
          signal: around.signal,
          warn: said,
          storedBytes: tell.bytes,
          look: looking.place,
          listEverything: () => first.list('everything'),
          listed: (listing) => {
            const failures = ledger.failures(store, as);
            noteProblems(report, id, audit, listing, fail, (item, reason) => {
              const before = failures.get(item);
              if (isSetAside(before, reason, config.setAsideAfter)) return before;
              ledger.noteFailure(store, as, { item, reason, signature: reason }, now().getTime());
              return undefined;
            });
          },
          closedDirectories: new Set(),
          grown: new Set(),
          fail: (item, code) => fail(item, { agent: id, code }),
        });
        // What calls without a recorded cost are estimated by; a run that ships nothing asks nothing more.
        if (audit.stored > 0) await leavePrices(outages.nexus, as, config.host, state.prices, said);
      };
      try {
        const held = await underLock(config, as, request.job, work);
        if (held !== undefined) {
          report.busy = [...(report.busy ?? []), { item: `agent ${id}`, reason: held }];
          delete report.agents[id];
        }
      } catch (error) {
        if (around.signal.aborted) break;
        // What concerns the whole agent: its marks, the ledger, its lock, or a bug.
        if (!(error instanceof NexusError)) warn(...bug(error));
        outages.note(error);
        audit.found++;
        audit.failed++;
        fail({ item: `agent ${id}`, reason: describe(error) }, { agent: id, code: codeIn(error) });
      }
    }
    if (request.verify && nexus !== undefined && !request.dryRun && !around.signal.aborted)
      await noteDamage(nexus, report.failed, around.signal, warn, fail);
    const stopped = stoppedBy(around.signal);
    if (stopped !== undefined) report.interrupted = stopped;
    closeReport(report, now());
    if (!request.dryRun) rememberRun(ledger, report, report.done > 0, now(), warn, around.stays);
    const isWhole = request.job === 'upload' && request.agents.length === 0 && !request.dryRun;
    // A round of many would list everything every few seconds.
    if (isWhole && report.ok && (around.stays !== true || report.done > 0)) {
      const remaining = candidates.map(({ id, as, list }) => ({ id, as, list: () => list('everything') }));
      await endBackfill(ledger, store, remaining, settings, now);
    }
    return { report, unavailable: outages?.last() ?? false };
  } finally {
    ledger.close();
    await nexus?.close();
  }
}

/** A listing this old is made anew before an agent's turn, and before a file of it is moved. */
const everythingAgainMs = 2_000;
const placesAgainMs = 1_000;

/** An agent as it is now: the first listing may be hours old when a large backfill comes to it. */
function lookingAgain(first: { listing: Listing; listedAt: number; list: ListAgain }, now: () => Date) {
  let { listing, listedAt } = first;
  // A promise, so that several who ask at once share one listing.
  let places: Promise<Map<string, Place>> | undefined;
  return {
    async listing(mostMs: number): Promise<Listing> {
      if (now().getTime() - listedAt > mostMs) {
        const at = now().getTime();
        listing = await first.list('asked');
        listedAt = at;
      }
      return listing;
    },
    place: async (name: string): Promise<Place | undefined> => {
      if (places === undefined || now().getTime() - listedAt > placesAgainMs) {
        const at = now().getTime();
        const again = now().getTime() - listedAt > placesAgainMs;
        if (again) listedAt = at;
        places = (again ? first.list('changing') : Promise.resolve(listing)).then(
          (latest) => new Map(latest.places.map((place) => [place.place, place])),
        );
      }
      return (await places).get(name);
    },
  };
}

async function lookAt(
  request: JobRequest,
  around: JobSurroundings,
  state: State,
  agents: State['agents'],
  report: Report,
  fail: Fail,
): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const agent of agents) {
    if (around.signal.aborted) break;
    const as = aliasOf(around.config, agent.id);
    if (!agentIdPattern.test(as)) {
      const hint = `Give it one: \`nexus config set agents.${agent.id}.as NAME\`.`;
      const reason = `Its id cannot be one in Nexus. ${hint}`;
      fail({ item: `agent ${agent.id}`, reason }, { agent: agent.id, code: 'config' });
      report.agents[agent.id] = { ...emptyAudit(), found: 1, failed: 1 };
      continue;
    }
    const list: ListAgain = (what) =>
      listAgent(state, agent, {
        everything: what === 'everything' || (what === 'asked' && request.everything),
        now: around.now().getTime(),
        settleMs: around.config.settleMinutes * 60_000,
      });
    const listedAt = around.now().getTime();
    candidates.push({ id: agent.id, as, listing: await list('asked'), listedAt, list });
  }
  return candidates;
}

/** Of the agents that were asked for; all that there are have to be missing before OpenClaw is. */
async function missingHere(
  request: JobRequest,
  { config, signal }: JobSurroundings,
  state: State,
  candidates: readonly Candidate[],
  archived: ReadonlyMap<string, number>,
): Promise<Missing[]> {
  if (archived.size === 0 || signal.aborted) return [];
  const empty = new Set<string>();
  for (const { id, listing, list } of candidates)
    if (isEmpty(listing) && (request.everything || isEmpty(await list('everything')))) empty.add(id);
  const missing = missingOf(state, config, archived, (agent) => empty.has(agent));
  return missing.filter(({ agent }) => agent === undefined || candidates.some(({ id }) => id === agent));
}

function isEmpty({ places, skipped, unreadable }: Listing): boolean {
  return places.length + skipped.length + unreadable.length === 0;
}

function noteMissing(missing: readonly Missing[], stateDir: string, fail: Fail): void {
  for (const { agent, reason, next } of missing) {
    const item = agent === undefined ? stateDir : `agent ${agent}`;
    fail(
      { item, reason: `${reason} ${next}` },
      { ...(agent === undefined ? {} : { agent }), code: 'not_found' },
    );
  }
}

function runOptions(request: JobRequest, config: Config): RunOptions {
  return {
    all: request.all,
    since: request.since,
    until: request.until,
    verify: request.verify,
    quietMs: request.everything ? undefined : config.settleMinutes * 60_000,
    everything: request.everything,
    afterUpload: config.afterUpload,
    archiveAfterMs: config.archiveAfterHours * 3_600_000,
    maxTranscriptBytes: config.maxTranscriptBytes,
    concurrency: request.concurrency ?? config.concurrency,
    chunkBytes: config.chunkBytes,
    setAsideAfter: config.setAsideAfter,
  };
}

/**
 * What cannot be read, and what is refused though it looks like a transcript, has failed. `count` counts what is
 * refused, and says when it was so often that it is left alone; what cannot be read never is.
 */
function noteProblems(
  report: Report,
  agent: string,
  audit: Audit,
  { unreadable, skipped }: Listing,
  fail: Fail,
  count: (item: string, reason: string) => Failure | undefined,
): void {
  for (const { path, reason, command } of unreadable)
    fail({ item: path, reason: `${reason} Look with \`${command}\`.` }, { agent, code: 'forbidden' });
  audit.failed += unreadable.length;
  for (const { item, reason } of skipped) {
    const sentence = `Not shipped: ${reason}.`;
    const failure = count(item, sentence);
    if (failure === undefined) {
      audit.failed++;
      fail({ item, reason: sentence }, { agent, code: 'invalid' });
    } else {
      skip(audit, leftAlone);
      setAside(report, { item, reason: setAsideReason(failure) });
    }
  }
  audit.found += skipped.length + unreadable.length;
}

function setAside(report: Report, item: FailedItem): void {
  report.setAside = [...(report.setAside ?? []), item];
}

function progressOver(candidates: Candidate[], tell: (state: Progress) => void) {
  const places = candidates.flatMap(({ listing }) => listing.places);
  const state: Progress = {
    transcripts: 0,
    transcriptsTotal: places.length,
    bytes: 0,
    bytesTotal: places.reduce((sum, place) => sum + place.size, 0),
  };
  let settled = 0;
  return {
    place: (place: { size: number }) => {
      state.transcripts++;
      settled += place.size;
      state.bytes = Math.max(state.bytes, settled);
      tell(state);
    },
    bytes: (count: number) => {
      // A large transcript moves the bar while it is under way, never past what there is.
      state.bytes = Math.min(state.bytesTotal, state.bytes + count);
      tell(state);
    },
  };
}
