import { NexusError } from '../errors.ts';
import { isLoopback } from './loopback.ts';

/** Where a client sends its requests. */
export interface Endpoint {
  /** Without a trailing slash; may hold a path prefix. Fit to be shown: nothing secret is in it. */
  base: string;
  loopback: boolean;
}

/** Reads an endpoint's URL; `config` for what can be none. The URL itself is not repeated: it may hold a secret. */
export function readEndpoint(text: string): Endpoint {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new NexusError('config', 'The endpoint must be a URL that begins with https:// or http://.');
  if (url.username !== '' || url.password !== '')
    throw new NexusError('config', 'The endpoint holds a user name or password: set `apiKey` instead.');
  if (url.search !== '' || url.hash !== '')
    throw new NexusError('config', 'The endpoint has a query: leave it out, and set `apiKey` to the key.');
  return { base: `${url.origin}${url.pathname.replace(/\/+$/, '')}`, loopback: isLoopback(url.hostname) };
}

/** Refuses a key that no header can carry, before anything else could show it in a message. */
export function checkKey(key: string | undefined): void {
  if (key !== undefined && !/^[\x21-\x7e]{1,512}$/.test(key))
    throw new NexusError(
      'config',
      'The API key holds characters that no key has: copy it again, without spaces.',
    );
}
