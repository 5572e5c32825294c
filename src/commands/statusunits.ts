import path from 'node:path';
import type { Config } from '../config.ts';
import { formatAge, formatDuration, formatItems } from '../format.ts';
import type { Ledger } from '../jobs/ledger.ts';
import { streakOf } from '../jobs/streak.ts';
import type { State } from '../openclaw/locate.ts';
import { endingOf } from '../systemd/failure.ts';
import type { Mode } from '../systemd/systemctl.ts';
import { isMe, myName } from '../systemd/me.ts';
import { type Look, type ServiceLook, type TimerLook, type UnitLook, userOf } from '../systemd/unitstates.ts';
import { writesOf } from './installplan.ts';
import type { Problem } from './statusmail.ts';
import { hear, isRunning, type TimedJob } from './statussilence.ts';

/** How one unit stands, as `--json` prints it. Times are ISO 8601. */
export interface UnitStanding {
  unit: string;
  manager: Mode;
  /** In one word, for people. */
  state: string;
  /** What systemd itself says: ActiveState, SubState, UnitFileState. */
  active: string;
  sub: string;
  enabled: string;
  /** Of a timer: when it last fired, or its job was started by hand; when it fires next. Of a service: its last start. */
  lastRunAt?: string;
  nextRunAt?: string;
  intervalMs?: number;
  restarts?: number;
}

export interface Units {
  standings: UnitStanding[];
  problems: Problem[];
  /** Worth knowing, and nothing to do about. */
  notes: string[];
  /** Jobs whose silence is among the problems: it says more than that their last run failed. */
  silent: string[];
  /** Subjects of alerts that are neither to be raised nor over. `all` where nothing is known. */
  undecided: string[] | 'all';
  /** The backfill runs, since then (ms since 1970). */
  backfillSince?: number;
}

export interface UnitsGiven {
  config: Config;
  /** That of this user; absent where there is none. */
  ledger: Ledger | undefined;
  state: State | undefined;
  now: number;
}

const backfill = 'nexus-backfill.service';
const endpoint = 'nexus-serve.service';
const timed: readonly TimedJob[] = ['upload', 'pull-webhooks', 'status'];

export function unitsOn(looks: readonly Look[], given: UnitsGiven): Units {
  const all = looks.map((look) => unitsOf(look, given));
  const since = all.map(({ backfillSince }) => backfillSince).find((one) => one !== undefined);
  return {
    standings: all.flatMap(({ standings }) => standings),
    problems: all.flatMap(({ problems }) => problems),
    notes: all.flatMap(({ notes }) => notes),
    silent: all.flatMap(({ silent }) => silent),
    undecided: all.some(({ undecided }) => undecided === 'all') ? 'all' : all.flatMap((one) => one.undecided),
    ...(since === undefined ? {} : { backfillSince: since }),
  };
}

function unitsOf(look: Look, given: UnitsGiven): Units {
  const units: Units = { standings: [], problems: [], notes: [], silent: [], undecided: [] };
  if (look.failure !== undefined) return unknown(look, look.failure);
  const { now } = given;
  const user = userOf(look);
  const own = isMe(user);
  const serve = look.services.get(endpoint);
  if (!own && look.host && given.state === undefined && (serve === undefined || !isMe(serve.user))) {
    units.problems.push({
      problem: `What is archived of this machine is not for this user to see: OpenClaw belongs to ${user}.`,
      next: `Run \`sudo -u ${user} -H nexus status\`.`,
    });
  } else if (!own)
    units.notes.push(
      look.host
        ? `The jobs of this machine run as ${user}: \`sudo -u ${user} -H nexus status\` says how they fare.`
        : `The endpoint of this machine runs as ${user}: \`sudo -u ${user} -H nexus status\` says what it holds.`,
    );
  const service = look.services.get(backfill);
  if (isRunning(service) && service?.startedAt !== undefined) units.backfillSince = service.startedAt.wall;
  if (serve !== undefined) addEndpoint(units, look, serve, now);
  for (const job of timed) if (look.host || job === 'status') addJob(units, look, job, own, given);
  if (service !== undefined)
    addFailure(units, look, service, own ? given.ledger : undefined, 'backfill', now);
  if (own && look.mode === 'system') addStrangers(units, look, given);
  units.standings = standingsOf(look);
  return units;
}

