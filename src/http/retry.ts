import { setTimeout as delay } from 'node:timers/promises';

/** How often a request is tried, and how long to wait between tries, in milliseconds. */
export interface Retries {
  tries: number;
  baseMs: number;
  maxMs: number;
}

export const defaultRetries: Retries = { tries: 6, baseMs: 500, maxMs: 30_000 };

/** An endpoint that asks for more than this is not waited for longer. */
const longestRetryAfterMs = 5 * 60_000;

/**
 * Milliseconds to wait after the n-th failed try (from 0): anything up to the backoff (full jitter), or what the
 * endpoint asked for where that is more.
 */
export function pauseAfter(
  n: number,
  { baseMs, maxMs }: Retries,
  retryAfterMs: number | undefined,
  random: () => number,
): number {
  const backoff = random() * Math.min(maxMs, baseMs * 2 ** n);
  return Math.max(backoff, Math.min(retryAfterMs ?? 0, longestRetryAfterMs));
}

/** A Retry-After field, seconds or a date, in milliseconds from `now`. */
export function retryAfterMs(field: string | null, now: Date): number | undefined {
  if (field === null) return undefined;
  if (/^\d{1,9}$/.test(field.trim())) return Number(field) * 1000;
  const at = Date.parse(field);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime());
}

/** Waits, unless the signal ends it: then it rejects with the signal's reason. */
export async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
