import { existsSync } from 'node:fs';
import type { Config } from '../config.ts';
import { describe, failedWith } from '../errors.ts';
import { codeIn } from '../logline.ts';
import type { Ending, FailedItem } from '../report.ts';
import { heartbeatOf } from './heartbeat.ts';
import { alertOnJob, type AlertSurroundings } from './hostalerts.ts';
import { type Ledger, ledgerFile, openLedger } from './ledger.ts';
import { reasonOf, type Verdict, verdictOf } from './streak.ts';

export interface Attending extends AlertSurroundings {
  signal: AbortSignal;
  /** Aborted runs and these options are nobody's concern but of who types them. */
  dryRun?: boolean | undefined;
  /** A pass follows a pass: the monitor is told of each start and each success at most once a minute. */
  repeats?: boolean | undefined;
}

/** What the report of any of these jobs has. */
type AttendedReport = Omit<Ending, 'done'> & { done?: number; delivered?: number };

const betweenPingsMs = 60_000;

/**
 * Runs of a job, each attended: its monitor is told of start and end, what it threw is kept as a failed run beside
 * those that made a report, and an alert is raised after so many failures in a row and ended by the next run that is
 * well. Whatever goes wrong with that is a warning and changes nothing of the run.
 */
export function attend(
  around: Attending,
  job: keyof Config['heartbeats'],
): <T extends { report: AttendedReport }>(run: () => Promise<T>) => Promise<T> {
  const heartbeat = heartbeatOf(around.config, job, around.env, around.warn);
  let pinged = Number.NEGATIVE_INFINITY;
  let last: Verdict | undefined;

  return async (run) => {
    if (around.dryRun === true) return await run();
    const startedAt = around.now();
    const isQuiet = around.repeats === true && startedAt.getTime() - pinged < betweenPingsMs;
    if (!isQuiet) heartbeat.start();

    async function ended(verdict: Verdict, sentence: string, thrown?: unknown): Promise<void> {
      const changed = verdict !== last;
      last = verdict;
      const alerting = followUp(around, job, startedAt, thrown);
      if (verdict !== 'neither' && (!isQuiet || changed)) {
        pinged = around.now().getTime();
        await heartbeat.end(verdict, sentence);
      }
      await alerting;
    }

    try {
      const result = await run();
      const { report } = result;
      const verdict = verdictOf(report);
      await ended(
        verdict,
        verdict === 'failed'
          ? `${job} failed: ${reasonOf(report)}`
          : `${job}: ${report.done ?? report.delivered ?? 0} done.`,
      );
      return result;
    } catch (error) {
      // Stopped, mistyped, or left to another job: nothing of these says that the job does not work.
      const isNone = around.signal.aborted || failedWith(error, 'usage', 'busy');
      await ended(
        isNone ? 'neither' : 'failed',
        `${job} failed: ${describe(error)}`,
        isNone ? undefined : error,
      );
      throw error;
    }
  };
}

/** Keeps what was thrown as a run, and decides on alerts. */
async function followUp(around: Attending, job: string, startedAt: Date, thrown: unknown): Promise<void> {
  const file = ledgerFile(around.config);
  // Where nothing ever ran and nobody is to be told, a first failure leaves nothing behind.
  if (thrown !== undefined && around.config.alerts.channels.length === 0 && !existsSync(file)) return;
  try {
    const ledger = openLedger(file, around.warn);
    try {
      if (thrown !== undefined) keepFailure(ledger, job, startedAt, around.now(), describe(thrown));
      const invocation = around.env['INVOCATION_ID'];
      if (invocation !== undefined && invocation !== '') ledger.noteInvocation(invocation, job);
      const { keepSettings } = await import('./keptsettings.ts');
      await keepSettings(around.config);
      await alertOnJob(around, ledger, job);
    } finally {
      ledger.close();
    }
  } catch (error) {
    around.warn(`Nobody can be alerted of ${job}: ${describe(error)}`, { code: codeIn(error) });
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