function unknown({ mode, host }: Look, { reason, stopped }: { reason: string; stopped: boolean }): Units {
  const nothing: Units = { standings: [], problems: [], notes: [], silent: [], undecided: 'all' };
  const me = myName() ?? 'USER';
  if (stopped)
    nothing.problems.push({
      problem: `The systemd of ${me} does not run, and ${host ? 'no timer of Nexus' : 'no endpoint'} with it.`,
      next: `Run \`sudo loginctl enable-linger ${me}\`: then it runs without a login.`,
    });
  else
    nothing.notes.push(
      `How the units of ${mode === 'user' ? me : 'the machine'} stand is not known: ${/[.!?]$/.test(reason) ? reason : `${reason}.`}`,
    );
  return nothing;
}

/** What becomes of one timer, its service and their job: one problem at the most for each. */
function addJob(units: Units, look: Look, job: TimedJob, own: boolean, given: UnitsGiven): void {
  const { config, ledger, now } = given;
  const [timer, service] = [look.timers.get(`nexus-${job}.timer`), look.services.get(`nexus-${job}.service`)];
  const backfills = units.backfillSince !== undefined;
  const hearing = hear(job, { look, timer, service, ledger, own, backfills, now });
  const { verdict, fails, counts, succeededAt } = hearing;
  const wrong = timer === undefined ? undefined : wrongWith(timer, look.mode);
  const subject = `silent/${job}`;
  const noun = job === 'status' ? 'look at the status' : job;
  const none =
    succeededAt === undefined
      ? `no ${noun} has succeeded yet`
      : `no ${noun} has succeeded for ${formatDuration(now - succeededAt)}`;
  // A job whose failures are counted is told by its own alert, once it has failed often enough or when it does.
  const told = own ? counts || (ledger !== undefined && isTold(ledger, job, config)) : fails;
  if (verdict === 'waiting' || (verdict === 'silent' && told)) undecide(units, subject);
  const since = hearing.since === undefined ? {} : { since: new Date(hearing.since).toISOString() };
  const raised = verdict === 'silent' && !told ? { subject, ...since } : {};
  if (verdict === 'silent') units.silent.push(job);
  if (wrong !== undefined)
    units.problems.push({
      problem: verdict === 'silent' ? `${wrong.problem}, and ${none}.` : `${wrong.problem}.`,
      next: wrong.next,
      ...raised,
    });
  else if (verdict === 'silent') {
    const every = timer?.intervalMs === undefined ? '' : ` every ${formatDuration(timer.intervalMs)}`;
    units.problems.push({
      problem: `${capital(none)}, though ${timer?.unit ?? 'its timer'} starts one${every}${fails ? ': its runs fail' : ''}.`,
      next: fails
        ? `Run \`nexus ${job}\` and read what failed.`
        : `Look at \`${systemctl(look.mode, false)} status ${service?.unit ?? `nexus-${job}.service`}\`.`,
      ...raised,
    });
  }
  if (service !== undefined && !(verdict === 'silent' && fails))
    addFailure(units, look, service, own ? ledger : undefined, job, now);
}

/** The alert of the job itself lasts, or comes with its next failure. */
function isTold(ledger: Ledger, job: string, config: Config): boolean {
  const { verdict, failures } = streakOf(ledger, job);
  return verdict === 'failed' && failures >= config.alerts.afterFailures;
}

function undecide(units: Units, subject: string): void {
  if (units.undecided !== 'all') units.undecided.push(subject);
}

/** A service that failed, where its job's last run does not tell the same. */
function addFailure(
  units: Units,
  { mode }: Look,
  service: ServiceLook,
  ledger: Ledger | undefined,
  job: string,
  now: number,
): void {
  const { unit, active, sub, endedAt } = service;
  if (service.load === 'not-found' || service.load === 'masked') {
    units.problems.push({ problem: `${wrongFile(service)}.`, next: mendFile(service, mode) });
    return;
  }
  const again = sub.startsWith('auto-restart');
  if (active !== 'failed' && !again) return;
  if (ledger?.runs(job, 1)[0]?.ok === false) return;
  const when = endedAt === undefined ? '' : ` It was ${formatAge(endedAt.wall, now)}.`;
  units.problems.push({
    problem: `${ending(service)}${when}`,
    next: again
      ? `It is started again in a few minutes; \`${journal(mode, unit)}\` says why it ended.`
      : `Read \`${journal(mode, unit)}\`, mend it, and run \`${systemctl(mode)} start ${unit}\`.`,
  });
}

