import type { IncomingHttpHeaders } from 'node:http';
import type { Source, Verification } from '../sources.ts';
import { headerOf } from './signatures/scheme.ts';
import { signedId } from './signatures/standard.ts';

type Place = { header: string } | { json: string } | ((headers: IncomingHttpHeaders) => string | undefined);

/**
 * Where each sender puts an id that is one delivery's own and the same when that delivery is tried again. An id that
 * several deliveries share would make Nexus drop all but one: so not GitLab's `X-Gitlab-Event-UUID`, which webhooks
 * that set off one another share, and not Shopify's `X-Shopify-Event-Id`, which all subscriptions to one event share.
 * GitLab's `X-Gitlab-Webhook-UUID` is another at each try. Meta sends none.
 */
const places: Partial<Record<Verification, Place>> = {
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
 * known of the sender. The body is read as `contentType` says, and only where the id is in it.
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

function knownPlace(verify: Verification, name: string): Place | undefined {
  if (!namedByThemselves.has(verify)) return places[verify];
  const known = name.toLowerCase() === 'svix' ? 'standard' : name.toLowerCase();
  return Object.entries(places).find(([sender]) => sender === known)?.[1];
}

/** A form's field by its whole name, where there is one of that name. */
function fieldIn(body: Buffer, name: string): string | undefined {
  const values = new URLSearchParams(body.toString('utf8')).getAll(name);
  return values.length === 1 && values[0] !== '' ? values[0] : undefined;
}

/** Text as it is, a number as it is written; nothing else is an id. */
function valueAt(body: Buffer, path: string): string | undefined {
  const text = body.toString('utf8');
  const value = follow(parsed(text), path);
  if (typeof value === 'number') return String(follow(parsed(text, numbersAsWritten), path));
  return typeof value === 'string' && value !== '' ? value : undefined;
}

type Reviver = (name: string, value: unknown, context?: { source?: string }) => unknown;

/** An id may be a number that JavaScript cannot hold: two of them must not become one. */
const numbersAsWritten: Reviver = (_, value, context) =>
  typeof value === 'number' ? (context?.source ?? value) : value;

function parsed(text: string, reviver?: Reviver): unknown {
  try {
    return JSON.parse(text, reviver);
  } catch {
    return undefined; // no JSON, so no id in it
  }
}

function follow(value: unknown, path: string): unknown {
  let at = value;
  for (const name of path.split('.')) {
    if (typeof at !== 'object' || at === null || !isField(at, name)) return undefined;
    at = Reflect.get(at, name);
  }
  return at;
}

/** One that came in the JSON: not a list's length, nor anything that every object has. */
function isField(value: object, name: string): boolean {
  return Object.prototype.propertyIsEnumerable.call(value, name);
}
