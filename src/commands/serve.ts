import { describe } from '../errors.ts';
import type { Context } from '../context.ts';
import { serve as listen } from '../http/listen.ts';
import { openMetrics } from '../http/metrics.ts';
import { openJobReports } from '../jobreports.ts';
import { openStore, storePlace } from '../open.ts';
import { openSessions } from '../sessions.ts';
import { timedStore } from '../stores/timed.ts';
import { openNotifier } from '../systemd/notify.ts';
import { openWebhooks } from '../webhooks.ts';
import { followConfig, followSecrets } from './followed.ts';
import { pruneHourly } from './pruning.ts';

/** Serves the store of the configuration until it is told to stop; then what runs is finished. */
export async function serve(context: Context): Promise<void> {
  const { config, env, output, version } = context;
  const { host, port } = config.serve;
  const metrics = openMetrics({ version, store: config.store.kind, process: true });
  const store = timedStore(await openStore(config), metrics.store);
  const sessions = openSessions(store);
  const webhooks = openWebhooks(store);
  // Told to stop, or unable to serve.
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  let pruning: Promise<void> | undefined;
  try {
    const followed = followConfig(context);
    const serving = await listen({
      host,
      port,
      sessions,
      webhooks,
      jobs: openJobReports(store),
      metrics,
      version,
      signal: context.signal,
      keys: async () => (await followed()).keys,
      mailboxes: async () => (await followed()).mailboxes,
      secretOf: followSecrets(env),
      log: output.log,
    });
    const status = `Listening on ${serving.url}, storing in ${storePlace(config)}.`;
    output.info(status);
    pruning = pruneHourly(webhooks, { signal, warn: output.warn });
    await openNotifier(env, output.warn).accompany({
      status,
      // A store that says no is outside; only one that does not answer at all may be helped by a new start.
      alive: () => sessions.stat('main', 'readyz').then(() => status, storeTrouble),
      signal: context.signal,
      closed: serving.closed,
    });
  } finally {
    over.abort();
    await pruning;
    await webhooks.close();
    await sessions.close();
  }
}

function storeTrouble(error: unknown): string {
  return `The store is out of order: ${describe(error)}`;
}
