import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { agentIdPattern } from '../agents.ts';
import type { Config } from '../config.ts';
import { stoppedBy } from '../context.ts';
import { describe, NexusError } from '../errors.ts';
import type { Nexus } from '../nexus.ts';
import { isFresh } from '../open.ts';
import { listAgent } from '../openclaw/agent.ts';
import { locate, type State } from '../openclaw/locate.ts';
import type { Listing, Place } from '../openclaw/source.ts';
import { acquireLock, holderOf } from '../processlock.ts';
import { type Audit, closeReport, emptyAudit, type FailedItem, type Report } from '../report.ts';
import { previewAgent, runAgent } from './agentrun.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { watchOutages } from './outages.ts';
import type { RunOptions } from './sortout.ts';

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
  warn: (message: string) => void;
  progress: (state: Progress) => void;
}

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
  const warn = (message: string) => {
    report.warnings.push(message);
    around.warn(message);
  };
  const state = await locate(around.env);
  for (const warning of state.warnings) warn(warning);
  const chosen = chooseAgents(state, config, request.agents);

  // A dry run on a fresh machine leaves nothing behind, not even an empty store.
  const fresh = request.dryRun && isFresh(config);
  const ledger = openLedger(fresh ? ':memory:' : ledgerFile(config), warn);
  let nexus: Nexus | undefined;
  try {
    nexus = fresh ? undefined : await around.openNexus();
    const outages = nexus === undefined ? undefined : watchOutages(nexus);
    const store = nexus === undefined ? '' : await nexus.storeId();
    const candidates = await lookAt(request, around, state, chosen, report);
    const settings = runOptions(request, config);
    const tell = progressOver(candidates, around.progress);
    for (const { id, as, ...first } of candidates) {
      if (around.signal.aborted) break;
      const audit = emptyAudit();
      if (as !== id) audit.as = as;
      report.agents[id] = audit;
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
          oversized: (item: FailedItem) => report.oversized.push(item),
        };
      };
      if (outages === undefined || request.dryRun) {
        noteProblems(report, audit, first.listing);
        previewAgent(preview(first.listing));
        continue;
      }
      const work = async () => {
        const looking = lookingAgain(first, now);
        await runAgent({
          ...preview(await looking.listing(everythingAgainMs)),
          nexus: outages.nexus,
          outages,
          host: config.host,
          signal: around.signal,
          warn,
          storedBytes: tell.bytes,
          look: looking.place,
          listEverything: () => first.list('everything'),
          listed: (listing) => noteProblems(report, audit, listing),
          closedDirectories: new Set(),
          grown: new Set(),
          fail: (item) => report.failed.push(item),
        });
      };
      try {
        await underLock(config, as, request.job, report, id, work);
      } catch (error) {
        if (around.signal.aborted) break;
        // What concerns the whole agent: its marks, the ledger, its lock, or a bug.
        if (!(error instanceof NexusError))
          warn(`internal error: ${error instanceof Error ? error.stack : String(error)}`);
        outages.note(error);
        audit.found++;
        audit.failed++;
        report.failed.push({ item: `agent ${id}`, reason: describe(error) });
      }
    }
    const stopped = stoppedBy(around.signal);
    if (stopped !== undefined) report.interrupted = stopped;
    closeReport(report, now());
    if (!request.dryRun) remember(ledger, report, now(), warn);
    return { report, unavailable: outages?.last() ?? false };
  } finally {
    ledger.close();
    await nexus?.close();
  }
}

/**
 * Keeps the report of a run. One that left everything to another job is none; and of a watcher's many passes in which
 * nothing happened, one in ten minutes will do.
 */
