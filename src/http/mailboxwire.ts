import { setImmediate } from 'node:timers/promises';
import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { elementsIn, fieldsIn, type Place, withField } from '../exactjson.ts';
import { isJson } from '../jsontext.ts';
import {
  type Item,
  type ListedItem,
  type MailboxStanding,
  type Position,
  positionOf,
  type ShownItem,
} from '../mailbox.ts';
import { headerJson, pairCursor, parseJson, readPairCursor } from './wire.ts';

/** What server and client agree on about mailboxes, beyond the routes. */

/** The most items of a page and ids of a request. */
export const mostItems = 1000;
/** The longest wait of one request, in seconds. */
export const mostWait = 60;

// Not strict: a newer endpoint may say more than this client knows.
const facts = {
  id: z.string().refine((id) => positionOf(id) !== undefined),
  source: z.string(),
  receivedAt: z.string(),
  contentType: z.string(),
  headers: z.record(z.string(), z.string()),
  replayOf: z.string().exactOptional(),
  reconciled: z.literal(true).exactOptional(),
};
const encoding = { encoding: z.literal('base64').exactOptional() };
const listed = {
  agent: z.string(),
  bytes: z.number().int().nonnegative(),
  state: z.enum(['pending', 'delivered', 'dropped']),
  delivery: z.string().exactOptional(),
  acknowledgedAt: z.string().exactOptional(),
  host: z.string().exactOptional(),
};

const itemSchema = z.object({ ...facts, ...encoding });
export const listedSchema = z.object({ ...facts, ...listed }) satisfies z.ZodType<ListedItem>;
const shownSchema = z.object({ ...facts, ...listed, ...encoding });
const brokenSchema = z.array(z.object({ id: z.string(), reason: z.string() }));
export const standingSchema = z.object({
  agent: z.string(),
  pending: z.number().int().nonnegative(),
  bytes: z.number().int().nonnegative(),
  oldestAt: z.string().exactOptional(),
  host: z.string().exactOptional(),
}) satisfies z.ZodType<MailboxStanding>;

/** An item as it goes over the wire. */
export function itemText({ payloadText, ...facts }: Item | ShownItem): string {
  return withField(facts, 'payload', payloadText);
}

/** A page as it goes over the wire: an array of items for each agent, also for those that are named and have none. */
export function pageText(items: readonly Item[], named: readonly string[]): string {
  const groups = new Map<string, string[]>(named.map((agent) => [agent, []]));
  for (const item of items) {
    const agent = positionOf(item.id)?.agent ?? '';
    const group = groups.get(agent);
    if (group === undefined) groups.set(agent, [itemText(item)]);
    else group.push(itemText(item));
  }
  return `{${[...groups].map(([agent, texts]) => `${JSON.stringify(agent)}:[${texts.join(',')}]`).join(',')}}`;
}

/** The items of a page, by agent in ascending order; `undefined` when it is none. */
export async function readPage(text: string): Promise<Item[] | undefined> {
  const groups: { agent: string; items: Item[] }[] = [];
  try {
    const pieces = fieldsIn(text, 0);
    let group = pieces.next();
    for (; group.done !== true; group = pieces.next()) {
      const items: Item[] = [];
      for (const place of elementsIn(text, group.value.start)) {
        const item = readAs(itemSchema, text.slice(place.start, place.end));
        if (item === undefined) return undefined;
        items.push(item);
        await setImmediate();
      }
      groups.push({ agent: group.value.name, items });
    }
    if (text.slice(group.value).trim() !== '') return undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
  return groups.sort((one, other) => (one.agent < other.agent ? -1 : 1)).flatMap(({ items }) => items);
}

/** One item; `undefined` when it is none. */
export function readShown(text: string): ShownItem | undefined {
  return readAs(shownSchema, text);
}

/** The payload stays the text that it is, if it is JSON. */
function readAs<T extends object>(
  schema: z.ZodType<T>,
  text: string,
): (T & { payloadText: string }) | undefined {
  try {
    let payload: Place | undefined;
    for (const field of fieldsIn(text, 0)) if (field.name === 'payload') payload = field;
    const payloadText = payload === undefined ? 'null' : text.slice(payload.start, payload.end);
    const facts =
      payload === undefined ? text : `${text.slice(0, payload.start)}null${text.slice(payload.end)}`;
    if (!isJson(payloadText)) return undefined;
    const read = schema.safeParse(JSON.parse(facts));
    return read.success ? { ...read.data, payloadText } : undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}

export function cursorOfPosition({ agent, row }: Position): string {
  return pairCursor(agent, row);
}

export function readPosition(cursor: string): Position {
  const [agent, row] = readPairCursor(cursor);
  return { agent, row };
}

const longestBroken = 4096;

/** As many as a header holds, from the first on. */
export function brokenField(broken: z.infer<typeof brokenSchema>): string {
  let field = '[]';
  for (let count = 1; count <= broken.length; count++) {
    const next = headerJson(broken.slice(0, count));
    if (next.length > longestBroken) break;
    field = next;
  }
  return field;
}

/** `undefined` for none. */
export function brokenIn(field: string | null): z.infer<typeof brokenSchema> | undefined {
  const read = brokenSchema.safeParse(parseJson(field ?? ''));
  return read.success ? read.data : undefined;
}

/** A host's name as a header carries it. */
export function hostField(host: string): string {
  return encodeURIComponent(host);
}

/** Which host a request names, `undefined` for none. */
export function readHost(field: string | undefined): string | undefined {
  if (field === undefined) return undefined;
  try {
    return checkHostName(decodeURIComponent(field));
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw new NexusError('invalid', 'X-Nexus-Host must be percent-encoded.', { cause: error });
  }
}

export function checkHostName(host: string): string {
  if (!/^[^\p{Cc}\p{Cs}]{1,255}$/u.test(host))
    throw new NexusError(
      'invalid',
      'A host is named by 1 to 255 characters, none of them a control character.',
    );
  return host;
}
