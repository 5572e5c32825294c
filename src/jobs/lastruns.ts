import { describe } from '../errors.ts';
import { codeIn, type Say } from '../logline.ts';
import type { FailedItem } from '../report.ts';
import type { Ledger } from './ledger.ts';
import { verdictIn } from './streak.ts';

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
const betweenRoundsMs = 60_000;

/**
 * Keeps the report of a run. One that left everything to another job is none; of many passes in which nothing happened,
 * one in ten minutes will do; and of the rounds of a job that stays, those that fail count once a minute, so that what
 * fails for some seconds has not failed many times.
 */
export function rememberRun(
  ledger: Ledger,
  report: AnyReport,
  eventful: boolean,
  at: Date,
  warn: Say,
  stays = false,
): void {
  if (Object.keys(report.agents).length === 0 && (report.busy ?? []).length > 0) return;
  try {
    const [last] = ledger.runs(report.job, 1);
    // A clock that was put back keeps nothing from being kept.
    const since = last === undefined ? -1 : at.getTime() - Date.parse(last.endedAt);
    const within = (ms: number) => since >= 0 && since < ms;
    const uneventful = report.ok && !eventful && last?.ok === true;
    if (uneventful && within(betweenUneventfulMs)) return;
    const sameAgain = stays && !report.ok && last !== undefined && isSame(report, last.report);
    if (sameAgain && within(betweenRoundsMs)) return;
    const { job, startedAt, ok } = report;
    ledger.addRun({ job, startedAt, endedAt: at.toISOString(), ok, report });
  } catch (error) {
    warn(`The report of this run could not be kept: ${describe(error)}`, { code: codeIn(error) });
  }
}

function isSame(one: unknown, other: unknown): boolean {
  return verdictIn(one) === verdictIn(other);
}
