import { setTimeout as delay } from 'node:timers/promises';

export interface Remembered<T> {
  value: T;
  /** When it was asked for, by `performance.now()`. */
  at: number;
  /** It was asked for again, and the answer did not come in time. */
  late: boolean;
}

export interface Memory {
  /** How long an answer is good for, a failure too; longer where it took long. */
  freshMs: number;
  /** How long who asks waits; then he gets what was known before, if it is not too old. */
  waitMs: number;
}

/** An answer that took long is good for so many times as long: at most a twentieth of the time goes into asking. */
const times = 20;
const oldestMs = 300_000;

/**
 * What is dear to ask for, asked for by one at a time and remembered for a while, so that whoever asks often or at
 * once costs the store no more. `undefined` when it failed, or did not come in time and nothing recent is known.
 */
export function remembering<T>(
  ask: () => Promise<T>,
  { freshMs, waitMs }: Memory,
): () => Promise<Remembered<T> | undefined> {
  let known: Omit<Remembered<T>, 'late'> | undefined;
  let failed = false;
  let ended = Number.NEGATIVE_INFINITY;
  let goodMs = freshMs;
  let asking: Promise<void> | undefined;

  async function again(): Promise<void> {
    const at = performance.now();
    try {
      known = { value: await ask(), at };
      failed = false;
    } catch {
      // Whatever it was: the log of requests and the store's own errors say more.
      failed = true;
    } finally {
      ended = performance.now();
      goodMs = Math.max(freshMs, (ended - at) * times);
      asking = undefined;
    }
  }

  return async () => {
    if (asking !== undefined || performance.now() - ended > goodMs) {
      asking ??= again();
      const patience = new AbortController();
      await Promise.race([
        asking,
        delay(waitMs, undefined, { signal: patience.signal }).catch(() => undefined),
      ]);
      patience.abort();
    }
    const oldest = Math.max(oldestMs, goodMs * 2);
    const isOld = known !== undefined && performance.now() - known.at > oldest;
    return failed || known === undefined || isOld ? undefined : { ...known, late: asking !== undefined };
  };
}
