import { createHash } from 'node:crypto';
import * as z from 'zod';
import { NexusError } from '../errors.ts';
import type { About, Card, ListOptions } from '../nexus.ts';

/** What server and client agree on beyond the routes: headers of their own, digest fields, cursors. */
export const headers = {
  /** JSON of `About`, on PATCH. */
  about: 'nexus-about',
  /** JSON of `Card`, on the answer to HEAD. */
  card: 'nexus-card',
  /** The error's code, on every error that is not a bug: HEAD has no body to say it in. */
  error: 'nexus-error',
  /** The id of the store behind the endpoint, on every answer to a caller who was let in. */
  store: 'nexus-store',
  offset: 'upload-offset',
  complete: 'upload-complete',
  contentDigest: 'content-digest',
  reprDigest: 'repr-digest',
  wantReprDigest: 'want-repr-digest',
  key: 'x-functions-key',
  /** Which host asks for its mail: percent-encoded where it is no plain name. */
  host: 'x-nexus-host',
  /** Of an answer about usage: until when changes were looked for, and whether all that was stored then was read. */
  asOf: 'nexus-as-of',
  allRead: 'nexus-all-read',
  /** JSON of what is pending or listed and cannot be read, as much as fits. */
  broken: 'nexus-broken',
} as const;

/** What is damaged is told in lines, of which this is the last: without it the answer was cut short. */
export const damagePath = '/api/store/damage';
export const damageEnd = { end: true } as const;

export const partialUpload = 'application/partial-upload';

/** The longest `Nexus-About`, in bytes; with the other headers it stays below the 16 KiB that Node takes. */
export const maxAboutBytes = 8192;

// Dates are only ever compared and shown: what Date.parse understands is good enough for a time from outside.
const time = z
  .string()
  .max(40)
  .refine((text) => !Number.isNaN(Date.parse(text)), 'not a time');

const aboutFields = {
  host: z.string().min(1).max(512).exactOptional(),
  era: z.enum(['file', 'sqlite']).exactOptional(),
  sessionKey: z.string().min(1).max(1024).exactOptional(),
  trigger: z.string().min(1).max(512).exactOptional(),
  firstEventAt: time.exactOptional(),
  lastEventAt: time.exactOptional(),
  sessionId: z.string().min(1).max(1024).exactOptional(),
};
const aboutSchema = z.strictObject(aboutFields) satisfies z.ZodType<About>;

/** Not strict: a newer endpoint may say more than this client knows. */
export const cardSchema = z.object({
  ...aboutFields,
  agent: z.string(),
  transcript: z.string(),
  path: z.string(),
  length: z.number().int().nonnegative(),
  complete: z.boolean(),
  digest: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .exactOptional(),
  storedAt: z.string(),
  updatedAt: z.string(),
}) satisfies z.ZodType<Card>;

/** JSON in the characters a header field can carry. */
export function headerJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** What `Nexus-About` says; absent says nothing. Anything that is not exactly an `About` is `invalid`. */
export function readAbout(header: string | undefined): About {
  if (header === undefined) return {};
  if (header.length > maxAboutBytes)
    throw new NexusError('invalid', `The header Nexus-About is longer than ${maxAboutBytes} bytes.`);
  const read = aboutSchema.safeParse(parseJson(header));
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  const where = issue?.path.join('.') ?? '';
  throw new NexusError(
    'invalid',
    `Invalid Nexus-About${where === '' ? '' : `, field ${where}`}: ${issue?.message ?? 'not JSON'}.`,
  );
}

/** `undefined` when the text is no JSON, which no schema here accepts. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** A digest as RFC 9530 writes it; `hex` is lower-case. */
export function digestField(hex: string): string {
  return `sha-256=:${Buffer.from(hex, 'hex').toString('base64')}:`;
}

export function digestFieldOf(bytes: Uint8Array): string {
  return digestField(createHash('sha256').update(bytes).digest('hex'));
}

/**
 * The SHA-256, lower-case hex, that a digest field states; `undefined` when it names other algorithms only, which
 * RFC 9530 says to ignore.
 */
export function readDigestField(field: string): string | undefined {
  for (const member of field.split(',')) {
    const [name, ...value] = member.trim().split('=');
    if (name !== 'sha-256') continue;
    const encoded = /^:([A-Za-z0-9+/]{43}=):$/.exec(value.join('='))?.[1];
    if (encoded === undefined)
      throw new NexusError('invalid', 'Invalid digest: write it as sha-256=:<base64>:.');
    return Buffer.from(encoded, 'base64').toString('hex');
  }
  return undefined;
}

/** True when a `Want-Repr-Digest` asks for SHA-256 with a preference above 0. */
export function wantsDigest(field: string | undefined): boolean {
  return (field ?? '').split(',').some((member) => /^\s*sha-256\s*(=\s*[1-9]\d*)?\s*$/.test(member));
}

export type Position = NonNullable<ListOptions['after']>;

/** Where a listing goes on: opaque to callers, and free of state here. */
export function cursorOf({ agent, transcript }: Position): string {
  return pairCursor(agent, transcript);
}

export function readCursor(cursor: string): Position {
  const [agent, transcript] = readPairCursor(cursor);
  return { agent, transcript };
}

/** The same of any agent and what is listed of it. */
export function pairCursor(agent: string, name: string): string {
  return Buffer.from(JSON.stringify([agent, name])).toString('base64url');
}

export function readPairCursor(cursor: string): [agent: string, name: string] {
  const read = z
    .tuple([z.string(), z.string()])
    .safeParse(parseJson(Buffer.from(cursor, 'base64url').toString('utf8')));
  if (!read.success) throw new NexusError('invalid', 'Invalid cursor: use the one that the last page gave.');
  return read.data;
}
