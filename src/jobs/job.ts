import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { agentIdPattern } from '../agents.ts';
import type { Config } from '../config.ts';
import { stoppedBy } from '../context.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import type { Nexus } from '../nexus.ts';
import { storeDirectory } from '../open.ts';
import { listAgent } from '../openclaw/agent.ts';
import { locate, type State } from '../openclaw/locate.ts';
import type { Listing, Unreadable } from '../openclaw/source.ts';
import { acquireLock, holderOf } from '../processlock.ts';
import { closeReport, emptyAudit, type FailedItem, type Report } from '../report.ts';
import { previewAgent, type RunOptions, runAgent } from './agentrun.ts';
import { openLedger } from './ledger.ts';

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
}

/**
 * One run over OpenClaw's agents on this host. Always resolves with the report of what became of each of them;
 * throws only when nothing could begin: no state directory (`config`), an unknown agent (`usage`), Nexus or its
 * store cannot be opened. `report.ok` says whether all went well.
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
  const fresh = request.dryRun && config.endpoint === undefined && !existsSync(storeDirectory(config));
  const nexus = fresh ? undefined : await around.openNexus();
  const ledger = openLedger(fresh ? ':memory:' : ledgerFile(config), warn);
  const outages = { inARow: 0 };
  try {
    const store = nexus === undefined ? '' : await nexus.storeId();
    const candidates = await lookAt(request, around, state, chosen, report);
    const settings = runOptions(request, config);
    const tell = progressOver(candidates, around.progress);
    for (const candidate of candidates) {
      if (around.signal.aborted) break;
      const { id, as, listing } = candidate;
      const audit = emptyAudit();
      if (as !== id) audit.as = as;
      report.agents[id] = audit;
      noteUnreadable(report, listing.unreadable);
      audit.failed += listing.unreadable.length;
      for (const { item, reason } of listing.skipped) warn(`${item} is not shipped: ${reason}.`);
      const preview = {
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
      if (request.dryRun || nexus === undefined) {
        previewAgent(preview);
        continue;
      }
      await underLock(config, as, request.job, report, id, async () => {
        try {
          await runAgent({
            ...preview,
            nexus,
            host: config.host,
            signal: around.signal,
            outages,
            warn,
            storedBytes: tell.bytes,
            fail: (item) => report.failed.push(item),
          });
        } catch (error) {
          if (around.signal.aborted) return;
          // Only what concerns the whole agent gets here: its marks, or a bug.
          if (!(error instanceof NexusError)) throw error;
          audit.failed++;
          report.failed.push({ item: `agent ${id}`, reason: describe(error) });
          if (failedWith(error, 'unavailable')) outages.inARow++;
        }
      });
    }
    const stopped = stoppedBy(around.signal);
    if (stopped !== undefined) report.interrupted = stopped;
    closeReport(report, now());
    if (!request.dryRun)
      ledger.addRun({
        job: request.job,
        startedAt: report.startedAt,
        endedAt: now().toISOString(),
        ok: report.ok,
        report,
      });
    return { report, unavailable: outages.inARow > 0 };
  } finally {
    ledger.close();
    await nexus?.close();
  }
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
  return state.agents.filter(
    ({ id }) => (wanted.length === 0 || wanted.includes(id)) && config.agents[id]?.skip !== true,
  );
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
      report.agents[agent.id] = { ...emptyAudit(), failed: 1 };
      continue;
    }
    const listing = await listAgent(state, agent, {
      everything: request.everything,
      now: around.now().getTime(),
      settleMs: around.config.settleMinutes * 60_000,
    });
    candidates.push({ id: agent.id, as, listing });
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

function noteUnreadable(report: Report, unreadable: Unreadable[]): void {
  for (const { path, reason, command } of unreadable)
    report.failed.push({ item: path, reason: `${reason} Look with \`${command}\`.` });
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
