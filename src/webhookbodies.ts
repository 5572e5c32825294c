import { NexusError } from './errors.ts';
import type { Item } from './mailbox.ts';
import { type Payload, payloadOf } from './payload.ts';
import type { Row, Store } from './stores/store.ts';
import {
  bytesOf,
  decodedOf,
  itemFields,
  payloadFields,
  reconciledIn,
  sha256,
  textOf,
  timeOfRow,
} from './webhookrows.ts';

const directory = 'payloads/items/';
/** What an item's JSON has beside its headers and its payload, about. */
const factsCost = 300;

/** The fields that say what a body is or where it lies. */
export type BodyFields =
  | { Payload: string; Encoding?: 'base64'; PayloadHash: string }
  | { PayloadBlob: string; PayloadHash: string };

/** Where an agent's bodies lie that do not fit their rows, in the order in which they were stored. */
export function blobsOf(agent: string): string {
  return `${directory}${agent}/`;
}

/** When such a blob was stored, ms since 1970, and for which row; `undefined` for what is no name of one. */
export function readBlobName(agent: string, name: string): { at: number; row: string } | undefined {
  const [, attempt, row] =
    /^([0-9a-z]{9,32})-([0-9a-z]{9,32})$/.exec(name.slice(blobsOf(agent).length)) ?? [];
  return attempt === undefined || row === undefined ? undefined : { at: timeOfRow(attempt), row };
}

/**
 * Makes a body durable for the row that will name it. Each `attempt` (an id as rows have) has a blob of its own: the
 * row that wins names one that no other try can have removed. Its time is that of the attempt, because a row may be
 * fixed long before its body comes.
 */
export async function storeBody(
  store: Store,
  agent: string,
  row: string,
  attempt: string,
  body: Buffer,
): Promise<BodyFields> {
  const fields = payloadFields(body);
  if (fields !== undefined) return fields;
  const name = `${blobsOf(agent)}${attempt}-${row}`;
  await store.create(name, body);
  return { PayloadBlob: name, PayloadHash: sha256(body) };
}

/** Removes a body's blob that no row names; one that cannot be removed now is left to `prune`. */
export async function discardBody(store: Store, fields: BodyFields): Promise<void> {
  if (!('PayloadBlob' in fields)) return;
  try {
    await store.remove(fields.PayloadBlob);
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
  }
}

/** The body as received. `corrupt` when its blob is gone or is not what was stored. */
export async function bodyOf(store: Store, row: Row): Promise<Buffer> {
  const name = textOf(row, 'PayloadBlob');
  if (name === undefined) {
    const text = textOf(row, 'Payload') ?? '';
    const body = Buffer.from(text, row['Encoding'] === 'base64' ? 'base64' : 'utf8');
    // Older releases kept no digest here.
    if (row['Damaged'] !== true && (row['PayloadHash'] === undefined || row['PayloadHash'] === sha256(body)))
      return body;
    throw new NexusError(
      'corrupt',
      `The body of ${row.partition}.${row.id} is not the one that was received.`,
      { hint: 'Restore the store from a backup, or give the item up with `nexus webhooks drop`.' },
    );
  }
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of store.open(name)) pieces.push(piece);
  } catch (error) {
    if (!(error instanceof NexusError) || !['not_found', 'corrupt'].includes(error.code)) throw error;
    throw new NexusError('corrupt', `The body of ${row.partition}.${row.id} is gone from the store.`, {
      hint: `Restore ${name} from a backup, or give the item up with \`nexus webhooks drop\`.`,
      cause: error,
    });
  }
  const body = Buffer.concat(pieces);
  if (sha256(body) !== row['PayloadHash'])
    throw new NexusError(
      'corrupt',
      `The body of ${row.partition}.${row.id} is not the one that was stored.`,
      {
        hint: `Restore ${name} from a backup, or give the item up with \`nexus webhooks drop\`.`,
      },
    );
  return body;
}

/** A row and its body as the item that a host gets. */
export async function itemOf(row: Row, body: Buffer): Promise<Item> {
  const fields = itemFields(row);
  const replayOf = textOf(row, 'ReplayOf');
  const more = { ...(replayOf === undefined ? {} : { replayOf }), ...reconciledIn(row) };
  return { ...fields, ...(await readBody(row, body)), ...more };
}

/** Its body as an agent reads it. */
export async function readBody(row: Row, body: Buffer): Promise<Payload> {
  const { contentType, headers } = itemFields(row);
  const checked = decodedOf(row) !== undefined;
  return await payloadOf(contentType, headers['content-encoding'], body, { checked });
}

/**
 * About how many bytes the item's JSON will have, and no less than its body. Infinite where nobody can tell: what is
 * in a Content-Encoding, and of which the row does not say how long it is without.
 */
export function costOf(row: Row): number {
  const decoded = decodedOf(row);
  const headers = textOf(row, 'Headers') ?? '';
  if (decoded === undefined && /"content-encoding":"(?!identity")/i.test(headers))
    return Number.POSITIVE_INFINITY;
  const bytes = Math.max(bytesOf(row), decoded ?? 0);
  const plain = textOf(row, 'Encoding') === undefined && /json|text/i.test(textOf(row, 'ContentType') ?? '');
  return factsCost + headers.length + Math.ceil(bytes * (plain ? 1.05 : 4 / 3));
}

/** How many bytes the item's JSON has, but for a few. */
export function bytesOfItem({ payloadText, headers }: Item): number {
  return factsCost + JSON.stringify(headers).length + Buffer.byteLength(payloadText);
}
