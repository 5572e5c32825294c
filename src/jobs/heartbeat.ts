import { addressOf, codeOf } from '../channels/address.ts';
import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { describe } from '../errors.ts';
import { codeIn, type Facts, type Say } from '../logline.ts';
import { resolveSecret } from '../secrets.ts';
import type { Verdict } from './streak.ts';

/** Tells a monitor that a job begins, and how it ended. Never throws, and never takes longer than a few seconds. */
export interface Heartbeat {
  start: () => void;
  hasStarted: () => boolean;
  /**
   * After the start has arrived, or was given up. `sentence` is what a person reads at the monitor, to which `neither`
   * changes nothing.
   */
  end: (how: Verdict, sentence: string) => Promise<void>;
}

const longestMs = 3_000;
const longestBody = 1_000;
const paths: Record<Verdict, string> = { well: '', failed: '/fail', neither: '/log' };

/**
 * The monitor of a job by `heartbeats`, or one that is told nothing. Compatible with healthchecks.io: POST to the URL
 * is success, `/start`, `/fail` and `/log` below it the others (healthchecks.io/docs/http_api). At the signal it is told
 * no more.
 */
export function heartbeatOf(
  config: Config,
  job: keyof Config['heartbeats'],
  env: Environment,
  warn: Say,
  signal?: AbortSignal,
): Heartbeat {
  const secret = config.heartbeats[job];
  if (secret === undefined)
    return { start: () => undefined, hasStarted: () => false, end: () => Promise.resolve() };
  let started: Promise<void> | undefined;
  let warned = false;

  async function ping(path: string, body: string): Promise<void> {
    const event = path === '' ? 'well' : path.slice(1);
    try {
      const { address, headers } = addressOf(await resolveSecret(secret ?? '', env));
      address.pathname = `${address.pathname.replace(/\/+$/, '')}${path}`;
      const ask = () => tried(address, headers, body, signal);
      const failure = (await ask()) && (await ask());
      if (signal?.aborted === true) return;
      if (failure === undefined) {
        // Of a job that stays, the next outage is said again.
        warned = false;
        return;
      }
      tell(`The monitor of ${job} at ${address.host} ${failure}.`, { event, code: 'unavailable' });
    } catch (error) {
      tell(`The monitor of ${job} cannot be told: ${describe(error)}`, { event, code: codeIn(error) });
    }
  }

  function tell(message: string, facts: Facts): void {
    if (!warned) warn(message, facts);
    warned = true;
  }

  return {
    start() {
      started ??= ping('/start', '');
    },
    hasStarted: () => started !== undefined,
    async end(how, sentence) {
      await started;
      await ping(paths[how], sentence.slice(0, longestBody));
    },
  };
}

/** `undefined` when it was taken. A connection that broke is tried once more, and within the same time. */
async function tried(
  address: URL,
  headers: Record<string, string>,
  body: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const timeout = AbortSignal.timeout(longestMs / 2);
  try {
    const response = await fetch(address, {
      method: 'POST',
      headers: { 'user-agent': 'nexus', 'content-type': 'text/plain; charset=utf-8', ...headers },
      body,
      redirect: 'manual',
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
    });
    await response.body?.cancel();
    return response.ok ? undefined : `answered ${response.status}`;
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError') return 'did not answer in time';
    return `cannot be reached (${codeOf(error)})`;
  }
}
