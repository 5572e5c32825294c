import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Environment } from '../configfile.ts';
import { diskError, isAbsent } from '../diskerrors.ts';
import { describe } from '../errors.ts';
import { longestPause, spanMs, stampMs } from './calendar.ts';
import { exitCodes } from './failure.ts';
import { askFacts, type Mode } from './systemctl.ts';
import { unitDirectory } from './unitfiles.ts';
import { rolesOf, unitsOf } from './units.ts';

/** A time by both clocks, ms: of the wall (since 1970), and of the kernel (since boot), which stands while it sleeps. */
export interface Stamp {
  wall: number;
  kernel: number;
}

/** How a timer or a service of Nexus stands. */
export interface UnitLook {
  unit: string;
  /** `loaded`, `masked`, `not-found`, … */
  load: string;
  /** `enabled`, `disabled`, `static`, … */
  file: string;
  active: string;
  sub: string;
  result: string;
  /** Who it runs as; empty in a user's own systemd, and of a timer. */
  user: string;
  /** When it last became active, and when it last ceased to be. */
  activeSince?: Stamp;
  inactiveSince?: Stamp;
}

export interface ServiceLook extends UnitLook {
  /** Of the last start. */
  startedAt?: Stamp;
  /** Of the last run, where it has ended; its status where no signal ended it. */
  endedAt?: Stamp;
  ended?: { code: string | undefined; status: string };
  status?: number;
  restarts: number;
  /** What it may write beside its own, as systemd shows it; empty where nothing is closed to it. */
  writable: string;
}

export interface TimerLook extends UnitLook {
  /** ms since 1970. */
  lastAt?: number;
  nextAt?: number;
  /** It will fire again by itself. */
  fires: boolean;
  /** The longest pause between two of its times, and what chance may add to one; absent where it comes once. */
  intervalMs?: number;
  delayMs: number;
}

/** What one systemd, of the machine or of this user, says of Nexus. */
export interface Look {
  mode: Mode;
  /** What is installed of the roles. */
  host: boolean;
  endpoint: boolean;
  services: Map<string, ServiceLook>;
  timers: Map<string, TimerLook>;
  /** Why nothing is known, and whether that is because this systemd does not run. */
  failure?: { reason: string; stopped: boolean };
  /** Now, by the kernel's clock. */
  kernel: number;
}

const asked = [
  'LoadState UnitFileState ActiveState SubState Result User NRestarts BindPaths ExecMainCode ExecMainStatus',
  'LastTriggerUSec NextElapseUSecRealtime NextElapseUSecMonotonic TimersCalendar TimersMonotonic',
  'RandomizedDelayUSec AccuracyUSec ActiveEnterTimestamp ActiveEnterTimestampMonotonic InactiveEnterTimestamp',
  'InactiveEnterTimestampMonotonic ExecMainStartTimestamp ExecMainStartTimestampMonotonic ExecMainExitTimestamp',
  'ExecMainExitTimestampMonotonic',
].flatMap((line) => line.split(' '));

const askMs = 2000;

/**
 * Asks the systemd of the machine and that of this user for the units of Nexus, where any are installed. Where systemd
 * does not run nothing is asked and nothing known. Takes two seconds at the most.
 */
export async function lookAtUnits(env: Environment, now: number): Promise<Look[]> {
  const looks = (['system', 'user'] as const).map((mode) => lookAt(mode, unitDirectory(mode, env), env, now));
  return (await Promise.all(looks)).filter((look) => look !== undefined);
}

async function lookAt(
  mode: Mode,
  directory: string,
  given: Environment,
  now: number,
): Promise<Look | undefined> {
  const env = mode === 'user' ? withRuntime(given) : given;
  const runs = mode === 'system' ? isSystem() : runsForUser(env);
  if (!runs && !(mode === 'user' && isSystem())) return undefined;
  const kernel = Number(process.hrtime.bigint()) / 1e6;
  const there = namesIn(directory);
  if (typeof there === 'string') {
    const nothing = { services: new Map(), timers: new Map() };
    return {
      mode,
      host: true,
      endpoint: false,
      kernel,
      ...nothing,
      failure: { reason: there, stopped: false },
    };
  }
  const { host, endpoint } = rolesOf(there);
  if (!host && !endpoint) return undefined;
  const look: Look = {
    mode,
    host,
    endpoint,
    services: new Map(),
    timers: new Map(),
    kernel,
  };
  if (!runs) return { ...look, failure: { reason: 'It does not run.', stopped: true } };
  const units = unitsOf(host ? (endpoint ? 'both' : 'host') : 'endpoint').filter(
    (unit) => !unit.includes('@'),
  );
  const facts = await askFacts(mode, units, asked, env, askMs);
  if (typeof facts === 'string') return { ...look, failure: { reason: facts, stopped: false } };
  for (const [unit, said] of facts) {
    const one = (name: string) => said.get(name)?.[0] ?? '';
    if (unit.endsWith('.timer')) look.timers.set(unit, timerOf(unit, one, said, now));
    else look.services.set(unit, serviceOf(unit, one));
  }
  return look;
}

