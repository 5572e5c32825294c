import type { Ending } from '../report.ts';
import type { Ledger } from './ledger.ts';

/** How a run ended, for those who count: what another job held or a signal ended is neither. */
export type Verdict = 'well' | 'failed' | 'neither';

export function verdictOf({ failed, oversized, interrupted, busy }: Omit<Ending, 'done'>): Verdict {
  if (failed.length + (oversized ?? []).length > 0) return 'failed';
  return interrupted !== undefined || (busy ?? []).length > 0 ? 'neither' : 'well';
}

/** How a job stands, by its last runs. */
export interface Streak {
  /** Of the last run that was either. */
  verdict: Verdict;
  /** Failures in a row, as many as the ledger remembers; 0 when the last run was well. */
  failures: number;
  /** When the first of them began, ISO 8601. */
  since?: string;
  /** What the last of them said. */
  reason?: string;
  /** The same of what the last run left alone. */
  setAside: number;
}

const mostRuns = 50;

export function streakOf(ledger: Pick<Ledger, 'runs'>, job: string): Streak {
  const streak: Streak = { verdict: 'neither', failures: 0, setAside: 0 };
  for (const { startedAt, report } of ledger.runs(job, mostRuns)) {
    const ending = endingIn(report);
    const verdict = verdictOf(ending);
    if (verdict === 'neither') continue;
    if (streak.verdict === 'neither') streak.setAside = ending.setAside.length;
    if (verdict === 'well') {
      if (streak.verdict === 'neither') streak.verdict = 'well';
      break;
    }
    streak.verdict = 'failed';
    streak.failures++;
    streak.since = startedAt;
    streak.reason ??= reasonOf(ending, job);
  }
  return streak;
}

const mostNamed = 3;

/** The first failures of a run, in a line each. */
export function reasonOf({ failed, oversized }: Pick<Ending, 'failed' | 'oversized'>, job = ''): string {
  const items = [...failed, ...(oversized ?? [])];
  const named = items
    .slice(0, mostNamed)
    .map(({ item, reason }) => (item === job || reason.startsWith(item) ? reason : `${item}: ${reason}`));
  const more = items.length - named.length;
  return [...named, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

/** Of a report as the ledger keeps it. */
export function verdictIn(report: unknown): Verdict {
  return verdictOf(endingIn(report));
}

type AnyEnding = Ending & { setAside: unknown[] };

/** What the ledger keeps of any job's report, which another version may have written. */
function endingIn(report: unknown): AnyEnding {
  const fields: Record<string, unknown> =
    typeof report === 'object' && report !== null ? Object.fromEntries(Object.entries(report)) : {};
  const items = (name: string) =>
    (Array.isArray(fields[name]) ? fields[name] : []).flatMap((one: unknown) =>
      typeof one === 'object' && one !== null && 'item' in one && 'reason' in one
        ? [{ item: String(one.item), reason: String(one.reason) }]
        : [],
    );
  const { interrupted } = fields;
  return {
    done: 0,
    failed: items('failed'),
    oversized: items('oversized'),
    busy: items('busy'),
    setAside: items('setAside'),
    ...(interrupted === 'SIGINT' || interrupted === 'SIGTERM' ? { interrupted } : {}),
  };
}
