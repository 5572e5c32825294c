import path from 'node:path';
import { watch as watchFiles } from 'chokidar';
import { stoppedBy } from '../context.ts';
import { describe, failedWith } from '../errors.ts';
import { codeIn, type Say } from '../logline.ts';
import { locate } from '../openclaw/locate.ts';
import { type Audit, closeReport, type Report } from '../report.ts';
import type { Rounds } from './attend.ts';
import { type JobRequest, type JobSurroundings, runJob } from './job.ts';

/** Changes that come together are one pass. */
const togetherMs = 2_000;

/** Without any change seen, a pass all the same: for what became quiet or complete, and for missed events. */
const longestPauseMs = 60_000;

/**
 * Uploads as OpenClaw writes, until the signal. A pass follows a change within seconds; what was active then is
 * shipped by a later one, when it has become quiet. An outage of Nexus does not end it, nor does another job that
 * holds an agent. Each warning is said once. The report sums up all passes; what failed is what failed in the last.
 */
export async function watch(
  request: JobRequest,
  around: JobSurroundings,
  passed: (report: Report) => void,
  rounds?: Rounds,
): Promise<{ report: Report; unavailable: boolean }> {
  const state = await locate(around.env);
  const directories = state.agents.flatMap((agent) => [
    agent.sessionsDir,
    ...agent.otherSessionsDirs,
    ...agent.databases.map((database) => path.dirname(database)),
  ]);
  const changes = await changesIn([...directories, path.join(state.stateDir, 'agents')], around.warn);
  const startedAt = around.now().toISOString();
  const said = new Set<string>();
  const once: JobSurroundings = {
    ...around,
    stays: true,
    // Every pass finds the same; saying it once is enough.
    warn(message, facts) {
      if (!said.has(message)) around.warn(message, facts);
      said.add(message);
    },
    failed(failure, facts) {
      const known = `${failure.item}\n${failure.reason}`;
      if (!said.has(known)) around.failed?.(failure, facts);
      said.add(known);
    },
  };
  let sum: Report | undefined;
  let unavailable = false;
  try {
    while (!around.signal.aborted) {
      changes.seen();
      const began = around.now();
      try {
        const pass = await runJob(request, once);
        rounds?.ended(pass.report);
        passed(pass.report);
        sum = sum === undefined ? pass.report : added(sum, pass.report);
        unavailable = pass.unavailable;
      } catch (error) {
        if (around.signal.aborted) break;
        if (!failedWith(error, 'unavailable', 'busy')) throw error;
        rounds?.fell(began, error);
        once.warn(describe(error), { code: codeIn(error) });
        unavailable = true;
      }
      await changes.next(around.signal);
    }
  } finally {
    await changes.close();
  }
  if (sum === undefined) throw around.signal.reason;
  const stopped = stoppedBy(around.signal);
  return {
    report: closeReport(
      { ...sum, startedAt, ...(stopped === undefined ? {} : { interrupted: stopped }) },
      around.now(),
    ),
    unavailable,
  };
}

/** The sum of what was done so far; found, already and skipped are how it stands now. */
function added(before: Report, pass: Report): Report {
  const agents: Record<string, Audit> = { ...before.agents };
  for (const [id, audit] of Object.entries(pass.agents)) {
    const earlier = agents[id];
    agents[id] = {
      ...audit,
      stored: audit.stored + (earlier?.stored ?? 0),
      transcripts: audit.transcripts + (earlier?.transcripts ?? 0),
      bytes: audit.bytes + (earlier?.bytes ?? 0),
      moved: audit.moved + (earlier?.moved ?? 0),
    };
  }
  return { ...pass, agents };
}

interface Changes {
  /** What changed so far is dealt with by the pass that begins now. */
  seen(): void;
  /** Resolves a moment after the next change, after the longest pause, or at the signal. */
  next(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Watches OpenClaw's directories; its own `archive/` and lock files say nothing new. */
async function changesIn(directories: string[], warn: Say): Promise<Changes> {
  let changed = false;
  let wake: (() => void) | undefined;
  const roots = [...new Set(directories)];
  const watcher = watchFiles(roots, {
    ignoreInitial: true,
    depth: 3,
    followSymlinks: false,
    ignored: (file) => /^archive$|\.lock$|\.tmp$|-shm$/.test(path.basename(file)) && !roots.includes(file),
  });
  watcher.on('all', () => {
    changed = true;
    wake?.();
  });
  watcher.on('error', (error) => warn(`Watching failed (${describe(error)}); looking every minute instead.`));
  await new Promise<void>((resolve) => watcher.once('ready', resolve));

  return {
    seen() {
      changed = false;
    },
    async next(signal) {
      if (signal.aborted) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const longest = setTimeout(resolve, longestPauseMs);
      wake = () => {
        wake = undefined;
        setTimeout(resolve, togetherMs);
      };
      const stop = () => resolve();
      signal.addEventListener('abort', stop, { once: true });
      if (changed) wake();
      await promise;
      signal.removeEventListener('abort', stop);
      clearTimeout(longest);
      wake = undefined;
    },
    close: () => watcher.close(),
  };
}
