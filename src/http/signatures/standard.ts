import { digestOf, hmacOf, sameBytes } from './compare.ts';
import { type Head, headerOf, malformed, needHeader, type Scheme } from './scheme.ts';
import { needSeconds, secondsOf } from './window.ts';

/**
 * Standard Webhooks, and Svix by its older names of headers. `webhook-signature` lists signatures, one for each secret
 * while one is being changed; those of other versions than `v1` are passed over.
 */
export const standard: Scheme = (head, { toleranceSeconds = 300 }) => {
  const prefix = prefixOf(head.headers);
  const id = needHeader(head, `${prefix}-id`);
  // What is signed is joined by full stops: with a number among its parts an id could take the time's place.
  if (/\.[0-9]+(\.|$)/.test(id)) throw malformed(`${prefix}-id`);
  const seconds = secondsOf(needHeader(head, `${prefix}-timestamp`));
  if (seconds === undefined) throw malformed(`${prefix}-timestamp`);
  const digests = signaturesOf(needHeader(head, `${prefix}-signature`));
  if (digests === undefined) throw malformed(`${prefix}-signature`);
  needSeconds(seconds, head.now, toleranceSeconds);
  const before = Buffer.from(`${id}.${seconds}.`, 'latin1');
  return {
    overBody: true,
    matches(secret, body) {
      const key = keyOf(secret);
      if (key === undefined) return false;
      const expected = hmacOf('sha256', key, before, body);
      return digests.some((digest) => sameBytes(digest, expected));
    },
  };
};

/** The id that is signed, of a request that carries such a signature, good or bad. */
export function signedId(headers: Head['headers']): string | undefined {
  const prefix = prefixOf(headers);
  return headerOf(headers, `${prefix}-signature`) && headerOf(headers, `${prefix}-id`);
}

/** Which of the two sets of headers counts, where a request has both: never one's signature and the other's id. */
function prefixOf(headers: Head['headers']): string {
  return headerOf(headers, 'webhook-signature') === undefined &&
    headerOf(headers, 'svix-signature') !== undefined
    ? 'svix'
    : 'webhook';
}

function signaturesOf(list: string): Buffer[] | undefined {
  const entries = list.split(' ').filter((entry) => entry !== '');
  // A header that was sent twice arrives with a comma at the end of one entry.
  if (!entries.every((entry) => /^[A-Za-z0-9]+,[^,]+$/.test(entry))) return undefined;
  const digests = entries
    .filter((entry) => entry.startsWith('v1,'))
    .flatMap((entry) => digestOf(entry.slice(3), 'sha256', 'base64') ?? []);
  return digests.length === 0 ? undefined : digests;
}

/**
 * The key of a secret: the bytes behind its base64, with or without `whsec_` before it, as the libraries of Standard
 * Webhooks and Svix have it. A secret that is no base64 is itself the key, which some senders make so.
 */
function keyOf(secret: string): Buffer | undefined {
  const marked = secret.startsWith('whsec_');
  const text = marked ? secret.slice('whsec_'.length) : secret;
  const key = Buffer.from(text, 'base64');
  const isBase64 = key.length > 0 && key.toString('base64') === text;
  if (isBase64) return key;
  return marked ? undefined : Buffer.from(secret);
}
