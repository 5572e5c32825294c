import { setTimeout as delay } from 'node:timers/promises';
import { describe } from '../errors.ts';
import { codeIn, type Say } from '../logline.ts';
import type { Webhooks } from '../mailbox.ts';

const minuteMs = 60_000;

/** Not at the start, and not at the same moment as other replicas. */
const firstMs = 3 * minuteMs;
const everyMs = 60 * minuteMs;
/** Looking through all delivery ids reads every one of the last 30 days. */
const deliveriesEveryMs = 24 * 60 * minuteMs;

export interface Pruning {
  signal: AbortSignal;
  /** Told of a run that failed; the next one makes up for it. */
  warn: Say;
  random?: () => number;
  wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** ms, of any clock that only goes on. */
  now?: () => number;
}

/**
 * Removes old history every hour, delivery ids without an item once a day, until the signal, which ends also what is
 * under way: resolves when nothing is any more.
 */
export async function pruneHourly(
  webhooks: Pick<Webhooks, 'prune'>,
  { signal, warn, random = Math.random, wait = patiently, now = () => performance.now() }: Pruning,
): Promise<void> {
  let next = firstMs + random() * 5 * minuteMs;
  let deliveriesAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    await wait(next, signal);
    if (signal.aborted) return;
    const began = now();
    const deliveries = began - deliveriesAt >= deliveriesEveryMs;
    try {
      await webhooks.prune({ signal, deliveries });
      if (deliveries) deliveriesAt = began;
    } catch (error) {
      if (signal.aborted) return;
      warn(`Old webhooks could not be removed: ${describe(error)}`, { code: codeIn(error) });
    }
    next = everyMs - 5 * minuteMs + random() * 10 * minuteMs;
  }
}

async function patiently(ms: number, signal: AbortSignal): Promise<void> {
  try {
    // Only what is served keeps the process alive.
    await delay(ms, undefined, { signal, ref: false });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
