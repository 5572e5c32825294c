import { failedWith, NexusError } from '../errors.ts';
import type { Key } from '../keys.ts';
import { type Asked, authenticate, type Caller, presentsKey } from './auth.ts';
import { askerOf } from './forwarded.ts';
import { openStrangers, peerOf } from './strangers.ts';

/** Answers the failure of a wrong key that was shown, counted. */
export type Guesses = (asked: Pick<Asked, 'address' | 'headers'>, error: unknown) => unknown;

/**
 * Counts wrong keys by who shows them: to too many it is said when to come back, and that the key is not known all the
 * same. Who is told that there are too many would try the wrong one again.
 */
export function openGuesses(now: () => Date, proxies: number): Guesses {
  const strangers = openStrangers(now);
  return ({ address, headers }, error) => {
    const peer = peerOf(askerOf(address, headers['x-forwarded-for'], proxies)) ?? 'this machine';
    const counted = strangers.failed({ peer }, error);
    if (!failedWith(error, 'unauthorized') || !failedWith(counted, 'limited')) return counted;
    const { message, hint } = error;
    return new NexusError('unauthorized', message, {
      ...(hint === undefined ? {} : { hint }),
      ...(counted.retryAfter === undefined ? {} : { retryAfter: counted.retryAfter }),
      cause: counted,
    });
  };
}

/** `authenticate`, and wrong keys counted. A right one lets in, whoever else guesses at the same address. */
export function openKeyCheck(now: () => Date, proxies: number): typeof authenticate {
  const guesses = openGuesses(now, proxies);
  return (keys: readonly Key[], asked: Asked): Caller => {
    try {
      return authenticate(keys, asked);
    } catch (error) {
      if (!presentsKey(asked)) throw error;
      throw guesses(asked, error);
    }
  };
}
