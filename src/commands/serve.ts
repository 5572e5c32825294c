import { setTimeout as pause } from 'node:timers/promises';
import { describe } from '../errors.ts';
import type { Context } from '../context.ts';
import { serve as listen } from '../http/listen.ts';
import { openMetrics } from '../http/metrics.ts';
import { openJobReports } from '../jobreports.ts';
import { openStore, storePlace } from '../open.ts';
import { openSessions } from '../sessions.ts';
import { openSignIns } from '../signins.ts';
import { timedStore } from '../stores/timed.ts';
import { openNotifier } from '../systemd/notify.ts';
import { openWebhooks } from '../webhooks.ts';
import { followConfig, followSecrets } from './followed.ts';
import { pruneHourly } from './pruning.ts';
import { keepSpending } from './spending.ts';
import { openUsageThread } from './usagethread.ts';

/** Serves the store of the configuration until it is told to stop; then what runs is finished. */
export async function serve(context: Context): Promise<void> {
  const { config, env, output, version } = context;
  const { host, port, trustProxy: proxies } = config.serve;
  const metrics = openMetrics({ version, store: config.store.kind, process: true });
  const store = timedStore(await openStore(config), metrics.store);
  const sessions = openSessions(store);
  const webhooks = openWebhooks(store);
  const usage = openUsageThread(config);
  // Told to stop, or unable to serve.
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  let pruning: Promise<void> | undefined;
  let spending: Promise<void> | undefined;
  let alerting: Promise<void> | undefined;
  try {
    const followed = followConfig(context);
    const serving = await listen({
      host,
      port,
      proxies,
      sessions,
      webhooks,
      usage,
      jobs: openJobReports(store),
      metrics,
      version,
      dashboard: { signIns: openSignIns(store) },
      signal: context.signal,
      keys: async () => (await followed()).keys,
      mailboxes: async () => (await followed()).mailboxes,
      secretOf: followSecrets(env),
      log: output.log,
    });
    const status = `Listening on ${serving.url}, storing in ${storePlace(config)}.`;
    output.info(status);
    alerting = settleAlerts(context, signal);
    pruning = pruneHourly(webhooks, { signal, warn: output.warn });
    spending = keepSpending(context, { usage, store, followed, signal });
    await openNotifier(env, output.warn).accompany({
      status,
      // A store that says no is outside; only one that does not answer at all may be helped by a new start.
      alive: () => sessions.stat('main', 'readyz').then(() => status, storeTrouble),
      signal: context.signal,
      closed: serving.closed,
    });
  } finally {
    over.abort();
    // What follows usage may wait for the end of a long first reading, which closing cuts short.
    await Promise.all([pruning, alerting, spending, usage.close()]);
    await webhooks.close();
    await sessions.close();
  }
}

/** So long a service runs before it is said to work again. */
const steadyMs = 5_000;

/**
 * Under systemd: keeps whom to tell when it can start no more, as with a configuration that cannot be read, and ends
 * the alert that it could not. Where there are no jobs beside it nobody else does.
 */
async function settleAlerts({ config, env, output, now }: Context, signal: AbortSignal): Promise<void> {
  if (!env['INVOCATION_ID']) return;
  try {
    const { keepSettings } = await import('../jobs/keptsettings.ts');
    await keepSettings(config);
    await pause(steadyMs, undefined, { signal, ref: false });
    const { endUnitAlerts } = await import('../jobs/unitalerts.ts');
    await endUnitAlerts({ config, env, now, warn: output.warn, info: output.info });
  } catch (error) {
    if (!signal.aborted) output.warn(`Whoever is alerted cannot be told that this works: ${describe(error)}`);
  }
}

function storeTrouble(error: unknown): string {
  return `The store is out of order: ${describe(error)}`;
}
