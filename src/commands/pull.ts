import { openclawEnvironment } from '../config.ts';
import type { Context } from '../context.ts';
import { formatCount, formatDuration, formatItems } from '../format.ts';
import { attend, attendRounds } from '../jobs/attend.ts';
import { setAsideSummary } from '../jobs/failures.ts';
import { runPull } from '../jobs/pull.ts';
import { type Notified, type PullAudit, type PullReport, pullStatus } from '../jobs/pullreport.ts';
import type { PullSurroundings } from '../jobs/pullsite.ts';
import { tellDue } from '../jobs/pulltell.ts';
import { followPutio, putioOfPull, type PutioStanding } from '../jobs/putiopull.ts';
import type { Facts } from '../logline.ts';
import { openMailbox } from '../open.ts';
import type { Output } from '../output.ts';
import { attendingIn, logFailed } from './jobreport.ts';

export interface PullOptions {
  agent: string[];
  follow?: boolean;
}

/** How many failed items are named on a terminal; `--json` names all. */
const mostNamed = 20;

/** After a signal what is in the inbox is still acknowledged, if that takes no longer. */
const graceMs = 5_000;

/** Puts pending webhooks into the inboxes of this host's agents and tells them; with `follow` stays and does so. */
export async function pull(context: Context, options: PullOptions): Promise<number> {
  const { config, env, output, signal, now, version } = context;
  const line = output.progress();
  const log = logFailed(output, () => now().getTime());
  const grace = afterwards(signal, graceMs);
  let delivered = 0;
  const putio = { config, env, signal, now, warn: output.warn };
  const around: PullSurroundings & { beside: PutioStanding } = {
    config,
    env: openclawEnvironment(config, env),
    openMailbox: () => openMailbox(config, grace.signal, version, { say: output.debug }),
    signal,
    now,
    warn: output.warn,
    failed: log.failed,
    progress(items) {
      delivered += items;
      if (options.follow !== true) line.update(`pull-webhooks: ${formatItems(delivered, 'item')} delivered`);
    },
    tell: tellDue(config, openclawEnvironment(config, env)),
    ...putioOfPull(putio),
    beside: { failed: [], setAside: [] },
  };
  const request = { agents: options.agent };
  try {
    const attending = attendingIn(context, false);
    const passed = (audit: PullAudit, agent: string) => showPass(output, audit, agent);
    const { report, unavailable } = await (options.follow === true
      ? attendRounds(attending, 'pull-webhooks', async ({ ended }) => {
          const { followPull } = await import('../jobs/pullfollow.ts');
          return await beside(() => followPull(request, { ...around, ended }, passed));
        })
      : attend(attending, 'pull-webhooks')((begun) => runPull(request, { ...around, begun })));
    line.stop();
    log.rest();
    showPull(output, report, options.follow === true);
    return pullStatus(report, unavailable);
  } finally {
    log.rest();
    line.stop();
    grace.end();
  }

  /** A pull that stays, and beside it the looks at put.io. */
  async function beside<T>(work: () => Promise<T>): Promise<T> {
    const ended = new AbortController();
    const both = AbortSignal.any([signal, ended.signal]);
    const looking = followPutio({ ...putio, signal: both }, around.openMailbox, around.beside);
    try {
      return await work();
    } finally {
      ended.abort();
      await looking;
    }
  }
}

/** A signal that follows another after a while. */
function afterwards(signal: AbortSignal, ms: number): { signal: AbortSignal; end: () => void } {
  const later = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const begin = () => {
    timer = setTimeout(() => later.abort(signal.reason), ms);
    timer.unref();
  };
  signal.addEventListener('abort', begin, { once: true });
  return {
    signal: later.signal,
    end() {
      signal.removeEventListener('abort', begin);
      clearTimeout(timer);
    },
  };
}

/** What one pass of `--follow` did, on stderr: stdout gets the sum at the end. */
function showPass(output: Output, audit: PullAudit, agent: string): void {
  const parts = [
    ...(audit.delivered > 0 ? [`${formatItems(audit.delivered, 'item')} delivered`] : []),
    ...notifiedParts(audit.notified),
  ];
  output.info(`pull-webhooks: ${agent}: ${parts.join(', ')}.`, factsOf(audit, agent));
}

function factsOf({ delivered, already, failed, notified }: PullAudit, agent: string): Facts {
  const told = notified.done + notified.admitted + notified.repeated;
  return { agent, delivered, already, told, untold: notified.failed, failed };
}

/** Who else is at work, a line an agent, and the run in one line. */
function logPull(output: Output, report: PullReport, follow: boolean): void {
  for (const { item, reason } of report.busy ?? []) output.warn(`${item}: ${reason}`, { item, code: 'busy' });
  // Each pass of many has been told.
  if (!follow)
    for (const [agent, audit] of Object.entries(report.agents)) {
      const facts = factsOf(audit, agent);
      const eventful = Object.values(facts).some((fact) => typeof fact === 'number' && fact > 0);
      (eventful ? output.info : output.debug)('Agent done.', facts);
    }
  const { ok, delivered, already, notified, failed, durationMs } = report;
  output.summary('Run ended.', {
    ok,
    delivered,
    already,
    told: notified.done + notified.admitted + notified.repeated,
    untold: notified.failed,
    failed: failed.length,
    ms: durationMs,
  });
}

function showPull(output: Output, report: PullReport, follow: boolean): void {
  if (!output.forPeople) logPull(output, report, follow);
  if (output.json) output.result(report);
  if (output.json || output.inJournal) return;
  const agents = Object.entries(report.agents);
  if (agents.length > 0)
    output.table(
      ['agent', 'delivered', 'already', 'failed', 'told', 'admitted', 'repeated', 'not told', 'waiting'].map(
        (title) => ({ title }),
      ),
      agents.map(([id, { as, delivered, already, failed, notified }]) => [
        as === undefined ? id : `${id} (as ${as})`,
        delivered,
        already,
        failed,
        notified.done,
        notified.admitted,
        notified.repeated,
        notified.failed,
        notified.waiting,
      ]),
    );
  const unwell = output.forPeople ? [...report.failed, ...(report.busy ?? [])] : [];
  for (const { item, reason } of unwell.slice(0, mostNamed)) output.error(`${item}: ${reason}`);
  if (unwell.length > mostNamed)
    output.error(`and ${unwell.length - mostNamed} more; --json names them all.`);
  if (report.setAside.length > 0) output.warn(`${setAsideSummary(report.setAside.length)}.`);
  const told = notifiedParts(report.notified);
  const parts = [
    `${formatItems(report.delivered, 'item')} delivered`,
    `${formatCount(report.already)} already there`,
    `${formatCount(report.failed.length)} failed`,
    ...told,
    ...(report.reconciled === undefined || report.reconciled.found === 0
      ? []
      : [`${formatItems(report.reconciled.found, 'transfer')} found at put.io for the next run`]),
  ];
  const ended = report.interrupted === undefined ? '' : `, stopped by ${report.interrupted}`;
  output.result(`pull-webhooks: ${parts.join(', ')}, in ${formatDuration(report.durationMs)}${ended}.`);
}

/** Batches by what became of them; those that there are none of are left out. */
function notifiedParts({ done, admitted, repeated, failed, waiting }: Notified): string[] {
  const counts: [number, string][] = [
    [done, 'told'],
    [admitted, 'admitted'],
    [repeated, 'repeated'],
    [failed, 'not told'],
    [waiting, 'waiting'],
  ];
  return counts
    .filter(([count]) => count > 0)
    .map(([count, how]) => `${formatItems(count, 'message')} ${how}`);
}
