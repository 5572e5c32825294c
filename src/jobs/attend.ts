import { existsSync } from 'node:fs';
import type { Config } from '../config.ts';
import { describe, failedWith } from '../errors.ts';
import { codeIn } from '../logline.ts';
import type { Ending, FailedItem } from '../report.ts';
import { type Heartbeat, heartbeatOf } from './heartbeat.ts';
import { alertOnJob, type AlertSurroundings } from './hostalerts.ts';
import { keepSettings } from './keptsettings.ts';
import { type Ledger, ledgerFile, ledgerOnce } from './ledger.ts';
import { tellRunEnd } from './telljobs.ts';
import { reasonOf, type Verdict, verdictOf } from './streak.ts';

export interface Attending extends AlertSurroundings {
  signal: AbortSignal;
  /** Aborted runs and these options are nobody's concern but of who types them. */
  dryRun?: boolean | undefined;
  /** Nexus's own. */
  version?: string | undefined;
}

/** What the report of any of these jobs has. */
type AttendedReport = Omit<Ending, 'done'> & { done?: number; delivered?: number; durationMs?: number };

/** How a run or a round ended, for those who are told. */
interface Ended {
  verdict: Verdict;
  sentence: string;
  failedItems: number;
  seconds: number;
  /** Nexus could not be reached, or did not know the key. */
  unreachable: boolean;
}

/**
 * Runs of a job, each attended: its monitor is told when it has begun to work, as the run says, and how it ended, what it threw is kept as a failed run beside
 * those that made a report, and an alert is raised after so many failures in a row and ended by the next run that is
 * well. Whatever goes wrong with that is a warning and changes nothing of the run.
 */
export function attend(
  around: Attending,
  job: keyof Config['heartbeats'],
): <T extends { report: AttendedReport; unavailable?: boolean }>(
  run: (begun: () => void) => Promise<T>,
) => Promise<T> {
  const heartbeat = heartbeatOf(around.config, job, around.env, around.warn);

  return async (run) => {
    if (around.dryRun === true) return await run(() => undefined);
    const startedAt = around.now();

    async function ended(how: Ended, thrown?: unknown): Promise<void> {
      const ledger = ledgerOnce(around.config, around.warn);
      try {
        const following = [
          followUp(around, ledger.open, job, how.verdict, startedAt, thrown),
          tellMetrics(around, ledger.open, job, how),
        ];
        await tellMonitor(heartbeat, around, how);
        await Promise.all(following);
      } finally {
        ledger.close();
      }
    }

    try {
      const result = await run(heartbeat.start);
      await ended({ ...endingOf(job, result.report), unreachable: result.unavailable === true });
      return result;
    } catch (error) {
      const isNone = saysNothing(around, error);
      await ended(throwing(around, job, startedAt, error, isNone), isNone ? undefined : error);
      throw error;
    }
  };
}

/** How the rounds of a job that stays ended. Neither throws, nor keeps the job from its next round. */
export interface Rounds {
  /** The ledger has as much of it as it keeps. */
  ended: (report: AttendedReport) => void;
  /** It could not begin, or fell: it is kept as a failed run. */
  fell: (startedAt: Date, error: unknown) => void;
}

/** A monitor is told no more often than this, and what alerts wait to be sent is looked for as often. */
const betweenRoundsMs = 60_000;

/** Rounds come a little early or late. */
const slackMs = 5_000;

/**
 * As `attend` for a job that stays until its signal: it goes on while those are told who are to be told. How the rounds
 * end is read from the ledger, so that another process, after a crash, goes on counting where this one stopped.
 */
export async function attendRounds<T>(
  around: Attending,
  job: keyof Config['heartbeats'],
  stay: (rounds: Rounds) => Promise<T>,
): Promise<T> {
  if (around.dryRun === true) return await stay({ ended: () => undefined, fell: () => undefined });
  const { rounds, close } = openRounds(around, job);
  const startedAt = around.now();
  try {
    return await stay(rounds);
  } catch (error) {
    rounds.fell(startedAt, error);
    throw error;
  } finally {
    await close();
  }
}

interface Round extends Ended {
  fell?: { startedAt: Date; error: unknown };
}

function openRounds(
  around: Attending,
  job: keyof Config['heartbeats'],
): { rounds: Rounds; close: () => Promise<void> } {
  const heartbeat = heartbeatOf(around.config, job, around.env, around.warn, around.signal);
  heartbeat.start();
  let latest: Round | undefined;
  let followed: { verdict: Verdict; at: number } | undefined;
  let pingedAt: number | undefined;
  let working: Promise<void> | undefined;

  /** A clock that was put back must not silence it. */
  function isPast(at: number | undefined, ms: number): boolean {
    const since = around.now().getTime() - (at ?? Number.NEGATIVE_INFINITY);
    return since >= ms || since < 0;
  }

  async function work(): Promise<void> {
    for (let round = latest; round !== undefined && !around.signal.aborted; round = latest) {
      latest = undefined;
      const { verdict, fell } = round;
      const pings = isPast(pingedAt, betweenRoundsMs);
      const follows = followed?.verdict !== verdict || isPast(followed.at, betweenRoundsMs - slackMs);
      const at = around.now();
      if (pings) pingedAt = at.getTime();
      if (follows) followed = { verdict, at: at.getTime() };
      const ledger = ledgerOnce(around.config, around.warn);
      try {
        await Promise.all([
          follows
            ? followUp(around, ledger.open, job, verdict, fell?.startedAt ?? at, fell?.error)
            : undefined,
          follows ? tellMetrics(around, ledger.open, job, round) : undefined,
          pings ? tellMonitor(heartbeat, around, round) : undefined,
        ]);
      } finally {
        ledger.close();
      }
    }
  }

  function next(round: Round): void {
    latest = round;
    working ??= work().finally(() => {
      working = undefined;
    });
  }

  return {
    rounds: {
      ended: (report) => next(endingOf(job, report)),
      fell(startedAt, error) {
        const isNone = saysNothing(around, error);
        next({
          ...throwing(around, job, startedAt, error, isNone),
          ...(isNone ? {} : { fell: { startedAt, error } }),
        });
      },
    },
    close: async () => await working,
  };
}

