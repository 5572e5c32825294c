import { openclawEnvironment } from '../config.ts';
import type { Context } from '../context.ts';
import { formatBytes, formatCount, formatDuration, formatItems } from '../format.ts';
import type { Attending } from '../jobs/attend.ts';
import { setAsideSummary } from '../jobs/failures.ts';
import type { JobSurroundings, Progress } from '../jobs/job.ts';
import type { Facts } from '../logline.ts';
import { openNexus } from '../open.ts';
import type { Output } from '../output.ts';
import { type FailedItem, type Report, skippedIn } from '../report.ts';
import { mostNamed } from './few.ts';

/** Nobody reads faster, and a run over fifty thousand transcripts says as much. */
const betweenUpdatesMs = 100;

/** What attends the runs of a job: its monitor and its alerts. */
export function attendingIn(context: Context, dryRun: boolean): Attending {
  const { config, env, output, signal, now, version } = context;
  return { config, env, signal, now, version, dryRun, warn: output.warn, info: output.info };
}

/** What a job is given of a command's context, with a line of progress drawn meanwhile. */
export async function withProgress<T>(
  context: Context,
  name: string,
  work: (around: JobSurroundings) => Promise<T>,
): Promise<T> {
  const { config, env, output, signal, now } = context;
  const line = output.progress();
  const log = logFailed(output, () => now().getTime());
  const began = now().getTime();
  let told = Number.NEGATIVE_INFINITY;
  try {
    return await work({
      config,
      env: openclawEnvironment(config, env),
      signal,
      now,
      openNexus: () => openNexus(config, signal, context.version, { say: output.debug }),
      warn: output.warn,
      failed: log.failed,
      progress: (state) => {
        const elapsed = now().getTime() - began;
        if (elapsed - told < betweenUpdatesMs) return;
        told = elapsed;
        line.update(`${name}: ${progressText(state, elapsed)}`);
      },
    });
  } finally {
    log.rest();
    line.stop();
  }
}

/** `128 of 5,000 transcripts, 34 MiB of 1.0 GiB, 50 MiB/s, 20 s left`. */
export function progressText(state: Progress, elapsedMs: number): string {
  const { transcripts, transcriptsTotal, bytes, bytesTotal } = state;
  const rate = elapsedMs > 0 ? (bytes / elapsedMs) * 1000 : 0;
  const left =
    rate > 0 && bytes < bytesTotal ? `, ${formatDuration(((bytesTotal - bytes) / rate) * 1000)} left` : '';
  return (
    `${formatCount(transcripts)} of ${formatItems(transcriptsTotal, 'transcript')}, ` +
    `${formatBytes(bytes)} of ${formatBytes(bytesTotal)}, ${formatBytes(rate)}/s${left}`
  );
}

/** Of failures of one kind so many are named in this time: a directory that is closed is one failure for each file. */
const namingMs = 60_000;

export interface FailureLog {
  failed: (item: FailedItem, facts: Facts) => void;
  /** At the end: how many were not named. */
  rest: () => void;
}

/**
 * Names what fails in the log, when it fails: a backfill may take hours. Of one kind, by its code, the first are named
 * and the others counted, each minute. People are told at the end.
 */
export function logFailed(output: Output, now: () => number): FailureLog {
  const kinds = new Map<string, { since: number; count: number }>();
  const tellRest = (code: string, count: number) => {
    if (count > mostNamed)
      output.error(`${formatCount(count - mostNamed)} more failed alike; --json names them all.`, {
        code,
        failed: count - mostNamed,
      });
  };
  return {
    failed({ item, reason }, facts) {
      if (output.forPeople) return;
      const code = String(facts['code'] ?? '');
      let kind = kinds.get(code);
      if (kind === undefined || Math.abs(now() - kind.since) >= namingMs) {
        tellRest(code, kind?.count ?? 0);
        kinds.set(code, (kind = { since: now(), count: 0 }));
      }
      kind.count++;
      if (kind.count <= mostNamed) output.error(named({ item, reason }), { item, ...facts });
    },
    rest() {
      for (const [code, { count }] of kinds) tellRest(code, count);
      kinds.clear();
    },
  };
}

