import type { StopSignal } from '../context.ts';
import { type FailedItem, reportStatus } from '../report.ts';

/** Batches of webhooks, each by how it stands after a run that told it, or looked whether it was answered. */
export interface Notified {
  /** The agent has answered. */
  done: number;
  /** OpenClaw has taken the message; the answer is not known yet. */
  admitted: number;
  /** The same, told again in this run because there was no answer. */
  repeated: number;
  /** Not taken, so told again later; or given up without an answer. */
  failed: number;
  /** Told before, and not due to be told again. */
  waiting: number;
}

/** What became of one agent's mail in one run. */
export interface PullAudit {
  /** Its id in Nexus, where that is another. */
  as?: string;
  /** Items put into the inbox. */
  delivered: number;
  /** Items that were in the inbox before, and had only to be acknowledged. */
  already: number;
  /** Items taken out of pending. */
  acknowledged: number;
  /** Items that are pending still. */
  failed: number;
  notified: Notified;
}

/** How `pull-webhooks` ended; `--json` prints exactly this. */
export interface PullReport {
  schemaVersion: 1;
  job: 'pull-webhooks';
  ok: boolean;
  startedAt: string;
  durationMs: number;
  delivered: number;
  already: number;
  /** Items that are pending still, agents that nothing could be done for, batches that could not be told. */
  failed: FailedItem[];
  /** Items that failed so often that they are left alone, pending; `nexus status` names them until `nexus retry`. */
  setAside: FailedItem[];
  warnings: string[];
  notified: Notified;
  agents: Record<string, PullAudit>;
  /** What a look at put.io found that had never called back, where it was time for one. */
  reconciled?: { found: number; already: number };
  /** Agents that another run was working on, and who that was. */
  busy?: FailedItem[];
  /** The signal that ended it early. */
  interrupted?: StopSignal;
}

export function emptyReport(now: Date): PullReport {
  return {
    schemaVersion: 1,
    job: 'pull-webhooks',
    ok: false,
    startedAt: now.toISOString(),
    durationMs: 0,
    delivered: 0,
    already: 0,
    failed: [],
    setAside: [],
    warnings: [],
    notified: nobody(),
    agents: {},
  };
}

export function emptyPullAudit(id: string, as: string): PullAudit {
  const counts = { delivered: 0, already: 0, acknowledged: 0, failed: 0, notified: nobody() };
  return as === id ? counts : { as, ...counts };
}

/** Two passes over one agent as one; what is pending and what waits is how it stands after the second. */
export function added(before: PullAudit, pass: PullAudit): PullAudit {
  return {
    ...pass,
    delivered: before.delivered + pass.delivered,
    already: before.already + pass.already,
    acknowledged: before.acknowledged + pass.acknowledged,
    notified: {
      done: before.notified.done + pass.notified.done,
      admitted: before.notified.admitted + pass.notified.admitted,
      repeated: before.notified.repeated + pass.notified.repeated,
      failed: before.notified.failed + pass.notified.failed,
      waiting: pass.notified.waiting,
    },
  };
}

export function nobody(): Notified {
  return { done: 0, admitted: 0, repeated: 0, failed: 0, waiting: 0 };
}

/** Sums the agents into the report's totals and says whether all went well. */
export function closePullReport(report: PullReport, now: Date): PullReport {
  const audits = Object.values(report.agents);
  const sum = (of: (audit: PullAudit) => number) => audits.reduce((total, audit) => total + of(audit), 0);
  report.delivered = sum((audit) => audit.delivered);
  report.already = sum((audit) => audit.already);
  report.notified = {
    done: sum(({ notified }) => notified.done),
    admitted: sum(({ notified }) => notified.admitted),
    repeated: sum(({ notified }) => notified.repeated),
    failed: sum(({ notified }) => notified.failed),
    waiting: sum(({ notified }) => notified.waiting),
  };
  report.durationMs = now.getTime() - Date.parse(report.startedAt);
  report.ok = report.failed.length + (report.busy ?? []).length === 0 && report.interrupted === undefined;
  return report;
}

/** The exit status of a pull, by the rules of all jobs. */
export function pullStatus(report: PullReport, unavailable: boolean): number {
  return reportStatus({ ...report, done: report.delivered + report.already }, unavailable);
}
