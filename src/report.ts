import { exit, exitStatus, NexusError } from './errors.ts';

export interface FailedItem {
  item: string;
  reason: string;
}

/** What became of one agent's transcripts in one run. Every place that was found is counted exactly once. */
export interface Audit {
  /** Its id in Nexus, where that is another. */
  as?: string;
  /** Places that hold a transcript, copies and duplicates included. */
  found: number;
  /** Got bytes stored in this run. */
  stored: number;
  /** The transcripts that these bytes are of: two places may each have had more of one. */
  transcripts: number;
  /** All their bytes were stored already. */
  already: number;
  /** Deliberately not shipped, by reason. */
  skipped: Record<string, number>;
  failed: number;
  /** Bytes stored in this run. */
  bytes: number;
  /** Moved to `archive/` beside the sessions. */
  moved: number;
  /** Stored and due to be moved, but the move was refused. */
  notMoved?: number;
  /** Re-read and found equal, with `--verify`. */
  verified?: number;
}

/** How a job ended; `--json` prints exactly this. */
export interface Report {
  schemaVersion: 1;
  job: string;
  ok: boolean;
  startedAt: string;
  durationMs: number;
  dryRun?: boolean;
  /** Transcripts that got bytes stored (with `dryRun`: would get). */
  done: number;
  already: number;
  skipped: number;
  failed: FailedItem[];
  /** Not shipped because of `maxTranscriptBytes`: wanted, but not well. */
  oversized: FailedItem[];
  /** Failed so often that they are left alone; `nexus status` names them until `nexus retry`. */
  setAside?: FailedItem[];
  warnings: string[];
  bytes: number;
  moved: number;
  agents: Record<string, Audit>;
  /** The signal that ended it early. */
  interrupted?: 'SIGINT' | 'SIGTERM';
  /** Agents that another job was working on, and who that was. */
  busy?: FailedItem[];
}

/** What of a job's report decides its exit status. */
export interface Ending extends Pick<Report, 'done' | 'failed' | 'interrupted' | 'busy'> {
  oversized?: FailedItem[];
}

export function emptyAudit(): Audit {
  return { found: 0, stored: 0, transcripts: 0, already: 0, skipped: {}, failed: 0, bytes: 0, moved: 0 };
}

export function skip(audit: Audit, reason: string): void {
  audit.skipped[reason] = (audit.skipped[reason] ?? 0) + 1;
}

export function skippedIn(audit: Audit): number {
  return Object.values(audit.skipped).reduce((sum, count) => sum + count, 0);
}

/** Sums the audits into the report's totals and says whether all went well. */
export function closeReport(report: Report, now: Date): Report {
  const audits = Object.values(report.agents);
  const sum = (of: (audit: Audit) => number) => audits.reduce((total, audit) => total + of(audit), 0);
  report.done = sum((audit) => audit.transcripts);
  report.already = sum((audit) => audit.already);
  report.skipped = sum(skippedIn);
  report.bytes = sum((audit) => audit.bytes);
  report.moved = sum((audit) => audit.moved);
  report.durationMs = now.getTime() - Date.parse(report.startedAt);
  report.ok =
    [report.failed, report.oversized, report.busy ?? []].every((items) => items.length === 0) &&
    report.interrupted === undefined;
  return report;
}

/**
 * The exit status of a job: 130 or 143 when a signal ended it, 69 when nothing could be done because Nexus cannot
 * be reached, 3 when some items failed or were too large, 75 when another job holds an agent, else 0.
 */
export function reportStatus(report: Ending, unavailable: boolean): number {
  if (report.interrupted === 'SIGINT') return 130;
  if (report.interrupted === 'SIGTERM') return 143;
  if (unavailable && report.done === 0)
    return exitStatus(new NexusError('unavailable', 'Nexus cannot be reached.'));
  if (report.failed.length + (report.oversized ?? []).length > 0) return exit.someFailed;
  if ((report.busy ?? []).length > 0) return exitStatus(new NexusError('busy', 'Another job is at work.'));
  return exit.done;
}
