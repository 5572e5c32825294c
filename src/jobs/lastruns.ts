import { describe } from '../errors.ts';
import type { FailedItem } from '../report.ts';
import type { Ledger } from './ledger.ts';

/** What the reports of all jobs have. */
export interface AnyReport {
  job: string;
  ok: boolean;
  startedAt: string;
  agents: Record<string, unknown>;
  busy?: FailedItem[];
}

/** A run that was well may go unsaid for so long, ms. */
export const betweenUneventfulMs = 600_000;

/**
 * Keeps the report of a run. One that left everything to another job is none; and of many passes in which nothing
 * happened, one in ten minutes will do.
 */
export function rememberRun(
  ledger: Ledger,
  report: AnyReport,
  eventful: boolean,
  at: Date,
  warn: (message: string) => void,
): void {
  if (Object.keys(report.agents).length === 0 && (report.busy ?? []).length > 0) return;
  try {
    const [last] = ledger.runs(report.job, 1);
    const uneventful = report.ok && !eventful && last?.ok === true;
    if (uneventful && at.getTime() - Date.parse(last.endedAt) < betweenUneventfulMs) return;
    const { job, startedAt, ok } = report;
    ledger.addRun({ job, startedAt, endedAt: at.toISOString(), ok, report });
  } catch (error) {
    warn(`The report of this run could not be kept: ${describe(error)}`);
  }
}
