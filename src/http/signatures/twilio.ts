import { createHash } from 'node:crypto';
import type { Source } from '../../sources.ts';
import { digestOf, hmacOf, sameBytes } from './compare.ts';
import { type Head, headerOf, malformed, needHeader, type Scheme } from './scheme.ts';
import { spellingsOf } from './twiliourl.ts';

const header = 'x-twilio-signature';

/** Far above what Twilio posts. The fields must be sorted before anything is proved, so that a stranger could ask it. */
const mostFormBytes = 64 * 1024;
const mostFields = 1000;

/**
 * The URL that Twilio called and the fields of the form that it posted. Of any other body it puts the hash into the
 * URL, as `bodySHA256`. The secret is the account's auth token.
 */
export const twilio: Scheme = (head, source) => {
  const digest = digestOf(needHeader(head, header), 'sha1', 'base64');
  if (digest === undefined) throw malformed(header);
  let calls: Call[] | undefined;
  return {
    overBody: true,
    matches(secret, body) {
      // Once for all secrets.
      calls ??= callsOf(head, source, body);
      return calls.some(
        ({ spellings, fields, hash }) =>
          spellings.some((spelling) => sameBytes(digest, hmacOf('sha1', secret, spelling, fields))) &&
          (hash === undefined || sameBytes(hash, createHash('sha256').update(body).digest())),
      );
    },
  };
};

/** What Twilio signed, if this is what it called. */
interface Call {
  spellings: string[];
  /** What is signed after the URL. */
  fields: string;
  /** What the body must have; not looked at before the URL that holds it is known to be Twilio's. */
  hash?: Buffer;
}

/** None for a URL with which the body would not be covered. */
function callsOf(head: Head, source: Source, body: Buffer): Call[] {
  const form = formIn(head, body);
  return urlsOf(head, source).flatMap((url): Call[] => {
    const hashes = URL.canParse(url) ? new URL(url).searchParams.getAll('bodySHA256') : [];
    if (hashes.length === 0) return form === undefined ? [] : [{ spellings: spellingsOf(url), fields: form }];
    const hash = hashes.length === 1 ? digestOf(hashes[0] ?? '', 'sha256', 'hex') : undefined;
    return hash === undefined ? [] : [{ spellings: spellingsOf(url), fields: '', hash }];
  });
}

/** The URL as it is configured, and else as it came here, which behind a proxy need not be what Twilio called. */
function urlsOf({ url }: Head, source: Source): string[] {
  if (source.url === undefined) return [url];
  // Twilio adds to the query: bodySHA256, so that only the request knows it whole.
  const query = /\?.*$/s.exec(url)?.[0] ?? '';
  return [...new Set([source.url, source.url.replace(/[?#].*$/s, '') + query])];
}

/** The fields as they are signed; `undefined` for a body that is no form, or more of one than Twilio posts. */
function formIn({ headers }: Head, body: Buffer): string | undefined {
  if (body.length === 0) return '';
  const type = headerOf(headers, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/x-www-form-urlencoded' || body.length > mostFormBytes) return undefined;
  const text = body.toString('utf8');
  return text.split('&', mostFields + 1).length > mostFields ? undefined : formFields(text);
}

/** Names in order, each before its values, in order and once each. */
function formFields(form: string): string {
  const fields = new Map<string, Set<string>>();
  for (const [name, value] of new URLSearchParams(form)) {
    const values = fields.get(name) ?? new Set();
    fields.set(name, values.add(value));
  }
  return [...fields]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .flatMap(([name, values]) => [...values].sort().map((value) => name + value))
    .join('');
}
