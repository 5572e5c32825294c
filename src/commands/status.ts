import { existsSync } from 'node:fs';
import { isSettings, type Settings } from '../configfile.ts';
import { type Config, openclawEnvironment } from '../config.ts';
import type { Context } from '../context.ts';
import { describe, exit, exitStatus, failedWith, NexusError } from '../errors.ts';
import { formatAge, formatBytes, formatItems } from '../format.ts';
import { isLeftAlone } from '../jobs/failures.ts';
import { type Ledger, ledgerFile, openLedger, type Run } from '../jobs/ledger.ts';
import { mailStore } from '../jobs/mailfailures.ts';
import { type Standing, standingOf } from '../jobs/standing.ts';
import { archivePlace, isFresh, openMailbox, openNexus } from '../open.ts';
import { locate, type State } from '../openclaw/locate.ts';
import { valueAt } from '../settings.ts';
import { logStatus } from './statuslog.ts';
import { type AgentMail, type Mail, mailOf, type Problem, usesMail } from './statusmail.ts';

interface NexusStanding {
  kind: 'embedded' | 'azure' | 'endpoint';
  where: string;
  reachable: boolean;
  store?: string;
  error?: string;
}

type JobStanding = Pick<Run, 'startedAt' | 'endedAt' | 'ok' | 'report'> & {
  /** Agents whose own last run did not end well, where a later one without them did. */
  unwell?: string[];
};

/** How many runs are looked at for one that an agent had part in. */
const mostRuns = 20;

/** What `nexus status --json` prints. */
export interface Status {
  schemaVersion: 1;
  command: 'status';
  ok: boolean;
  host: string;
  openclaw: { stateDir: string; warnings: string[] } | { error: string };
  nexus: NexusStanding;
  agents: Standing[];
  jobs: Record<string, JobStanding | null>;
  /** Of those agents that have any; absent where no webhooks are received or pulled. */
  mail?: AgentMail[];
  problems: Problem[];
}

/** Unshipped events older than this mean that uploads do not run or do not get through. */
const lagMs = 3_600_000;

/** OpenClaw's deletion of something unshipped is announced this long before. */
const pruneSoonMs = 6 * 3_600_000;

const jobNames = ['backfill', 'upload'];
const pullName = 'pull-webhooks';

export interface StatusOptions {
  /** Also send what alerts are due. */
  alert?: boolean;
}

/** Whether all is well: 0 only then, 69 when Nexus cannot be reached, else 3. Changes nothing but alerts. */
export async function status(context: Context, { alert = false }: StatusOptions = {}): Promise<number> {
  const { config, output } = context;
  const now = context.now().getTime();
  const problems: Problem[] = [];
  const { nexus, failure } = await reach(context, problems);
  const ledger = existsSync(ledgerFile(config)) ? openLedger(ledgerFile(config), output.warn) : undefined;
  try {
    const state = await openclawState(context, problems);
    // Out of reach it is taken for the one that was shipped to last.
    const store = nexus.store ?? ledger?.latestStore() ?? '';
    const agents: Standing[] = [];
    if (state !== undefined)
      for (const agent of state.agents) {
        if (config.agents[agent.id]?.skip === true) continue;
        agents.push(await standingOf(state, agent, config, ledger, store, now));
      }
    const jobs = lastRuns(ledger);
    problems.push(...problemsSetAside(ledger, config.setAsideAfter));
    problems.push(...agents.flatMap((agent) => problemsOf(agent, now)), ...problemsOfJobs(jobs, agents));
    const mail = await mailHere(context, nexus, agents, now);
    problems.push(...(mail?.problems ?? []));
    const standing: Status = {
      schemaVersion: 1,
      command: 'status',
      ok: problems.length === 0,
      host: config.host,
      openclaw:
        state === undefined
          ? { error: problems[0]?.problem ?? '' }
          : { stateDir: state.stateDir, warnings: state.warnings },
      nexus,
      agents,
      jobs,
      ...(mail === undefined || mail.agents.length === 0 ? {} : { mail: mail.agents }),
      problems,
    };
    logStatus(output, standing);
    if (output.json) output.result(standing);
    else if (!output.inJournal) show(context, standing, now);
    if (alert) await (await import('./statusalerts.ts')).alertDue(context, problems);
    if (failure !== undefined) return exitStatus(failure);
    return standing.ok ? exit.done : exit.someFailed;
  } finally {
    ledger?.close();
  }
}