function ending({ unit, result, ended }: ServiceLook): string {
  return endingOf(unit, { result, code: ended?.code, status: ended?.status });
}

const manyRestarts = 3;
const settledMs = 300_000;

function addEndpoint(units: Units, look: Look, serve: ServiceLook, now: number): void {
  const { mode } = look;
  const { unit, active, sub, restarts } = serve;
  const subject = 'silent/serve';
  const running = active === 'active' && sub === 'running';
  const upMs = look.kernel - (serve.activeSince?.kernel ?? 0);
  const often = `started again ${formatItems(restarts, 'time')}`;
  if (serve.load !== 'loaded') {
    units.problems.push({ problem: `${wrongFile(serve)}.`, next: mendFile(serve, mode), subject });
  } else if (running) {
    if (serve.file === 'disabled')
      units.problems.push({
        problem: `${unit} is not enabled: it will not be there after the next boot.`,
        next: `Run \`${systemctl(mode)} enable ${unit}\`.`,
      });
    if (restarts >= manyRestarts && upMs < settledMs) {
      // One that comes up and dies again and again is not over while it is up.
      undecide(units, subject);
      units.problems.push({
        problem: `${unit} was ${often}, last ${formatAge(now - upMs, now)}.`,
        next: `Read \`${journal(mode, unit)}\`.`,
      });
    }
  } else if (active === 'failed' || sub.startsWith('auto-restart') || restarts >= manyRestarts) {
    const loops = active !== 'failed';
    // systemd tells of one that it has given up.
    const raised = loops && restarts >= manyRestarts ? { subject } : {};
    if (!loops || restarts < manyRestarts) undecide(units, subject);
    units.problems.push({
      problem: `${ending(serve)}${loops && restarts > 0 ? ` It was ${often} and does not stay.` : ''}`,
      next: `Read \`${journal(mode, unit)}\`, mend it, and run \`${systemctl(mode)} restart ${unit}\`.`,
      ...raised,
    });
  } else if (active === 'inactive') {
    const stopped = serve.inactiveSince;
    const downMs = stopped === undefined ? look.kernel : look.kernel - stopped.kernel;
    if (downMs < stoppedMs) undecide(units, subject);
    units.problems.push({
      problem: `${unit} is stopped${stopped === undefined ? '' : `, since ${formatDuration(now - stopped.wall)}`}: no webhook is taken in.`,
      next: `Run \`${systemctl(mode)} enable --now ${unit}\`.`,
      ...(downMs < stoppedMs ? {} : { subject, since: new Date(now - downMs).toISOString() }),
    });
  } else undecide(units, subject);
}

/** Who stops it to mend something is not alerted at once. */
const stoppedMs = 900_000;

/** What is wrong with a timer itself, without a full stop. */
function wrongWith(timer: TimerLook, mode: Mode): { problem: string; next: string } | undefined {
  const { unit, active, file, fires, load } = timer;
  if (load !== 'loaded') return { problem: wrongFile(timer), next: mendFile(timer, mode) };
  if (active === 'failed')
    return { problem: `${unit} has failed`, next: `Look at \`${systemctl(mode, false)} status ${unit}\`.` };
  if (active !== 'active' && active !== 'activating')
    return {
      problem: `${unit} is ${file === 'disabled' ? 'disabled and stopped' : 'stopped'}`,
      next: `Run \`${systemctl(mode)} enable --now ${unit}\`.`,
    };
  if (file === 'disabled')
    return {
      problem: `${unit} is not enabled: it will not be there after the next boot`,
      next: `Run \`${systemctl(mode)} enable ${unit}\`.`,
    };
  if (!fires && active === 'active')
    return {
      problem: `${unit} will not fire again`,
      next: `Look at its times: \`${systemctl(mode, false)} cat ${unit}\`.`,
    };
  return undefined;
}

function wrongFile({ unit, load }: UnitLook): string {
  if (load === 'masked') return `${unit} is masked`;
  return load === 'not-found' ? `${unit} is missing` : `${unit} cannot be loaded (${load})`;
}

