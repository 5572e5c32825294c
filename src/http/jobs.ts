import { checkAgentId } from '../agents.ts';
import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { type JobReport, jobReportSchema, type JobReports, otherAgents } from '../jobreports.ts';
import { parseBody, requireType } from './body.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';

/** `sentAt` is when the host's clock said so. */
const bodySchema = jobReportSchema.extend({ sentAt: z.number().int().min(0).max(8.64e15) });
const maxBytes = 65_536;
const scopes = ['upload', 'pull'] as const;

/** A clock that is further away than an answer can take is wrong: its times are set right. */
const clockMs = 5000;

/** How a host's jobs ended, told by the host after each run, for the metrics alone. */
export function jobRoutes({ app, now }: Routes, jobs: JobReports): void {
  app.put<{ Params: { host: string } }>('/api/jobs/:host', { config: { scopes } }, async (request) => {
    const { host } = request.params;
    if (host === '' || host.length > 255)
      throw new NexusError('invalid', 'A host is named by 1 to 255 characters.');
    requireType(headerOf(request, 'content-type'), 'application/json');
    const tooLong = 'A report exceeds the limit of 64 KiB.';
    const read = bodySchema.safeParse(parseBody(await bodyIn(request).read(maxBytes, tooLong)));
    if (!read.success) {
      const [issue] = read.error.issues;
      throw new NexusError(
        'invalid',
        `Invalid ${issue?.path.join('.') ?? 'report'}: ${issue?.message ?? ''}.`,
      );
    }
    const { sentAt, ...report } = read.data;
    for (const { agent } of report.agents)
      if (agent !== otherAgents) callerOf(request).require(scopes, checkAgentId(agent));
    const late = now().getTime() - sentAt;
    await jobs.put(host, Math.abs(late) > clockMs ? later(report, late) : report);
    return { host, job: report.job };
  });
}

function later(report: JobReport, ms: number): JobReport {
  const shifted = (at: number) => Math.max(0, at + ms);
  const { endedAt, lastSuccessAt, agents } = report;
  return {
    ...report,
    endedAt: shifted(endedAt),
    ...(lastSuccessAt === undefined ? {} : { lastSuccessAt: shifted(lastSuccessAt) }),
    agents: agents.map((lag) =>
      lag.oldestAt === undefined ? lag : { ...lag, oldestAt: shifted(lag.oldestAt) },
    ),
  };
}