function remember(ledger: Ledger, report: Report, at: Date, warn: (message: string) => void): void {
  if (Object.keys(report.agents).length === 0 && (report.busy ?? []).length > 0) return;
  try {
    const [last] = ledger.runs(report.job, 1);
    const uneventful = report.ok && report.done === 0 && last?.ok === true;
    if (uneventful && at.getTime() - Date.parse(last.endedAt) < betweenUneventfulMs) return;
    const { job, startedAt, ok } = report;
    ledger.addRun({ job, startedAt, endedAt: at.toISOString(), ok, report });
  } catch (error) {
    warn(`The report of this run could not be kept: ${describe(error)}`);
  }
}

const betweenUneventfulMs = 600_000;

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

/** The file of the ledger under a data directory. */
export function ledgerFile(config: Config): string {
  return path.join(config.dataDir, 'host', 'ledger.sqlite');
}

/** An agent's id in Nexus, which `agents.<id>.as` may set. */
export function aliasOf(config: Config, agent: string): string {
  return config.agents[agent]?.as ?? agent;
}

function chooseAgents(state: State, config: Config, wanted: readonly string[]): State['agents'] {
  const unknown = wanted.filter((id) => !state.agents.some((agent) => agent.id === id));
  if (unknown.length > 0) {
    const known = state.agents.map((agent) => agent.id).join(', ');
    throw new NexusError(
      'usage',
      `OpenClaw has no agent ${unknown.map((id) => JSON.stringify(id)).join(', ')}.`,
      {
        hint: known === '' ? `There is none in ${state.stateDir}.` : `It has: ${known}.`,
      },
    );
  }
  const kept = state.agents.filter(({ id }) => config.agents[id]?.skip !== true);
  for (const { id } of kept) {
    const other = kept.find((agent) => agent.id !== id && aliasOf(config, agent.id) === aliasOf(config, id));
    if (other !== undefined)
      throw new NexusError(
        'config',
        `The agents ${id} and ${other.id} would both be ${aliasOf(config, id)} in Nexus.`,
        { hint: `Give one of them another id: \`nexus config set agents.${id}.as NAME\`.` },
      );
  }
  return kept.filter(({ id }) => wanted.length === 0 || wanted.includes(id));
}

async function lookAt(
  request: JobRequest,
  around: JobSurroundings,
  state: State,
  agents: State['agents'],
  report: Report,
): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const agent of agents) {
    if (around.signal.aborted) break;
    const as = aliasOf(around.config, agent.id);
    if (!agentIdPattern.test(as)) {
      const hint = `Give it one: \`nexus config set agents.${agent.id}.as NAME\`.`;
      report.failed.push({ item: `agent ${agent.id}`, reason: `Its id cannot be one in Nexus. ${hint}` });
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
  };
}

/** What cannot be read, and what is refused though it looks like a transcript, has failed. */
function noteProblems(report: Report, audit: Audit, { unreadable, skipped }: Listing): void {
  for (const { path, reason, command } of unreadable)
    report.failed.push({ item: path, reason: `${reason} Look with \`${command}\`.` });
  for (const { item, reason } of skipped) report.failed.push({ item, reason: `Not shipped: ${reason}.` });
  audit.found += skipped.length + unreadable.length;
  audit.failed += unreadable.length + skipped.length;
}

/** One job at a time works on an agent; the kernel frees the lock of one that died. */
async function underLock(
  config: Config,
  agent: string,
  job: string,
  report: Report,
  id: string,
  work: () => Promise<void>,
): Promise<void> {
  const file = path.join(config.dataDir, 'host', 'locks', `${agent}.lock`);
  const since = new Date().toISOString();
  const holder = `\`nexus ${job}\` (pid ${process.pid} on ${config.host}, since ${since})`;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const lock = await acquireLock(file, { waitMs: 0, holder });
  if (lock === undefined) {
    const who = (await holderOf(file)) ?? 'another job';
    report.busy = [...(report.busy ?? []), { item: `agent ${id}`, reason: `Held by ${who}.` }];
    delete report.agents[id];
    return;
  }
  try {
    await work();
  } finally {
    await lock.release();
  }
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
