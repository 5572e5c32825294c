import { setTimeout as delay } from 'node:timers/promises';
import { type Notice, openAlerts } from '../alerts.ts';
import { watchSpending } from '../budgets.ts';
import type { Config } from '../config.ts';
import type { Context } from '../context.ts';
import { describe } from '../errors.ts';
import { channelNames, sendAlerts } from '../jobs/hostalerts.ts';
import { codeIn } from '../logline.ts';
import type { Store } from '../stores/store.ts';
import type { Usage } from '../usage.ts';
import { tellTrouble, type Trouble, troubleOf } from './usagetrouble.ts';

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

  function warn(error: unknown): void {
    if (signal.aborted) return;
    const sentence = `Usage cannot be followed: ${describe(error)}`;
    const at = performance.now();
    for (const [said, before] of warned) if (at - before >= warnsEveryMs) warned.delete(said);
    if (warned.has(sentence)) return;
    warned.set(sentence, at);
    context.output.warn(sentence, { code: codeIn(error) });
  }

  async function look(): Promise<void> {
    await followed()
      .then(({ prices }) => usage.setPrices(prices))
      .catch(warn);
    const trouble = await troubleOf({ ...context, signal }, () => usage.catchUp());
    if (trouble !== undefined) warn(trouble.error);
    if (signal.aborted || performance.now() - watchedAt < watchesEveryMs) return;
    watchedAt = performance.now();
    const config = { ...context.config, ...(await followed()) };
    await watch({ ...context, signal, config }, usage, store, trouble);
  }

  while (!signal.aborted) {
    await look().catch(warn);
    // Only what is served keeps the process alive.
    await delay(looksEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

/**
 * One look at what was spent: raises what is due in the store that it was spent in, and sends it. With `trouble`, by
 * the index as it is, and that it is so is told too where it lasts.
 */
export async function watch(
  { config, env, now, output, signal }: Pick<Context, 'config' | 'env' | 'now' | 'output' | 'signal'>,
  usage: Pick<Usage, 'query'>,
  store: Store,
  trouble?: Trouble,
): Promise<void> {
  if (config.budgets.length === 0 && config.alerts.channels.length === 0) return;
  const alerts = openAlerts(store, { now: () => now().getTime() });
  const onRaised = ({ title, subject, event, next }: Notice): void =>
    output.warn(title, { subject, event, next });
  const around = { channels: await channelNames(config), host: config.host, now: now() };
  try {
    const told = await tellTrouble(alerts, trouble, around);
    if (told !== undefined) onRaised(told);
    await watchSpending({ ...around, usage, alerts, budgets: config.budgets, onRaised });
  } finally {
    // What was raised before is sent, whatever the matter is with what is spent.
    await sendAlerts(alerts, { config, env, now, signal, warn: output.warn, info: output.info });
  }
}
