import { setTimeout as delay } from 'node:timers/promises';
import { describe } from '../errors.ts';
import type { Webhooks } from '../mailbox.ts';

const minuteMs = 60_000;

/** Not at the start, and not at the same moment as other replicas. */
const firstMs = 3 * minuteMs;
const everyMs = 60 * minuteMs;

export interface Pruning {
  signal: AbortSignal;
  /** Told of a run that failed; the next one makes up for it. */
  warn: (sentence: string) => void;
  random?: () => number;
  wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Removes old history every hour, until the signal: resolves when nothing is under way any more. */
export async function pruneHourly(
  webhooks: Pick<Webhooks, 'prune'>,
  { signal, warn, random = Math.random, wait = patiently }: Pruning,
): Promise<void> {
  let next = firstMs + random() * 5 * minuteMs;
  for (;;) {
    await wait(next, signal);
    if (signal.aborted) return;
    try {
      await webhooks.prune();
    } catch (error) {
      warn(`Old webhooks could not be removed: ${describe(error)}`);
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
