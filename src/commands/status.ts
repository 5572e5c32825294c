import { isSettings, type Settings } from '../configfile.ts';
import { type Config, openclawEnvironment } from '../config.ts';
import type { Context } from '../context.ts';
import { describe, exit, exitStatus, failedWith, NexusError } from '../errors.ts';
import { formatAge, formatCount, formatDuration, formatItems } from '../format.ts';
import type { Ledger, Run } from '../jobs/ledger.ts';
import { type Standing, standingOf } from '../jobs/standing.ts';
import { archivePlace, isFresh, openMailbox, openNexus } from '../open.ts';
import { locate, type State } from '../openclaw/locate.ts';
import { isMe } from '../systemd/me.ts';
import { type Look, lookAtUnits, userOf } from '../systemd/unitstates.ts';
import { valueAt } from '../settings.ts';
import type { AlertDue } from './statusalerts.ts';
import { few } from './few.ts';
import { openHere, problemsMissing, problemsSetAside } from './statusledger.ts';
import { logStatus } from './statuslog.ts';
import { type AgentMail, type Mail, mailOf, type Problem, usesMail } from './statusmail.ts';
import { showStatus } from './statusshow.ts';
import type { Units, UnitsGiven, UnitStanding } from './statusunits.ts';

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
  /** Units and timers of Nexus, of the machine and of this user; absent where systemd has none. */
  units?: UnitStanding[];
  /** Since when the backfill runs as a unit, ISO 8601; absent while it does not. */
  backfillSince?: string;
  /** What is worth knowing and nothing to do about. */
  notes?: string[];
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

/**
 * Whether all is well: 0 only then, 69 when Nexus cannot be reached, else 3; with `alert` it is 3 of whatever was found
 * and told, so that any other says that it could not look or tell. Changes nothing but alerts and metrics.
 */
export async function status(context: Context, { alert = false }: StatusOptions = {}): Promise<number> {
  if (!alert) return await look(context);
  const { attendStatus } = await import('./statusalerts.ts');
  return await attendStatus(context, (alertDue) => look(context, alertDue));
}

async function look(context: Context, alertDue?: AlertDue): Promise<number> {
  const { config, output } = context;
  const now = context.now().getTime();
  const problems: Problem[] = [];
  const [{ nexus, failure }, looks] = await Promise.all([reach(context, problems), looksOf(context, now)]);
  const ledger = openHere(context, problems);
  try {
    const state = await openclawState(context, problems, looks);
    // Out of reach it is taken for the one that was shipped to last.
    const store = nexus.store ?? ledger?.latestStore() ?? '';
    const agents: Standing[] = [];
    if (state !== undefined)
      for (const agent of state.agents) {
        if (config.agents[agent.id]?.skip === true) continue;
        agents.push(await standingOf(state, agent, config, ledger, store, now));
      }
    problems.push(...problemsMissing(state, agents, config, ledger, store));
    const jobs = lastRuns(ledger, state && new Set(agents.map(({ agent }) => agent)));
    const units = await unitsHere(looks, { config, ledger, state, now });
    const { backfillSince } = units;
    // History waits for it, and that is as it should be.
    const first = backfillSince !== undefined && !hasBackfilled(ledger);
    const notes = [
      ...(first
        ? [
            `The first backfill is running since ${formatDuration(now - backfillSince)}; what it has not reached is not archived yet.`,
          ]
        : []),
      ...units.notes,
      ...(await import('./statususage.ts')).usageNotes(config),
    ];
    problems.push(...units.problems, ...problemsSetAside(ledger, config, store, state));
    problems.push(...agents.flatMap((agent) => problemsOf(agent, now, first)));
    problems.push(...problemsOfJobs(jobs, agents, units.silent, first));
    const mail = await mailHere(context, nexus, agents, now);
    problems.push(...(mail?.problems ?? []));
    if (config.alerts.channels.length > 0)
      problems.push(
        ...(await (await import('./statuschannels.ts')).channelProblems(context, now, nexus.reachable)),
      );
    const standing: Status = {
      schemaVersion: 1,
      command: 'status',
      ok: problems.length === 0,
      host: config.host,
      openclaw:
        state === undefined
          ? { error: problems[0]?.problem ?? 'There is none.' }
          : { stateDir: state.stateDir, warnings: state.warnings },
      nexus,
      agents,
      jobs,
      ...(looks.length === 0 ? {} : { units: units.standings }),
      ...(backfillSince === undefined ? {} : { backfillSince: new Date(backfillSince).toISOString() }),
      ...(notes.length === 0 ? {} : { notes }),
      ...(mail === undefined || mail.agents.length === 0 ? {} : { mail: mail.agents }),
      problems,
    };
    logStatus(output, standing);
    if (output.json) output.result(standing);
    else if (!output.inJournal) showStatus(context, standing, now);
    await (await import('./statustold.ts')).tellStatus(context, now, standing);
    await alertDue?.(problems, units.undecided, state === undefined && isElsewhere(looks));
    if (alertDue === undefined && failure !== undefined) return exitStatus(failure);
    return standing.ok ? exit.done : exit.someFailed;
  } finally {
    ledger?.close();
  }
}

/** What systemd says, where it runs and has units of Nexus: a machine without is not slowed. */
async function looksOf({ env }: Context, now: number): Promise<Look[]> {
  return process.platform === 'linux' ? await lookAtUnits(env, now) : [];
}

async function unitsHere(looks: readonly Look[], given: UnitsGiven): Promise<Units> {
  if (looks.length === 0) return { standings: [], problems: [], notes: [], silent: [], undecided: [] };
  return (await import('./statusunits.ts')).unitsOn(looks, given);
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
    const nexus = await openNexus(impatient(config), signal, version, { timeoutMs: tryMs });
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
      code: error.code,
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
  const open = there
    ? () => openMailbox(impatient(config), signal, version, { timeoutMs: tryMs })
    : undefined;
  return await mailOf(
    config,
    agents.map(({ agent }) => agent),
    open,
    now,
  );
}