/** Asks Nexus for its store's id; an embedded store that is not there yet is not made for that. */
async function reach(
  context: Context,
  problems: Problem[],
): Promise<{ nexus: NexusStanding; failure: NexusError | undefined }> {
  const { config, signal, version } = context;
  const own = config.store.kind === 'local' ? 'embedded' : config.store.kind;
  const kind = config.endpoint === undefined ? own : 'endpoint';
  const where = archivePlace(config);
  try {
    if (await isFresh(impatient(config)))
      return { nexus: { kind, where, reachable: true }, failure: undefined };
    const nexus = await openNexus(impatient(config), signal, version);
    try {
      const store = await nexus.storeId();
      return { nexus: { kind, where, reachable: true, store }, failure: undefined };
    } finally {
      await nexus.close();
    }
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    problems.push({
      problem: `Nexus at ${where} ${failedWith(error, 'unauthorized', 'forbidden') ? 'refuses' : 'does not answer'}: ${error.message}`,
      next: error.hint ?? 'Check that it runs and that this host reaches it, then run `nexus status` again.',
    });
    return { nexus: { kind, where, reachable: false, error: describe(error) }, failure: error };
  }
}

/** Asks for mail only where there is a mailbox to ask, or something was pulled before. */
async function mailHere(
  { config, signal, version }: Context,
  nexus: NexusStanding,
  agents: readonly Standing[],
  now: number,
): Promise<Mail | undefined> {
  if (!usesMail(config)) return undefined;
  const there = nexus.reachable && nexus.store !== undefined;
  const open = there ? () => openMailbox(impatient(config), signal, version) : undefined;
  return await mailOf(
    config,
    agents.map(({ agent }) => agent),
    open,
    now,
  );
}

/** Whoever asks for the status waits for the answer: two tries or ten seconds, not minutes of them. */
function impatient(config: Config): Config {
  const timeoutMs = Math.min(10_000, config.store.timeoutMs);
  return {
    ...config,
    retry: { ...config.retry, tries: Math.min(2, config.retry.tries) },
    store: { ...config.store, timeoutMs },
  };
}

async function openclawState(context: Context, problems: Problem[]): Promise<State | undefined> {
  try {
    return await locate(openclawEnvironment(context.config, context.env));
  } catch (error) {
    if (!failedWith(error, 'config', 'forbidden')) throw error;
    problems.push({
      problem: error.message,
      next: error.hint ?? 'Set OPENCLAW_STATE_DIR to the state directory of OpenClaw.',
    });
    return undefined;
  }
}

/** Of pulls only where one ran: most hosts have no webhooks. */
function lastRuns(ledger: Ledger | undefined): Status['jobs'] {
  const runs = [...jobNames, pullName].map((job): [string, JobStanding | null] => {
    const [run, ...earlier] = ledger?.runs(job, mostRuns) ?? [];
    if (run === undefined) return [job, null];
    const { startedAt, endedAt, ok, report } = run;
    const unwell = ok ? leftUnwell(run, earlier) : [];
    return [job, { startedAt, endedAt, ok, report, ...(unwell.length > 0 ? { unwell } : {}) }];
  });
  return Object.fromEntries(runs.filter(([job, run]) => job !== pullName || run !== null));
}

/** The agents whose own last run did not end well, though a later one, of other agents, did. */
function leftUnwell(last: Run, earlier: readonly Run[]): string[] {
  const seen = new Set(Object.keys(auditsIn(last)));
  const unwell: string[] = [];
  for (const run of earlier)
    for (const [agent, audit] of Object.entries(auditsIn(run))) {
      if (!seen.has(agent) && Number(valueAt(audit, ['failed']) ?? 0) > 0) unwell.push(agent);
      seen.add(agent);
    }
  return unwell;
}

function auditsIn({ report }: Run): Settings {
  const audits = valueAt(report, ['agents']);
  return isSettings(audits) ? audits : {};
}

