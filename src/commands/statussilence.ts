import { betweenUneventfulMs } from '../jobs/lastruns.ts';
import type { Ledger } from '../jobs/ledger.ts';
import { streakOf, verdictIn } from '../jobs/streak.ts';
import type { Look, ServiceLook, Stamp, TimerLook } from '../systemd/unitstates.ts';

/** A job that a timer starts. */
export type TimedJob = 'upload' | 'pull-webhooks' | 'status';

/**
 * Whether a job succeeds as often as its timer should make it. `well`: it has of late. `waiting`: it has not, and it
 * is too early to say that it does not, as after an installation, a boot, a sleep or in a long run. `silent`: it has
 * not within three of its intervals.
 */
export interface Hearing {
  verdict: 'well' | 'waiting' | 'silent';
  /** ms since 1970 of its last success, where one is known. */
  succeededAt?: number;
  /** ms since 1970: since then it should have succeeded. */
  since?: number;
  /** It does run, and fails. */
  fails: boolean;
  /** Its failures are counted in the ledger, of which its own alert comes. */
  counts: boolean;
}

/** Of a timer that says none: how often `nexus install` has it. */
const usualMs = 300_000;

const intervals = 3;

/** A job that leaves its work to another one (75) waits for that: a first backfill by hand takes hours. */
const busyMs = 6 * 3_600_000;

/** What `nexus status` found is for it to tell, and with 3 it has. */
const successes: Record<TimedJob, readonly number[]> = {
  upload: [0],
  'pull-webhooks': [0],
  status: [0, 3],
};

export interface Listening {
  look: Look;
  timer: TimerLook | undefined;
  service: ServiceLook | undefined;
  /** That of the user whom the service runs as; else systemd alone says when it ran. */
  ledger: Ledger | undefined;
  /** The service's user is this one. */
  own: boolean;
  /** The backfill is at work, and holds the agents. */
  backfills: boolean;
  now: number;
}

export function hear(
  job: TimedJob,
  { look, timer, service, ledger, own, backfills, now }: Listening,
): Hearing {
  const limit = intervals * (timer?.intervalMs ?? usualMs) + (timer?.delayMs ?? 0);
  const ran = service?.endedAt?.wall;
  const byUnit = service?.status !== undefined && successes[job].includes(service.status) ? ran : undefined;
  const byLedger = own ? lastSuccess(job, ledger) : undefined;
  const succeededAt = latest(byUnit, byLedger);
  const within = limit + (byLedger !== undefined && byLedger === succeededAt ? betweenUneventfulMs : 0);
  const { failing, failedAt, countedAt } = failuresOf(job, own, ledger, service);
  const awake = (since: number) => awakeMs(since, now, look, limit);
  const fails = failedAt !== undefined && awake(failedAt) <= limit;
  const counts = countedAt !== undefined && awake(countedAt) <= limit;
  // Nothing was to be expected before.
  const begun = timer?.active === 'active' ? timer.activeSince : timer?.inactiveSince;
  const expected = succeededAt ?? latest(begun?.wall, failing);
  const hearing = (verdict: Hearing['verdict']) => ({
    verdict,
    fails,
    counts,
    ...(expected === undefined ? {} : { since: expected }),
    ...(succeededAt === undefined ? {} : { succeededAt }),
  });

  if (succeededAt !== undefined && now - succeededAt <= within) return hearing('well');
  if (isRunning(service) || (backfills && job === 'upload')) return hearing('waiting');
  const since = latest(succeededAt, begun?.wall, failing, own ? undefined : ran) ?? 0;
  const silentMs = awake(since);
  if (silentMs <= within) return hearing('waiting');
  const busy = service?.status === 75 && ran !== undefined && awake(ran) <= limit;
  return hearing(busy && silentMs <= busyMs ? 'waiting' : 'silent');
}

export function isRunning(service: ServiceLook | undefined): boolean {
  if (service === undefined || service.sub.startsWith('auto-restart')) return false;
  return ['active', 'activating', 'reloading', 'deactivating'].includes(service.active);
}

/** A backfill archives what an upload would. */
function lastSuccess(job: TimedJob, ledger: Ledger | undefined): number | undefined {
  const names = job === 'upload' ? ['upload', 'backfill'] : [job];
  const runs = names.map((name) => ledger?.runs(name, 50).find(({ ok }) => ok)?.endedAt);
  return latest(...runs.map((at) => (at === undefined ? undefined : Date.parse(at))));
}

/**
 * When it began to fail, where its last run did, and when that was. A failure of its own unit that its ledger does not
 * know has begun nothing: of one that fails again and again systemd knows the last alone.
 */
function failuresOf(
  job: TimedJob,
  own: boolean,
  ledger: Ledger | undefined,
  service: ServiceLook | undefined,
): Record<'failing' | 'failedAt' | 'countedAt', number | undefined> {
  const unit = service?.active === 'failed' ? service.endedAt?.wall : undefined;
  const streak = own && ledger !== undefined ? streakOf(ledger, job) : undefined;
  if (streak?.verdict !== 'failed' || streak.since === undefined)
    return { failing: own ? undefined : unit, failedAt: unit, countedAt: undefined };
  const last = ledger?.runs(job, 50).find(({ report }) => verdictIn(report) === 'failed')?.endedAt;
  const countedAt = last === undefined ? undefined : Date.parse(last);
  return { failing: Date.parse(streak.since), failedAt: latest(unit, countedAt), countedAt };
}

/**
 * How long the machine has been awake since a time. Of each stamp the two clocks say how long it slept after it; one
 * that is a little older than the time says more than can have been since, and errs on the side of silence.
 */
function awakeMs(since: number, now: number, look: Look, slackMs: number): number {
  const slept = stampsOf(look)
    .filter(({ wall }) => wall >= since - slackMs)
    .map(({ wall, kernel }) => now - wall - (look.kernel - kernel));
  return Math.min(now - since - Math.max(0, ...slept), look.kernel);
}

function stampsOf({ services, timers }: Look): Stamp[] {
  return [
    ...[...services.values()].flatMap(({ activeSince, inactiveSince, startedAt, endedAt }) => [
      activeSince,
      inactiveSince,
      startedAt,
      endedAt,
    ]),
    ...[...timers.values()].flatMap(({ activeSince, inactiveSince }) => [activeSince, inactiveSince]),
  ].filter((stamp) => stamp !== undefined);
}

function latest(...times: (number | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