/** For one of two tries at an endpoint. */
const tryMs = 5_000;

/** Whoever asks for the status waits for the answer: two tries or ten seconds, not minutes of them. */
function impatient(config: Config): Config {
  const timeoutMs = Math.min(10_000, config.store.timeoutMs);
  return {
    ...config,
    retry: { ...config.retry, tries: Math.min(2, config.retry.tries) },
    store: { ...config.store, timeoutMs },
  };
}

async function openclawState(
  context: Context,
  problems: Problem[],
  looks: readonly Look[],
): Promise<State | undefined> {
  try {
    return await locate(openclawEnvironment(context.config, context.env));
  } catch (error) {
    if (!failedWith(error, 'config', 'forbidden')) throw error;
    if (error.code === 'config' && isElsewhere(looks)) return undefined;
    problems.push({
      problem: error.message,
      next: error.hint ?? 'Set OPENCLAW_STATE_DIR to the state directory of OpenClaw.',
    });
    return undefined;
  }
}

/** No OpenClaw is missed where only the endpoint is installed, nor where the jobs are another user's. */
function isElsewhere(looks: readonly Look[]): boolean {
  const hosts = looks.filter(({ host }) => host);
  return hosts.length > 0 ? hosts.every((look) => !isMe(userOf(look))) : looks.length > 0;
}

/** Of pulls only where one ran: most hosts have no webhooks. Of an agent that is gone nothing will be well again. */
function lastRuns(ledger: Ledger | undefined, known: ReadonlySet<string> | undefined): Status['jobs'] {
  const runs = [...jobNames, pullName].map((job): [string, JobStanding | null] => {
    const [run, ...earlier] = ledger?.runs(job, mostRuns) ?? [];
    if (run === undefined) return [job, null];
    const { startedAt, endedAt, ok, report } = run;
    const unwell = ok ? leftUnwell(run, earlier).filter((agent) => known?.has(agent) ?? true) : [];
    return [job, { startedAt, endedAt, ok, report, ...(unwell.length > 0 ? { unwell } : {}) }];
  });
  return Object.fromEntries(runs.filter(([job, run]) => job !== pullName || run !== null));
}

/** A backfill once came to its end. */
function hasBackfilled(ledger: Ledger | undefined): boolean {
  return (ledger?.runs('backfill', mostRuns) ?? []).some((run) => Object.keys(auditsIn(run)).length > 0);
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

/** `first`: the first backfill is on its way to what waits. */
function problemsOf(standing: Standing, now: number, first: boolean): Problem[] {
  const { agent, oversized, unreadable } = standing;
  const problems = few(
    unreadable,
    ({ path, reason, command }) => ({
      problem: reason.includes(path) ? `${agent}: ${reason}` : `${agent}: ${path}: ${reason}`,
      next: `Look with \`${command}\`.`,
    }),
    (count) => ({
      problem: `${agent}: ${formatCount(count)} more cannot be read.`,
      next: '`nexus status --json` names them all.',
    }),
  );
  if (oversized.length > 0)
    problems.push({
      problem: `${agent}: ${formatItems(oversized.length, 'transcript')} larger than maxTranscriptBytes: ${oversized.slice(0, 3).join(', ')}.`,
      next: 'Raise it with `nexus config set maxTranscriptBytes BYTES`, 0 for no limit.',
    });
  problems.push(
    ...few(
      standing.refused,
      ({ item, reason }) => ({
        problem: `${agent}: ${item} is not shipped: ${reason}.`,
        next: 'Move it away, or put the transcript itself in its place.',
      }),
      (count) => ({
        problem: `${agent}: ${formatCount(count)} more are not shipped.`,
        next: '`nexus status --json` names them all.',
      }),
    ),
  );
  const waiting = Object.values(standing.eras).reduce((sum, era) => sum + era.unshipped, 0);
  const oldest = standing.oldestUnshippedAt === undefined ? now : Date.parse(standing.oldestUnshippedAt);
  if (!first && waiting > 0 && now - oldest >= lagMs)
    problems.push({
      problem: `${agent}: ${formatItems(waiting, 'transcript')} not shipped, the oldest event from ${formatAge(oldest, now)}.`,
      next: 'Run `nexus upload`, or `nexus backfill` when it never ran.',
    });
  const pruned = standing.prunedAt === undefined ? undefined : Date.parse(standing.prunedAt);
  if (pruned !== undefined && pruned - now <= pruneSoonMs)
    problems.push({
      problem: `${agent}: ${standing.prunedFirst} is not shipped, and OpenClaw ${pruned <= now ? 'may delete it any time' : `may delete it ${formatAge(pruned, now)}`}.`,
      next: first ? 'The backfill that is running is on its way to it.' : 'Run `nexus backfill` now.',
    });
  return problems;
}

/** `silent`: jobs of which something worse is told already. */
function problemsOfJobs(
  jobs: Status['jobs'],
  agents: Standing[],
  silent: readonly string[],
  first: boolean,
): Problem[] {
  const found = agents.some(({ eras }) => Object.values(eras).some((era) => era.found > 0));
  const ran = jobNames.some((job) => (jobs[job] ?? null) !== null);
  const nothing =
    !ran && found && !first
      ? [{ problem: 'Nothing was archived from this host yet.', next: 'Run `nexus backfill`.' }]
      : [];
  const failed = Object.entries(jobs).flatMap(([job, run]) =>
    run === null || silent.includes(job) || (run.ok && run.unwell === undefined)
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
