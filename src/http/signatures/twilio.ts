import { createHash } from 'node:crypto';
import type { Source } from '../../sources.ts';
import { digestOf, hmacOf, sameBytes } from './compare.ts';
import { type Head, headerOf, malformed, needHeader, type Scheme } from './scheme.ts';
import { spellingsOf } from './twiliourl.ts';

const header = 'x-twilio-signature';

/** Far above what Twilio posts: each spelling of the URL means to hash all the fields. */
const mostFormBytes = 1024 * 1024;

/**
 * The URL that Twilio called and the fields of the form that it posted. Of any other body it puts the hash into the
 * URL, as `bodySHA256`. The secret is the account's auth token.
 */
export const twilio: Scheme = (head, source) => {
  const digest = digestOf(needHeader(head, header), 'sha1', 'base64');
  if (digest === undefined) throw malformed(header);
  return {
    overBody: true,
    matches: (secret, body) =>
      urlsOf(head, source).some((url) => {
        const fields = fieldsFor(url, head, body);
        return (
          fields !== undefined &&
          spellingsOf(url).some((spelling) => sameBytes(digest, hmacOf('sha1', secret, spelling, fields)))
        );
      }),
  };
};

/** The URL as it is configured, and else as it came here, which behind a proxy need not be what Twilio called. */
function urlsOf({ url }: Head, source: Source): string[] {
  if (source.url === undefined) return [url];
  // Twilio adds to the query: bodySHA256, so that only the request knows it whole.
  const query = /\?.*$/s.exec(url)?.[0] ?? '';
  return [...new Set([source.url, source.url.replace(/[?#].*$/s, '') + query])];
}

/** What is signed after this URL; `undefined` when the body would not be covered. */
function fieldsFor(url: string, { headers }: Head, body: Buffer): string | undefined {
  const hash = URL.canParse(url) ? new URL(url).searchParams.getAll('bodySHA256') : [];
  if (hash.length > 0) {
    const presented = hash.length === 1 ? digestOf(hash[0] ?? '', 'sha256', 'hex') : undefined;
    const matches =
      presented !== undefined && sameBytes(createHash('sha256').update(body).digest(), presented);
    return matches ? '' : undefined;
  }
  if (body.length === 0) return '';
  const type = headerOf(headers, 'content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  const isForm = type === 'application/x-www-form-urlencoded' && body.length <= mostFormBytes;
  return isForm ? formFields(body) : undefined;
}

/** Names in order, each before its values, in order and once each. */
function formFields(body: Buffer): string {
  const fields = new Map<string, Set<string>>();
  for (const [name, value] of new URLSearchParams(body.toString('utf8'))) {
    const values = fields.get(name) ?? new Set();
    fields.set(name, values.add(value));
  }
  return [...fields]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .flatMap(([name, values]) => [...values].sort().map((value) => name + value))
    .join('');
}
