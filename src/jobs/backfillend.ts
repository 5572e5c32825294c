import { type Audit, closeReport, emptyAudit, type FailedItem, type Report } from '../report.ts';
import type { Listing } from '../openclaw/source.ts';
import { previewAgent } from './agentrun.ts';
import { isLeftAlone } from './failures.ts';
import type { Ledger } from './ledger.ts';
import type { RunOptions } from './sortout.ts';
import { streakOf } from './streak.ts';

/** One agent as a backfill would find it. */
export interface Remaining {
  id: string;
  /** Its id in Nexus. */
  as: string;
  /** Everything there is. */
  list: () => Promise<Listing>;
}

/**
 * Ends a backfill that did not end well where uploads have left it nothing to do: it is not started again before the
 * next boot, and what it failed on may be mended long before. Keeps a run of it that was well. Call it after an upload
 * of all agents that was well; it lists them only where a backfill has failed. Reads no transcript.
 */
export async function endBackfill(
  ledger: Ledger,
  store: string,
  agents: readonly Remaining[],
  options: RunOptions,
  now: () => Date,
): Promise<void> {
  if (streakOf(ledger, 'backfill').verdict !== 'failed') return;
  const at = now();
  const audits: Record<string, Audit> = {};
  for (const { id, as, list } of agents) {
    const audit = emptyAudit();
    const listing = await list();
    const failures = ledger.failures(store, as);
    const oversized: FailedItem[] = [];
    const alone = (item: string) => {
      const failure = failures.get(item);
      return failure !== undefined && isLeftAlone(failure, options.setAsideAfter);
    };
    if (listing.unreadable.length > 0 || !listing.skipped.every(({ item }) => alone(item))) return;
    previewAgent({
      ledger,
      store,
      agent: as,
      listing,
      options: { ...options, everything: true },
      now: at.getTime(),
      audit,
      settledPlace: () => undefined,
      oversized: (item) => oversized.push(item),
      failures,
      setAside: () => undefined,
    });
    if (audit.stored > 0 || oversized.length > 0) return;
    audits[id] = as === id ? audit : { ...audit, as };
  }
  const report: Report = {
    schemaVersion: 1,
    job: 'backfill',
    ok: true,
    startedAt: at.toISOString(),
    durationMs: 0,
    done: 0,
    already: 0,
    skipped: 0,
    failed: [],
    oversized: [],
    warnings: ['Uploads have archived what was left of it.'],
    bytes: 0,
    moved: 0,
    agents: audits,
  };
  closeReport(report, at);
  ledger.addRun({
    job: 'backfill',
    startedAt: report.startedAt,
    endedAt: report.startedAt,
    ok: true,
    report,
  });
}
