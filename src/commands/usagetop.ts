import type { Context } from '../context.ts';
import type { Standing } from '../usage.ts';
import type { Top } from '../usagesessions.ts';
import { formatAge, formatCount, formatDuration } from '../format.ts';
import { type Asked, catchUp, periodText, type Request, requestOf, statusOf, withReader } from './usage.ts';
import { costText, coverageLines, dollars, isWhole, shortCount } from './usagetable.ts';

/** What costs most: sessions, cron jobs, and runs that cost over twice the median of their job. */
export async function top(context: Context, asked: Asked): Promise<number> {
  const { output } = context;
  const request = requestOf(asked);
  return await withReader(context, async (reader) => {
    await catchUp(context, reader);
    const answer = await reader.top(request);
    if (output.json)
      output.result({ command: 'usage top', ok: isWhole(answer), ...answer, schemaVersion: 1 });
    else show(context, request, answer);
    return statusOf(answer);
  });
}

function show({ output, now }: Context, request: Request, answer: Top & Standing): void {
  const title = (text: string) => output.result(output.style('bold', `${text}, ${periodText(request)}`));
  title('Costliest sessions');
  if (answer.sessions.length === 0) output.result('None.');
  else
    output.table(
      [
        { title: 'SESSION' },
        { title: 'STARTED BY' },
        { title: 'BEGAN' },
        { title: 'LASTED', align: 'right' },
        { title: 'CALLS', align: 'right' },
        { title: 'TOKENS', align: 'right' },
        { title: 'COST', align: 'right' },
      ],
      answer.sessions.map((one) => [
        `${one.agent}/${one.session}`,
        one.job === undefined ? (one.trigger ?? 'unknown') : `cron ${one.job}`,
        one.start === undefined ? '' : formatAge(Date.parse(one.start), now()),
        one.start === undefined || one.end === undefined
          ? ''
          : formatDuration(Math.max(0, Date.parse(one.end) - Date.parse(one.start))),
        formatCount(one.calls),
        shortCount(one.total),
        costText(one),
      ]),
    );
  output.result('');
  title('Costliest cron jobs');
  if (answer.jobs.length === 0) output.result('None.');
  else
    output.table(
      [
        { title: 'AGENT' },
        { title: 'JOB' },
        { title: 'RUNS', align: 'right' },
        { title: 'MEDIAN RUN', align: 'right' },
        { title: 'TOKENS', align: 'right' },
        { title: 'COST', align: 'right' },
      ],
      answer.jobs.map((one) => [
        one.agent,
        one.job,
        formatCount(one.runs),
        one.medianCost === null ? 'unpriced' : dollars(one.medianCost, 4),
        shortCount(one.total),
        one.cost === null ? 'unpriced' : dollars(one.cost),
      ]),
    );
  output.result('');
  title('Runs over twice the median of their job');
  if (answer.outliers.length === 0) output.result('None.');
  else
    output.table(
      [
        { title: 'AGENT' },
        { title: 'JOB' },
        { title: 'SESSION' },
        { title: 'COST', align: 'right' },
        { title: 'MEDIAN', align: 'right' },
        { title: 'TIMES', align: 'right' },
      ],
      answer.outliers.map(({ agent, job, session, cost, median }) => [
        agent,
        job,
        session,
        dollars(cost, 4),
        dollars(median, 4),
        median === 0 ? '' : `× ${(cost / median).toFixed(1)}`,
      ]),
    );
  output.result('');
  for (const line of coverageLines(undefined, answer, now())) output.result(output.style('dim', line));
}