function isSystem(): boolean {
  return existsSync('/run/systemd/system');
}

function runsForUser(env: Environment): boolean {
  return existsSync(path.join(env['XDG_RUNTIME_DIR'] || '/nonexistent', 'systemd'));
}

/** As a login would have it: cron, `sudo -u` and `su` do not say where a user's systemd is. */
function withRuntime(env: Environment): Environment {
  if (env['XDG_RUNTIME_DIR']) return env;
  return { ...env, XDG_RUNTIME_DIR: `/run/user/${process.geteuid?.() ?? 0}` };
}

/** Else why it cannot be looked at. */
function namesIn(directory: string): Set<string> | string {
  try {
    return new Set(readdirSync(directory));
  } catch (error) {
    if (isAbsent(error)) return new Set();
    return describe(diskError(error, directory));
  }
}

type One = (name: string) => string;

function unitOf(unit: string, one: One): UnitLook {
  const [activeSince, inactiveSince] = [stampOf('ActiveEnter', one), stampOf('InactiveEnter', one)];
  return {
    unit,
    load: one('LoadState'),
    file: one('UnitFileState'),
    active: one('ActiveState'),
    sub: one('SubState'),
    result: one('Result'),
    user: one('User'),
    ...(activeSince === undefined ? {} : { activeSince }),
    ...(inactiveSince === undefined ? {} : { inactiveSince }),
  };
}

function serviceOf(unit: string, one: One): ServiceLook {
  const [startedAt, endedAt] = [stampOf('ExecMainStart', one), stampOf('ExecMainExit', one)];
  const [code, status] = [exitCodes[one('ExecMainCode')], one('ExecMainStatus')];
  return {
    ...unitOf(unit, one),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(endedAt === undefined ? {} : { ended: { code, status } }),
    ...(endedAt === undefined || code !== 'exited' ? {} : { status: Number(status) }),
    restarts: Number(one('NRestarts')),
    writable: one('BindPaths'),
  };
}

function timerOf(unit: string, one: One, said: Map<string, string[]>, now: number): TimerLook {
  const look = unitOf(unit, one);
  const last = stampMs(one('LastTriggerUSec'));
  const kernelNext = spanMs(one('NextElapseUSecMonotonic'));
  const nexts = [
    stampMs(one('NextElapseUSecRealtime')),
    kernelNext === undefined || kernelNext === 0
      ? undefined
      : now - Number(process.hrtime.bigint()) / 1e6 + kernelNext,
  ].filter((next) => next !== undefined);
  const interval = intervalOf(said);
  return {
    ...look,
    ...(last === undefined ? {} : { lastAt: last }),
    ...(nexts.length === 0 ? {} : { nextAt: Math.min(...nexts) }),
    // While its service runs it waits for that, and says no time.
    fires: look.active === 'active' && (look.sub === 'running' || nexts.length > 0),
    ...(interval === undefined ? {} : { intervalMs: interval }),
    delayMs: (spanMs(one('RandomizedDelayUSec')) ?? 0) + (spanMs(one('AccuracyUSec')) ?? 0),
  };
}

/** Of several, the shortest: it fires at least that often. */
function intervalOf(said: Map<string, string[]>): number | undefined {
  const calendars = (said.get('TimersCalendar') ?? []).map((text) =>
    longestPause(/OnCalendar=(.*?) ; /.exec(text)?.[1] ?? ''),
  );
  const repeated = (said.get('TimersMonotonic') ?? []).map((text) =>
    spanMs(/OnUnit(?:Active|Inactive)USec=(.*?) ; /.exec(text)?.[1]),
  );
  const known = [...calendars, ...repeated].filter((ms) => ms !== undefined && ms > 0);
  return known.length === 0 ? undefined : Math.min(...known.map(Number));
}

function stampOf(name: string, one: One): Stamp | undefined {
  const wall = stampMs(one(`${name}Timestamp`));
  const kernel = Number(one(`${name}TimestampMonotonic`)) / 1000;
  return wall === undefined || !(kernel > 0) ? undefined : { wall, kernel };
}

/** Whom the jobs run as, or the endpoint where there are none. */
export function userOf({ host, services }: Look): string {
  return services.get(host ? 'nexus-upload.service' : 'nexus-serve.service')?.user ?? '';
}
