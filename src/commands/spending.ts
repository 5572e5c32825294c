import { setTimeout as delay } from 'node:timers/promises';
import { openAlerts } from '../alerts.ts';
import { watchSpending } from '../budgets.ts';
import type { Config } from '../config.ts';
import type { Context } from '../context.ts';
import { describe } from '../errors.ts';
import { channelNames, sendAlerts } from '../jobs/hostalerts.ts';
import { codeIn } from '../logline.ts';
import type { Store } from '../stores/store.ts';
import type { Usage } from '../usage.ts';

/** Between two looks at what was stored, and two at what was spent, ms. */
const looksEveryMs = 15_000;
const watchesEveryMs = 60_000;
/** What goes wrong again and again is told this often. */
const warnsEveryMs = 3_600_000;

export interface Spending {
  usage: Pick<Usage, 'catchUp' | 'query' | 'setPrices'>;
  store: Store;
  /** Budgets, channels and prices as they are now. */
  followed: () => Promise<Pick<Config, 'budgets' | 'alerts' | 'prices'>>;
  signal: AbortSignal;
}

/**
 * Keeps the index of usage up with what is stored and watches what is spent, until the signal. Whatever goes wrong is
 * told in the log, and nothing else depends on it.
 */
export async function keepSpending(
  context: Context,
  { usage, store, followed, signal }: Spending,
): Promise<void> {
  const warned = new Map<string, number>();
  let watchedAt = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    try {
      await usage.setPrices((await followed()).prices);
      await usage.catchUp();
      if (!signal.aborted && performance.now() - watchedAt >= watchesEveryMs) {
        watchedAt = performance.now();
        await watch(
          { ...context, signal, config: { ...context.config, ...(await followed()) } },
          usage,
          store,
        );
      }
    } catch (error) {
      if (signal.aborted) return;
      const sentence = `Usage cannot be followed: ${describe(error)}`;
      if (performance.now() - (warned.get(sentence) ?? -warnsEveryMs) >= warnsEveryMs) {
        warned.clear();
        warned.set(sentence, performance.now());
        context.output.warn(sentence, { code: codeIn(error) });
      }
    }
    // Only what is served keeps the process alive.
    await delay(looksEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/** One look at what was spent: raises what is due in the store that it was spent in, and sends it. */
export async function watch(
  { config, env, now, output, signal }: Pick<Context, 'config' | 'env' | 'now' | 'output' | 'signal'>,
  usage: Pick<Usage, 'query'>,
  store: Store,
): Promise<void> {
  if (config.budgets.length === 0 && config.alerts.channels.length === 0) return;
  const alerts = openAlerts(store, { now: () => now().getTime() });
  try {
    await watchSpending({
      usage,
      alerts,
      budgets: config.budgets,
      channels: await channelNames(config),
      host: config.host,
      now: now(),
      onRaised: ({ title, subject, event, next }) => output.warn(title, { subject, event, next }),
    });
  } finally {
    // What was raised before is sent, whatever the matter is with what is spent.
    await sendAlerts(alerts, { config, env, now, signal, warn: output.warn, info: output.info });
  }
}
