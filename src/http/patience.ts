import { setTimeout as delay } from 'node:timers/promises';

/** What the work resolves with, or `undefined` where that takes longer than `ms`; the work goes on. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const patience = new AbortController();
  try {
    return await Promise.race([work, delay(ms, undefined, { signal: patience.signal })]);
  } finally {
    patience.abort();
  }
}