function problemsOf(standing: Standing, now: number): Problem[] {
  const { agent, oversized, unreadable } = standing;
  const problems = unreadable.map(({ path, reason, command }) => ({
    problem: reason.includes(path) ? `${agent}: ${reason}` : `${agent}: ${path}: ${reason}`,
    next: `Look with \`${command}\`.`,
  }));
  if (oversized.length > 0)
    problems.push({
      problem: `${agent}: ${formatItems(oversized.length, 'transcript')} larger than maxTranscriptBytes: ${oversized.slice(0, 3).join(', ')}.`,
      next: 'Raise it with `nexus config set maxTranscriptBytes BYTES`, 0 for no limit.',
    });
  for (const { item, reason } of standing.refused)
    problems.push({
      problem: `${agent}: ${item} is not shipped: ${reason}.`,
      next: 'Move it away, or put the transcript itself in its place.',
    });
  const waiting = Object.values(standing.eras).reduce((sum, era) => sum + era.unshipped, 0);
  const oldest = standing.oldestUnshippedAt === undefined ? now : Date.parse(standing.oldestUnshippedAt);
  if (waiting > 0 && now - oldest >= lagMs)
    problems.push({
      problem: `${agent}: ${formatItems(waiting, 'transcript')} not shipped, the oldest event from ${formatAge(oldest, now)}.`,
      next: 'Run `nexus upload`, or `nexus backfill` when it never ran.',
    });
  const pruned = standing.prunedAt === undefined ? undefined : Date.parse(standing.prunedAt);
  if (pruned !== undefined && pruned - now <= pruneSoonMs)
    problems.push({
      problem: `${agent}: ${standing.prunedFirst} is not shipped, and OpenClaw ${pruned <= now ? 'may delete it any time' : `may delete it ${formatAge(pruned, now)}`}.`,
      next: 'Run `nexus backfill` now.',
    });
  return problems;
}

/** What failed so often that no run tries it any more. */
function problemsSetAside(ledger: Ledger | undefined, after: number): Problem[] {
  return (ledger?.allFailures() ?? [])
    .filter((failure) => isLeftAlone(failure, after))
    .map(({ store, agent, item, count, reason }) => ({
      problem: `${agent}: ${store === mailStore ? 'the webhook ' : ''}${item} is set aside after ${count} failures: ${reason}`,
      next:
        store === mailStore
          ? 'It is pending still. When it is mended, run `nexus retry` with its id or --all; `nexus webhooks drop` with its id gives it up.'
          : `When it is mended, run \`nexus retry\` with its name or --all.`,
    }));
}

function problemsOfJobs(jobs: Status['jobs'], agents: Standing[]): Problem[] {
  const found = agents.some(({ eras }) => Object.values(eras).some((era) => era.found > 0));
  const ran = jobNames.some((job) => (jobs[job] ?? null) !== null);
  const nothing =
    !ran && found
      ? [{ problem: 'Nothing was archived from this host yet.', next: 'Run `nexus backfill`.' }]
      : [];
  const failed = Object.entries(jobs).flatMap(([job, run]) =>
    run === null || (run.ok && run.unwell === undefined)
      ? []
      : [
          {
            problem: `The last ${job}${run.unwell === undefined ? '' : ` of ${run.unwell.join(', ')}`} did not end well.`,
            next: `Run \`nexus ${job}\` and read what failed.`,
          },
        ],
  );
  return [...nothing, ...failed];
}

function show({ output }: Context, status: Status, now: number): void {
  const { nexus } = status;
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
    output.result(`${(job === pullName ? 'webhooks' : job).padEnd(8)}  ${when}`);
  }
  if (status.agents.length > 0) {
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
        { title: 'pruned by OpenClaw' },
      ],
      status.agents.flatMap((standing) => rowsOf(standing, now)),
    );
  }
  if (status.mail !== undefined) {
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
      status.mail.map(({ agent, as, host, pending, bytes, oldestAt, untold, admitted, failed }) => [
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
  output.result('');
  if (status.ok) output.result(output.style('green', 'All is well.'));
  for (const { problem, next } of status.problems)
    output.result(`${output.style('red', 'not well:')} ${problem} ${next}`);
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
