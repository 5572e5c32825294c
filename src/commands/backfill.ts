import type { Context } from '../context.ts';
import { attend } from '../jobs/attend.ts';
import { runJob } from '../jobs/job.ts';
import { archivePlace } from '../open.ts';
import { reportStatus } from '../report.ts';
import { attendingIn, showReport, withProgress } from './jobreport.ts';

export interface BackfillOptions {
  agent: string[];
  /** ms since 1970. */
  since?: number;
  until?: number;
  all?: boolean;
  dryRun?: boolean;
  verify?: boolean;
  concurrency?: number;
}

/** Archives all of history, once; the audit says what became of every transcript that was found. */
export async function backfill(context: Context, options: BackfillOptions): Promise<number> {
  const request = {
    job: 'backfill' as const,
    agents: options.agent,
    everything: true,
    all: options.all === true,
    dryRun: options.dryRun === true,
    verify: options.verify === true,
    since: options.since,
    until: options.until,
    concurrency: options.concurrency,
  };
  const attended = attend(attendingIn(context, request.dryRun), 'backfill');
  const { report, unavailable } = await withProgress(context, 'backfill', (around) =>
    attended((begun) => runJob(request, { ...around, begun })),
  );
  showReport(context.output, report, archivePlace(context.config));
  return reportStatus(report, unavailable);
}