function endingOf(job: string, report: AttendedReport): Ended {
  const verdict = verdictOf(report);
  const failedItems = report.failed.length + (report.oversized ?? []).length;
  const facts = { verdict, failedItems, seconds: (report.durationMs ?? 0) / 1000, unreachable: false };
  if (verdict === 'failed') return { ...facts, sentence: `${job} failed: ${reasonOf(report)}` };
  const [held] = report.busy ?? [];
  const done = `${job}: ${report.done ?? report.delivered ?? 0} done`;
  return { ...facts, sentence: held === undefined ? `${done}.` : `${done}. ${held.item}: ${held.reason}` };
}

/** Stopped, mistyped, or left to another job: nothing of these says that the job does not work. */
function saysNothing({ signal }: Attending, error: unknown): boolean {
  return signal.aborted || failedWith(error, 'usage', 'busy');
}

function throwing(around: Attending, job: string, startedAt: Date, error: unknown, isNone: boolean): Ended {
  const facts = {
    failedItems: 1,
    seconds: (around.now().getTime() - startedAt.getTime()) / 1000,
    unreachable: failedWith(error, 'unavailable', 'unauthorized'),
  };
  return isNone
    ? { ...facts, verdict: 'neither', sentence: `${job}: ${describe(error)}` }
    : { ...facts, verdict: 'failed', sentence: `${job} failed: ${describe(error)}` };
}

/**
 * A run that left all of its work to another job changes nothing of what the monitor knows: one after which that is
 * always so is not well. One that did a part of it has begun, and a start without an end would be taken for a run that
 * hangs. What a signal ended has no end, and the next run does.
 */
async function tellMonitor(
  heartbeat: Heartbeat,
  { signal }: Attending,
  { verdict, sentence }: Ended,
): Promise<void> {
  if (verdict === 'neither' && signal.aborted) return;
  const nothing = verdict === 'neither' && !heartbeat.hasStarted();
  await heartbeat.end(verdict === 'failed' ? 'failed' : nothing ? 'neither' : 'well', sentence);
}

/** Of what was left to another job, or stopped, there is nothing to tell. */
async function tellMetrics(
  around: Attending,
  openLedger: () => Ledger,
  job: keyof Config['heartbeats'],
  { verdict, failedItems, seconds, unreachable }: Ended,
): Promise<void> {
  if (verdict === 'neither' || around.signal.aborted) return;
  const endedAt = around.now().getTime();
  // A clock that was put back meanwhile.
  const took = Math.max(0, seconds);
  const end = { job, verdict, endedAt, seconds: took, failedItems, agents: [] };
  await tellRunEnd({ ...around, unreachable, openLedger }, end);
}

/**
 * Keeps what was thrown as a run, and decides on alerts. What counted as a failure here is not counted again when its
 * unit fails of it; a unit that fails though this run did not is for `alertOnUnit` to count.
 */
async function followUp(
  around: Attending,
  openLedger: () => Ledger,
  job: string,
  verdict: Verdict,
  startedAt: Date,
  thrown: unknown,
): Promise<void> {
  const file = ledgerFile(around.config);
  // Where nothing ever ran and nobody is to be told, a first failure leaves nothing behind.
  if (thrown !== undefined && around.config.alerts.channels.length === 0 && !existsSync(file)) return;
  try {
    const ledger = openLedger();
    if (thrown !== undefined) keepFailure(ledger, job, startedAt, around.now(), describe(thrown));
    const invocation = around.env['INVOCATION_ID'];
    if (verdict === 'failed' && invocation !== undefined && invocation !== '')
      ledger.noteInvocation(invocation, job);
    await keptSettings(around);
    // Who stops a job waits for its end; what is due is sent by the next run.
    if (!around.signal.aborted) await alertOnJob({ ...around, hasty: true }, ledger, job);
  } catch (error) {
    around.warn(`Nobody can be alerted of ${job}: ${describe(error)}`, { code: codeIn(error) });
  }
}

/** A full disk, say, which is the very thing to be told. */
async function keptSettings({ config, warn }: Attending): Promise<void> {
  try {
    await keepSettings(config);
  } catch (error) {
    warn(`Whom alerts go to cannot be noted: ${describe(error)}`);
  }
}

/** A run that ended before it had a report: its fields are those of one, as far as they say something. */
export function keepFailure(
  ledger: Ledger,
  job: string,
  startedAt: Date,
  endedAt: Date,
  reason: string,
): void {
  keep(ledger, job, startedAt, endedAt, [{ item: job, reason }]);
}

/** A run that was well and has no report of its own. */
export function keepWell(ledger: Ledger, job: string, at: Date): void {
  keep(ledger, job, at, at, []);
}

function keep(ledger: Ledger, job: string, startedAt: Date, endedAt: Date, failed: FailedItem[]): void {
  const ok = failed.length === 0;
  const [began, ended] = [startedAt.toISOString(), endedAt.toISOString()];
  const durationMs = endedAt.getTime() - startedAt.getTime();
  const report = {
    schemaVersion: 1,
    job,
    ok,
    startedAt: began,
    durationMs,
    failed,
    warnings: [],
    agents: {},
  };
  ledger.addRun({ job, startedAt: began, endedAt: ended, ok, report });
}
