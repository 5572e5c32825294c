import { setTimeout as sleep } from 'node:timers/promises';
import { NexusError } from '../errors.ts';
import {
  azureError,
  changedNothing,
  type Failure,
  mayPass,
  readFailure,
  strange,
  unreachable,
} from './azure-errors.ts';

/** What the service said: a value, or one of the refusals that its caller knows what to make of. */
export type Answer<T, R extends string> =
  | { refused?: never; value: T; repeated: boolean }
  | { refused: R; value?: never; repeated: boolean };

/** One call of the store: as many requests as it takes, within one span of time. */
export interface Operation {
  /**
   * Sends a request, again while that may help and there is time. `repeated`: an earlier try of this very request may
   * have been carried out, so that a refusal may be the echo of our own success. What else goes wrong is thrown,
   * translated.
   */
  send<T, R extends string = never>(
    request: (signal: AbortSignal) => Promise<T>,
    refusals?: readonly R[],
  ): Promise<Answer<T, R>>;
  /** Waits a moment before a race is looked at again; `busy` when there is no time left. */
  again(): Promise<void>;
}

export interface Calls {
  /** Runs one operation, called `what` in errors: "read sessions/inbox/main/x.jsonl". */
  during<T>(what: string, work: (operation: Operation) => Promise<T>): Promise<T>;
  /** Refuses new operations and resolves when those that run have ended. */
  close(): Promise<void>;
}

const pauseMs = { first: 100, most: 5_000 };
/** A name that is not known or a port that is closed is worth no more than this. */
const unreachableMs = 5_000;

/**
 * Requests with a limit in time. The SDKs retry nothing here: only who knows that a write is a repeat can tell a
 * conflict with another from a conflict with itself.
 */
export function azureCalls(timeoutMs: number): Calls {
  const running = new Set<Promise<unknown>>();
  let closed = false;

  function operation(what: string): Operation {
    const began = performance.now();
    const left = (): number => timeoutMs - (performance.now() - began);
    let races = 0;

    const late = (last: Failure): NexusError =>
      last.code === 'ETIMEDOUT'
        ? new NexusError('unavailable', `Azure Storage did not ${what} within ${timeoutMs / 1000} s.`, {
            hint: 'On a slow line set a smaller chunkBytes or a larger store.timeoutMs.',
          })
        : azureError(what, last);

    /** Waits before the next try, as long as asked; throws when that is longer than there is time. */
    async function pause(last: Failure, repeats: number): Promise<void> {
      const most = unreachable(last.code) ? Math.min(left(), left() - timeoutMs + unreachableMs) : left();
      const asked = last.retryAfterMs ?? 0;
      if (most <= 0 || asked >= most) throw late(last);
      const backoff = Math.random() * Math.min(pauseMs.most, pauseMs.first * 2 ** repeats, most / 2);
      const ms = Math.max(backoff, asked);
      await sleep(ms);
    }

    return {
      async send(request, refusals = []) {
        let repeated = false;
        for (let tries = 0; ; tries++) {
          let failure: Failure;
          try {
            // A connection may have died without a word: each try leaves time for another.
            const limit = Math.min(left(), Math.max(left() / 2, timeoutMs / 16));
            const value = await limited(request, limit);
            if (!comesFromAzure(value)) throw strange(undefined);
            return { value, repeated };
          } catch (error) {
            const read = readFailure(isUnread(error) ? strange(undefined, error) : error);
            if (read === undefined) throw error;
            failure = read;
          }
          const refused = refusals.find((code) => code === failure.code);
          if (refused !== undefined && failure.status !== undefined) return { refused, repeated };
          if (!mayPass(failure)) throw azureError(what, failure);
          await pause(failure, tries);
          repeated ||= !changedNothing(failure);
        }
      },
      async again() {
        if (left() <= 0)
          throw new NexusError('busy', `Others were in the way too often to ${what}.`, { retryAfter: 1 });
        await sleep(Math.min(20 * 2 ** races++, 500) * Math.random());
      },
    };
  }

  return {
    async during(what, work) {
      if (closed) throw new NexusError('unavailable', 'The store is closed.');
      const done = work(operation(what));
      running.add(done);
      try {
        return await done;
      } finally {
        running.delete(done);
      }
    },
    async close() {
      closed = true;
      await Promise.allSettled(running);
    },
  };
}

/** False for an answer about blobs that lacks what the service puts into each. */
function comesFromAzure(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || !('_response' in value)) return true;
  return (
    ('requestId' in value && value.requestId !== undefined) ||
    ('version' in value && value.version !== undefined)
  );
}

/** What the SDK throws of an answer that it cannot read: another's, with a status that makes sense. */
function isUnread(error: unknown): boolean {
  return error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError;
}

/** Ends after `ms` whether or not the request heeds its signal. */
async function limited<T>(request: (signal: AbortSignal) => Promise<T>, ms: number): Promise<T> {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => {
      reject(Object.assign(new Error('no answer in time'), { code: 'ETIMEDOUT' }));
      controller.abort();
    },
    Math.max(0, ms),
  );
  try {
    return await Promise.race([request(controller.signal), promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** A body that ended before its length: to be asked for again. */
export function cutShort(cause: unknown): Error {
  return Object.assign(new Error('the answer broke off', { cause }), { code: 'ECONNRESET' });
}
