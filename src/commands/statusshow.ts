import type { Context } from '../context.ts';
import { formatAge, formatBytes, visible } from '../format.ts';
import type { Standing } from '../jobs/standing.ts';
import type { Output } from '../output.ts';
import { wrapped } from '../table.ts';
import type { Status } from './status.ts';

/** What is not well and what to do comes first, then how all stands. A line each, for who reads it with a program. */
export function showStatus({ output }: Pick<Context, 'output'>, status: Status, now: number): void {
  const { nexus, notes = [] } = status;
  if (status.ok) output.result(output.style('green', 'All is well.'));
  for (const { problem, next } of status.problems) say(output, 'not well:', 'red', `${problem} ${next}`);
  for (const note of notes) say(output, 'note:', 'cyan', note);
  output.result('');
  output.result(`host      ${status.host}`);
  output.result(`openclaw  ${'error' in status.openclaw ? 'not found' : status.openclaw.stateDir}`);
  output.result(
    `archive   ${nexus.where} (${nexus.kind}, ${nexus.reachable ? 'reachable' : 'not reachable'})`,
  );
  for (const [job, run] of Object.entries(status.jobs)) {
    const when =
      run === null
        ? 'never ran'
        : `${run.ok ? 'well' : 'not well'}, ${formatAge(Date.parse(run.endedAt), now)}`;
    const running = job === 'backfill' && status.backfillSince !== undefined;
    output.result(
      `${(job === 'pull-webhooks' ? 'webhooks' : job).padEnd(8)}  ${running ? `running, ${run === null ? 'for the first time' : `before: ${when}`}` : when}`,
    );
  }
  showUnits(output, status, now);
  showAgents(output, status, now);
  showMail(output, status, now);
}

function say(output: Output, title: string, style: 'red' | 'cyan', text: string): void {
  const [first = '', ...rest] = wrapped(visible(`${title} ${text}`), output.size.width, '  ');
  output.result([`${output.style(style, title)}${first.slice(title.length)}`, ...rest].join('\n'));
}

function showUnits(output: Output, { units = [] }: Status, now: number): void {
  if (units.length === 0) return;
  const age = (at: string | undefined) => (at === undefined ? '-' : formatAge(Date.parse(at), now));
  const both = new Set(units.map(({ manager }) => manager)).size > 1;
  output.result('');
  output.table(
    [{ title: 'unit' }, { title: 'state' }, { title: 'last run' }, { title: 'next run' }],
    units.map(({ unit, manager, state, lastRunAt, nextRunAt }) => [
      both ? `${unit} (${manager})` : unit,
      state,
      age(lastRunAt),
      age(nextRunAt),
    ]),
  );
}

function showAgents(output: Output, { agents }: Status, now: number): void {
  if (agents.length === 0) return;
  output.result('');
  output.table(
    [
      { title: 'agent' },
      { title: 'era' },
      { title: 'found' },
      { title: 'shipped' },
      { title: 'not yet' },
      { title: 'bytes', align: 'right' as const },
      { title: 'waiting since' },
      { title: 'pruned' },
    ],
    agents.flatMap((standing) => rowsOf(standing, now)),
  );
}

function showMail(output: Output, { mail }: Status, now: number): void {
  if (mail === undefined) return;
  output.result('');
  output.table(
    [
      { title: 'mailbox' },
      { title: 'host' },
      { title: 'pending' },
      { title: 'bytes', align: 'right' as const },
      { title: 'waiting since' },
      { title: 'to tell' },
      { title: 'unanswered' },
    ],
    mail.map(({ agent, as, host, pending, bytes, oldestAt, untold, admitted, failed }) => [
      nameOf(agent, as),
      host ?? '-',
      pending,
      formatBytes(bytes),
      oldestAt === undefined ? '-' : formatAge(Date.parse(oldestAt), now),
      untold,
      admitted + failed,
    ]),
  );
}

function rowsOf(standing: Standing, now: number): (string | number)[][] {
  const name = nameOf(standing.agent, standing.as);
  const waiting =
    standing.oldestUnshippedAt === undefined ? '-' : formatAge(Date.parse(standing.oldestUnshippedAt), now);
  const pruned = standing.prunedAt === undefined ? '-' : formatAge(Date.parse(standing.prunedAt), now);
  const eras = Object.entries(standing.eras);
  if (eras.length === 0) return [[name, '-', 0, 0, 0, formatBytes(0), waiting, pruned]];
  return eras.map(([era, { found, shipped, unshipped, bytes }], index) => [
    index === 0 ? name : '',
    era,
    found,
    shipped,
    unshipped,
    formatBytes(bytes),
    ...(index === 0 ? [waiting, pruned] : ['', '']),
  ]);
}

function nameOf(agent: string, as: string): string {
  return as === agent ? agent : `${agent} (as ${as})`;
}