/** Many a reason begins with the path itself. */
function named({ item, reason }: FailedItem): string {
  return reason.startsWith(item) ? reason : `${item}: ${reason}`;
}

function warnSetAside(output: Output, { setAside = [] }: Report): void {
  const count = setAside.length;
  if (count === 0) return;
  output.warn(`${setAsideSummary(count)}.`, { setAside: count });
}

/** Who else is at work, a line an agent, and the run in one line. */
function logReport(output: Output, report: Report): void {
  const { done, already, skipped, moved, failed, oversized, setAside = [], bytes, durationMs, ok } = report;
  for (const { item, reason } of report.busy ?? []) output.warn(`${item}: ${reason}`, { item, code: 'busy' });
  for (const [agent, audit] of Object.entries(report.agents))
    (audit.stored + audit.failed > 0 ? output.info : output.debug)('Agent done.', {
      agent,
      stored: audit.transcripts,
      already: audit.already,
      skipped: skippedIn(audit),
      moved: audit.moved,
      failed: audit.failed,
      bytes: audit.bytes,
    });
  warnSetAside(output, report);
  output.summary(report.dryRun ? 'Run ended; nothing was stored.' : 'Run ended.', {
    ok,
    stored: done,
    already,
    skipped,
    moved,
    failed: failed.length + oversized.length,
    setAside: setAside.length,
    bytes,
    ms: durationMs,
  });
}

/** The audit by agent, what was skipped and why, what failed and why, and the run in one sentence. */
export function showReport(output: Output, report: Report, archive: string): void {
  if (!output.forPeople) logReport(output, report);
  if (output.json) output.result(report);
  if (output.json || output.inJournal) return;
  const agents = Object.entries(report.agents);
  const stored = report.dryRun ? 'to store' : 'stored now';
  const verified = agents.some(([, audit]) => audit.verified !== undefined);
  if (agents.length > 0)
    output.table(
      [
        { title: 'agent' },
        ...['found', stored, 'already', 'skipped', 'failed', 'moved'].map((title) => ({ title })),
        ...(verified ? [{ title: 'verified' }] : []),
        { title: 'bytes', align: 'right' },
      ],
      agents.map(([id, audit]) => [
        audit.as === undefined ? id : `${id} (as ${audit.as})`,
        audit.found,
        audit.stored,
        audit.already,
        skippedIn(audit),
        audit.failed,
        audit.moved,
        ...(verified ? [audit.verified ?? 0] : []),
        formatBytes(audit.bytes),
      ]),
    );
  for (const [reason, count] of reasonsOf(report)) output.result(`skipped ${count}: ${reason}`);
  const unwell = output.forPeople ? [...report.failed, ...report.oversized, ...(report.busy ?? [])] : [];
  for (const item of unwell.slice(0, mostNamed)) output.error(named(item));
  if (unwell.length > mostNamed)
    output.error(`and ${unwell.length - mostNamed} more; --json names them all.`);
  if (output.forPeople) warnSetAside(output, report);
  output.result(summary(report, archive));
}

function reasonsOf(report: Report): [string, number][] {
  const counts = new Map<string, number>();
  for (const audit of Object.values(report.agents))
    for (const [reason, count] of Object.entries(audit.skipped))
      counts.set(reason, (counts.get(reason) ?? 0) + count);
  return [...counts];
}

function summary(report: Report, archive: string): string {
  const what = report.dryRun
    ? `would store ${formatItems(report.done, 'transcript')} (${formatBytes(report.bytes)})`
    : `${formatItems(report.done, 'transcript')} stored (${formatBytes(report.bytes)})`;
  const rest = [
    `${formatCount(report.already)} already there`,
    `${formatCount(report.skipped)} skipped`,
    `${formatCount(report.failed.length)} failed`,
    ...(report.moved > 0 ? [`${formatItems(report.moved, 'file')} moved to archive/`] : []),
  ];
  const ended = report.interrupted === undefined ? '' : `, stopped by ${report.interrupted}`;
  const where = report.done > 0 && !report.dryRun ? `\narchive: ${archive}` : '';
  return `${report.job}: ${what}, ${rest.join(', ')}, in ${formatDuration(report.durationMs)}${ended}.${where}`;
}
