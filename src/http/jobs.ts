import { checkAgentId } from '../agents.ts';
import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { type JobReport, jobReportSchema, type JobReports, otherAgents, type Teller } from '../jobreports.ts';
import type { Key } from '../keys.ts';
import type { Caller } from './auth.ts';
import { parseBody, requireType } from './body.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';

/** `sentAt` is when the host's clock said so. */
const bodySchema = jobReportSchema.unwrap().extend({ sentAt: z.number().int().min(0).max(8.64e15) });
const maxBytes = 65_536;
const scopes = ['upload', 'pull'] as const;

/** A clock that is further away than an answer can take is wrong: its times are set right. */
const clockMs = 5000;

/** How a host's jobs ended, told by the host after each run, for the metrics alone. */
export function jobRoutes({ app, keys, now }: Routes, jobs: JobReports): void {
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
    const caller = callerOf(request);
    for (const { agent } of report.agents)
      if (agent !== otherAgents) caller.require(scopes, checkAgentId(agent));
    const at = now().getTime();
    const late = at - sentAt;
    const moved = moveTimes(report, Math.abs(late) > clockMs ? late : 0, at);
    await jobs.put(host, moved, caller.agents === '*' ? undefined : tellerOf(caller, await keys()));
    return { host, job: report.job };
  });
}

function tellerOf({ name = '' }: Caller, keys: readonly Key[]): Teller {
  return { key: name, isKey: (other) => keys.some((key) => key.name === other) };
}

/** Nothing has happened later than now, or a job that stops would look well until then. */
function moveTimes(report: JobReport, ms: number, now: number): JobReport {
  const shifted = (at: number) => Math.min(now, Math.max(0, at + ms));
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