function mendFile({ unit, load }: UnitLook, mode: Mode): string {
  if (load === 'masked')
    return `Run \`${systemctl(mode)} unmask ${unit}\`, and \`${systemctl(mode)} enable --now ${unit}\`.`;
  if (load === 'not-found') return `Run \`${installCommand(mode)}\` again.`;
  return `Look at \`${systemctl(mode, false)} status ${unit}\`.`;
}

/** Agents and workspaces that came or moved after the units were written: these are closed to them. */
function addStrangers(units: Units, look: Look, { config, state }: UnitsGiven): void {
  if (state === undefined) return;
  const strangers = new Map<string, Set<string>>();
  for (const job of ['upload', 'pull-webhooks']) {
    const open = look.services.get(`nexus-${job}.service`)?.writable ?? '';
    if (open === '') continue;
    for (const agent of state.agents)
      for (const file of writesOf(job, { config, state: { ...state, agents: [agent] } }))
        if (!isOpen(file, open)) strangers.set(agent.id, (strangers.get(agent.id) ?? new Set()).add(file));
  }
  for (const [agent, files] of strangers)
    units.problems.push({
      problem: `The units were installed before ${agent} had its place, and may not write to ${some([...files])}.`,
      next: `Run \`${installCommand(look.mode)}\` again.`,
    });
}

function some([first = '', ...more]: string[]): string {
  return more.length === 0 ? first : `${first} and ${formatItems(more.length, 'more place')}`;
}

/** `BindPaths=` as systemd shows it: `-/a:/a:rbind /b:/b:rbind`; what lies in one of them is open too. */
function isOpen(file: string, open: string): boolean {
  // Not to be told apart there.
  if (file.includes(':')) return true;
  for (let at = file; at !== path.dirname(at); at = path.dirname(at))
    if (open.includes(`${at}:${at}:`)) return true;
  return false;
}

function standingsOf({ mode, services, timers }: Look): UnitStanding[] {
  const iso = (ms: number) => new Date(ms).toISOString();
  const common = ({ unit, active, sub, file }: UnitLook, state: string) => ({
    unit,
    manager: mode,
    state,
    active,
    sub,
    enabled: file,
  });
  const own = [...services.values()].filter(({ unit }) => unit === endpoint || unit === backfill);
  return [
    ...[...timers.values()].map((timer) => {
      const service = services.get(timer.unit.replace(/timer$/, 'service'));
      const ran = Math.max(timer.lastAt ?? 0, service?.startedAt?.wall ?? 0);
      return {
        ...common(timer, timerState(timer, service)),
        ...(ran === 0 ? {} : { lastRunAt: iso(ran) }),
        ...(timer.nextAt === undefined ? {} : { nextRunAt: iso(timer.nextAt) }),
        ...(timer.intervalMs === undefined ? {} : { intervalMs: timer.intervalMs }),
      };
    }),
    ...own.map((service) => ({
      ...common(service, serviceState(service)),
      ...(service.startedAt === undefined ? {} : { lastRunAt: iso(service.startedAt.wall) }),
      restarts: service.restarts,
    })),
  ];
}

function timerState(timer: TimerLook, service: ServiceLook | undefined): string {
  if (timer.load !== 'loaded') return timer.load === 'not-found' ? 'missing' : timer.load;
  if (isRunning(service)) return 'at work';
  if (timer.active === 'active') return timer.fires ? 'waiting' : 'over';
  return timer.active === 'inactive' ? 'stopped' : timer.active;
}

function serviceState(service: ServiceLook): string {
  const { active, endedAt, load, sub, unit } = service;
  if (load !== 'loaded') return load === 'not-found' ? 'missing' : load;
  if (sub.startsWith('auto-restart')) return 'restarting';
  if (isRunning(service)) return sub === 'running' ? 'running' : active;
  if (active !== 'inactive') return active;
  return unit === backfill ? (endedAt === undefined ? 'not yet run' : 'ended') : 'stopped';
}

function systemctl(mode: Mode, changes = true): string {
  if (mode === 'user') return 'systemctl --user';
  return changes ? 'sudo systemctl' : 'systemctl';
}

function journal(mode: Mode, unit: string): string {
  return `journalctl ${mode === 'user' ? '--user ' : ''}-u ${unit} -n 20`;
}

function installCommand(mode: Mode): string {
  return mode === 'user' ? 'nexus install --user' : 'sudo nexus install';
}

function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
