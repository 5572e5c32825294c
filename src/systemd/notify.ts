import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import { type Say } from '../logline.ts';
import { runCommand } from './command.ts';

/** How a service speaks to systemd (sd_notify(3)). Without systemd nothing happens. */
export interface Notifier {
  /**
   * Tells systemd of a service from now, when it does what it is for, to its end: resolves when `closed` does. Three
   * times in the time that the unit's WatchdogSec= leaves it says that it is alive, each time after `alive` has
   * resolved with a sentence for the unit's status. While `alive` does not resolve it says nothing, and systemd ends
   * the process.
   */
  accompany: (service: {
    status: string;
    alive: () => Promise<string>;
    /** Aborted: it is on its way to its end. */
    signal: AbortSignal;
    closed: Promise<void>;
  }) => Promise<void>;
}

/**
 * Through `systemd-notify`, because Node has no datagrams on Unix sockets: the unit needs NotifyAccess=all. `warn`
 * is told once when systemd cannot be told.
 */
export function openNotifier(env: Record<string, string | undefined>, warn: Say): Notifier {
  const heard = env['NOTIFY_SOCKET'] !== undefined && env['NOTIFY_SOCKET'] !== '';
  let warned = false;

  async function tell(...facts: string[]): Promise<void> {
    if (!heard) return;
    const failure = await failureOf(facts);
    if (failure === undefined || warned) return;
    warned = true;
    warn(`systemd could not be told ${facts[0] ?? ''}: ${failure}`, { code: 'unavailable' });
  }

  async function failureOf(facts: string[]): Promise<string | undefined> {
    try {
      const { status, stderr } = await runCommand('systemd-notify', facts, { env, timeoutMs: 10_000 });
      return status === 0 ? undefined : stderr.trim() || 'systemd-notify failed';
    } catch (error) {
      return messageOf(error);
    }
  }

  const limit = watchdogMs(env);

  async function watch(alive: () => Promise<string>, signal: AbortSignal): Promise<void> {
    if (!heard || limit === undefined) return;
    const over = aborted(signal);
    while (!signal.aborted) {
      const status = await Promise.race([alive(), over]);
      if (signal.aborted) return;
      await tell('WATCHDOG=1', `STATUS=${status ?? ''}`);
      await Promise.race([delay(limit / 3, undefined, { ref: false }), over]);
    }
  }

  return {
    async accompany({ status, alive, signal, closed }) {
      await tell('READY=1', `STATUS=${status}`);
      const stopping = aborted(signal).then(() => tell('STOPPING=1', 'STATUS=Finishing what is under way.'));
      await Promise.all([closed, stopping, watch(alive, signal)]);
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** `undefined` when there is no watchdog, or it watches another process. */
function watchdogMs(env: Record<string, string | undefined>): number | undefined {
  const ms = Number(env['WATCHDOG_USEC'] ?? '') / 1000;
  const pid = env['WATCHDOG_PID'];
  if (!(ms > 0) || (pid !== undefined && pid !== '' && Number(pid) !== process.pid)) return undefined;
  return ms;
}
