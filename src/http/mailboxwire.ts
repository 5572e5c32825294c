import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { type Item, type ListedItem, type MailboxStanding, type Position, positionOf } from '../mailbox.ts';
import { headerJson, pairCursor, readPairCursor } from './wire.ts';

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
};
const payload = { payload: z.unknown(), encoding: z.literal('base64').exactOptional() };
const listed = {
  agent: z.string(),
  bytes: z.number().int().nonnegative(),
  state: z.enum(['pending', 'delivered', 'dropped']),
  delivery: z.string().exactOptional(),
  acknowledgedAt: z.string().exactOptional(),
  host: z.string().exactOptional(),
};

export const itemSchema = z.object({ ...facts, ...payload }) satisfies z.ZodType<Item>;
export const listedSchema = z.object({ ...facts, ...listed }) satisfies z.ZodType<ListedItem>;
export const shownSchema = z.object({ ...facts, ...listed, ...payload });
export const brokenSchema = z.array(z.object({ id: z.string(), reason: z.string() }));
export const standingSchema = z.object({
  agent: z.string(),
  pending: z.number().int().nonnegative(),
  bytes: z.number().int().nonnegative(),
  oldestAt: z.string().exactOptional(),
  host: z.string().exactOptional(),
}) satisfies z.ZodType<MailboxStanding>;

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
