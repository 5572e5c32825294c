import type { IncomingHttpHeaders } from 'node:http';
import { elementsIn, fieldsIn, type Place } from '../exactjson.ts';
import type { Source, Verification } from '../sources.ts';
import { isPutio } from '../transfer.ts';
import { headerOf } from './signatures/scheme.ts';
import { signedId } from './signatures/standard.ts';

type IdPlace = { header: string } | { json: string } | ((headers: IncomingHttpHeaders) => string | undefined);

/**
 * Where each sender puts an id that is one delivery's own and the same when that delivery is tried again. An id that
 * several deliveries share would make Nexus drop all but one: so not GitLab's `X-Gitlab-Event-UUID`, which webhooks
 * that set off one another share, and not Shopify's `X-Shopify-Event-Id`, which all subscriptions to one event share.
 * GitLab's `X-Gitlab-Webhook-UUID` is another at each try. Meta sends none.
 */
const places: Partial<Record<Verification, IdPlace>> = {
  github: { header: 'x-github-delivery' },
  stripe: { json: 'id' },
  slack: { json: 'event_id' },
  standard: signedId,
  gitlab: (headers) => signedId(headers) ?? headerOf(headers, 'idempotency-key'),
  shopify: (headers) => headerOf(headers, 'x-shopify-webhook-id') ?? headerOf(headers, 'shopify-webhook-id'),
  linear: { header: 'linear-delivery' },
  telegram: { json: 'update_id' },
  twilio: { header: 'i-twilio-idempotency-token' },
};

/** Those who prove nothing of who they are: their name says what they send. */
const namedByThemselves = new Set<Verification>(['key', 'none', 'secret', 'hmac']);

/**
 * The sender's own id of a delivery, `undefined` where it has none. What the configuration says goes before what is
 * known of the sender. The body is read as `contentType` says, and only where the id is in it: JSON that is valid is not parsed again for it.
 */
export function deliveryIdOf(
  source: Source | undefined,
  name: string,
  headers: IncomingHttpHeaders,
  body: Buffer,
  contentType: string,
): string | undefined {
  const place = source?.delivery ?? knownPlace(source?.verify ?? 'key', name);
  if (place === undefined) return undefined;
  if (typeof place === 'function') return place(headers);
  if ('header' in place) return headerOf(headers, place.header);
  const type = contentType.split(';', 1)[0]?.trim().toLowerCase();
  return type === 'application/x-www-form-urlencoded' ? fieldIn(body, place.json) : valueAt(body, place.json);
}

/** Whether its deliveries are known by what their payload says of a transfer of put.io's. */
export function isKnownByTransfer(source: Source | undefined, name: string): boolean {
  return source?.delivery === undefined && namedByThemselves.has(source?.verify ?? 'key') && isPutio(name);
}

function knownPlace(verify: Verification, name: string): IdPlace | undefined {
  if (!namedByThemselves.has(verify)) return places[verify];
  const known = name.toLowerCase() === 'svix' ? 'standard' : name.toLowerCase();
  return Object.entries(places).find(([sender]) => sender === known)?.[1];
}

/** A form's field by its whole name, where there is one of that name. */
function fieldIn(body: Buffer, name: string): string | undefined {
  const values = new URLSearchParams(body.toString('utf8')).getAll(name);
  return values.length === 1 && values[0] !== '' ? values[0] : undefined;
}

/** Text as it is, a number as it is written; nothing else is an id. Of a name that comes twice the last counts. */
function valueAt(body: Buffer, path: string): string | undefined {
  const text = body.toString('utf8');
  try {
    let at: Place = { start: text.search(/[^ \n\r\t]/), end: text.length };
    for (const name of path.split('.')) {
      const part = partOf(text, at, name);
      if (part === undefined) return undefined;
      at = part;
    }
    // A part of several values is no id, and can be as long as the body.
    if (text[at.start] === '{' || text[at.start] === '[') return undefined;
    const written = text.slice(at.start, at.end);
    const value: unknown = JSON.parse(written);
    if (typeof value === 'number') return written;
    return typeof value === 'string' && value !== '' ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined; // no JSON, so no id in it
    throw error;
  }
}

/** The part of that name in an object, or in a list, where names are numbers from 0. */
function partOf(text: string, { start, end }: Place, name: string): Place | undefined {
  const first = text[start];
  if (first !== '{' && first !== '[') return undefined;
  const parts = first === '{' ? fieldsIn(text, start) : elementsIn(text, start);
  let part: Place | undefined;
  for (let index = 0; ; index++) {
    const next = parts.next();
    if (next.done === true) {
      // Of several values in a body the first one's id is not that of all.
      return text.slice(next.value, end).trim() === '' ? part : undefined;
    }
    if (('name' in next.value ? next.value.name : String(index)) === name) part = next.value;
  }
}
