import type { Key } from '../keys.ts';
import { type Asked, authenticate, type Caller, presentsKey } from './auth.ts';
import { askerOf } from './forwarded.ts';
import { openStrangers, peerOf } from './strangers.ts';

/**
 * `authenticate`, and wrong keys counted: whoever shows too many hears `limited` instead of `unauthorized`. A right one
 * lets in, whoever else guesses at the same address.
 */
export function openKeyCheck(now: () => Date, proxies: number): typeof authenticate {
  const strangers = openStrangers(now);
  return (keys: readonly Key[], asked: Asked): Caller => {
    try {
      return authenticate(keys, asked);
    } catch (error) {
      if (!presentsKey(asked)) throw error;
      const asker = askerOf(asked.address, asked.headers['x-forwarded-for'], proxies);
      throw strangers.failed({ name: 'key', peer: peerOf(asker) }, error);
    }
  };
}
