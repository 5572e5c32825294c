import type { Context } from '../context.ts';
import { attend, attendRounds } from '../jobs/attend.ts';
import { runJob } from '../jobs/job.ts';
import { archivePlace } from '../open.ts';
import { type Report, reportStatus } from '../report.ts';
import { attendingIn, showReport, withProgress } from './jobreport.ts';

export interface UploadOptions {
  agent: string[];
  dryRun?: boolean;
  watch?: boolean;
}

/** Archives what is new since the last run; with `watch` stays and does so as OpenClaw writes. */
export async function upload(context: Context, options: UploadOptions): Promise<number> {
  const request = {
    job: 'upload' as const,
    agents: options.agent,
    dryRun: options.dryRun === true,
    everything: false,
    all: false,
    verify: false,
  };
  const attending = attendingIn(context, request.dryRun);
  const { report, unavailable } = await withProgress(context, 'upload', async (around) => {
    if (!options.watch)
      return await attend(attending, 'upload')((begun) => runJob(request, { ...around, begun }));
    const { watch } = await import('../jobs/watch.ts');
    return await attendRounds(attending, 'upload', (rounds) =>
      watch(request, around, (done) => showPass(context, done), rounds),
    );
  });
  showReport(context.output, report, archivePlace(context.config));
  return reportStatus(report, unavailable);
}

/** What one pass of `--watch` did, on stderr: stdout gets the sum at the end. */
function showPass(context: Context, report: Report): void {
  if (report.done > 0)
    context.output.info(`upload: ${report.done} transcripts stored, ${report.bytes} bytes.`, {
      stored: report.done,
      bytes: report.bytes,
      ms: report.durationMs,
    });
}
