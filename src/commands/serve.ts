import { describe } from '../errors.ts';
import type { Context } from '../context.ts';
import { serve as listen } from '../http/listen.ts';
import { shortLines } from '../http/log.ts';
import { openStore, storePlace } from '../open.ts';
import { openSessions } from '../sessions.ts';
import { openSignIns } from '../signins.ts';
import { openNotifier } from '../systemd/notify.ts';
import { openWebhooks } from '../webhooks.ts';
import { followConfig, followSecrets } from './followed.ts';
import { pruneHourly } from './pruning.ts';
import { keepSpending } from './spending.ts';
import { openUsageThread } from './usagethread.ts';

/** Serves the store of the configuration until it is told to stop; then what runs is finished. */
export async function serve(context: Context): Promise<void> {
  const { config, env, output, version } = context;
  const { host, port } = config.serve;
  const store = await openStore(config);
  const sessions = openSessions(store);
  const webhooks = openWebhooks(store);
  const usage = openUsageThread(config);
  // Told to stop, or unable to serve.
  const over = new AbortController();
  const signal = AbortSignal.any([context.signal, over.signal]);
  let pruning: Promise<void> | undefined;
  let spending: Promise<void> | undefined;
  try {
    const lines = { write: (line: string) => output.result(line.trimEnd()) };
    const followed = followConfig(context);
    const serving = await listen({
      host,
      port,
      sessions,
      webhooks,
      usage,
      version,
      dashboard: { signIns: openSignIns(store) },
      signal: context.signal,
      keys: async () => (await followed()).keys,
      mailboxes: async () => (await followed()).mailboxes,
      secretOf: followSecrets(env),
      log: output.terminal ? shortLines(lines) : lines,
    });
    const status = `Listening on ${serving.url}, storing in ${storePlace(config)}.`;
    output.info(status);
    pruning = pruneHourly(webhooks, { signal, warn: (sentence) => output.warn(sentence) });
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
    await Promise.all([pruning, spending, usage.close()]);
    await webhooks.close();
    await sessions.close();
  }
}

function storeTrouble(error: unknown): string {
  return `The store is out of order: ${describe(error)}`;
}
