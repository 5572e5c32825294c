import { Worker } from 'node:worker_threads';
import type { Config } from '../config.ts';
import { NexusError } from '../errors.ts';
import { received, type SentError } from '../senterror.ts';
import type { Standing, Usage } from '../usage.ts';

/** What is asked of the thread, and what it answers. */
export interface Asked {
  id: number;
  method: keyof Usage;
  given: unknown[];
}

export interface Told<Value = unknown> {
  id: number;
  value: Value;
  /** Without a code it is a bug. */
  error?: SentError;
}

interface Waiting {
  /** Takes what the method answers that was asked for. */
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
}

/** How long what is under way may take to end, ms. */
const closingMs = 5000;

/**
 * The usage index in a thread of its own, begun when it is first asked: neither reading transcripts nor sums over them
 * hold up what is served meanwhile. What is wrong with the index fails those who ask for usage, and nobody else. One
 * catching up at a time: who asks meanwhile gets the end of the same.
 */
export function openUsageThread(config: Config): Usage {
  const waiting = new Map<number, Waiting>();
  let thread: Worker | undefined;
  let asked = 0;
  let catchingUp: Promise<Standing> | undefined;
  let closed = false;
  /** As it is now, for the next thread too. */
  let latest = config;

  function begin(): Worker {
    // Beside this file in the source, one directory up from its chunk when built.
    const file = import.meta.url.endsWith('.ts') ? '../indexer.ts' : '../indexer.js';
    const worker = new Worker(new URL(file, import.meta.url), { workerData: latest });
    worker.on('message', ({ id, value, error }: Told<never>) => {
      const one = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) one?.resolve(value);
      else one?.reject(received(error));
    });
    worker.once('error', (error: unknown) => over(error));
    worker.once('exit', () => over(undefined));
    // Only what is served keeps the process alive.
    worker.unref();
    return worker;

    /** Who waits is told, and the next begins another. */
    function over(error: unknown): void {
      if (thread === worker) thread = undefined;
      else return;
      for (const one of waiting.values())
        one.reject(
          new NexusError('unavailable', 'The index of usage was closed meanwhile.', {
            retryAfter: 5,
            cause: error,
          }),
        );
      waiting.clear();
    }
  }

  function ask<Method extends keyof Usage>(
    method: Method,
    ...given: unknown[]
  ): Promise<Awaited<ReturnType<Usage[Method]>>> {
    return new Promise((resolve, reject) => {
      if (closed) throw new NexusError('unavailable', 'This endpoint is stopping.');
      thread ??= begin();
      const id = asked++;
      waiting.set(id, { resolve, reject });
      thread.postMessage({ id, method, given } satisfies Asked, []);
    });
  }

  return {
    catchUp: () =>
      (catchingUp ??= ask('catchUp').finally(() => {
        catchingUp = undefined;
      })),
    query: (request, within) => ask('query', request, within),
    sessions: (request, within) => ask('sessions', request, within),
    top: (request, within) => ask('top', request, within),
    items: (session) => ask('items', session),
    costOf: (item) => ask('costOf', item),
    standing: (within) => ask('standing', within),
    async setPrices(prices) {
      if (JSON.stringify(prices) === JSON.stringify(latest.prices)) return;
      // Only when it was told: until then it is to be told again.
      if (thread !== undefined) await ask('setPrices', prices);
      latest = { ...latest, prices: [...prices] };
    },
    rebuild: () => ask('rebuild'),
    async close() {
      const worker = thread;
      if (worker === undefined || closed) {
        closed = true;
        return;
      }
      // What is under way is to end before the process does.
      worker.ref();
      const late = setTimeout(() => void worker.terminate(), closingMs);
      const ended = new Promise((resolve) => worker.once('exit', resolve));
      try {
        const closing = ask('close');
        closed = true;
        await closing;
        await ended;
      } catch {
        // It has ended, in its own way or cut.
        await worker.terminate();
      } finally {
        clearTimeout(late);
      }
    },
  };
}
