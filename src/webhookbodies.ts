import { createHash } from 'node:crypto';
import { NexusError } from './errors.ts';
import type { Item } from './mailbox.ts';
import { payloadOf } from './payload.ts';
import type { Row, Store } from './stores/store.ts';
import { bytesOf, itemFields, payloadFields, textOf, timeOfRow } from './webhookrows.ts';

const directory = 'payloads/items/';

/** The fields that say what a body is or where it lies. */
export type BodyFields =
  | { Payload: string; Encoding?: 'base64' }
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
  if (name === undefined)
    return Buffer.from(textOf(row, 'Payload') ?? '', row['Encoding'] === 'base64' ? 'base64' : 'utf8');
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

/** A row as the item that a host gets. */
export async function itemOf(store: Store, row: Row): Promise<Item> {
  const fields = itemFields(row);
  const read = await payloadOf(
    fields.contentType,
    fields.headers['content-encoding'],
    await bodyOf(store, row),
  );
  const replayOf = textOf(row, 'ReplayOf');
  return { ...fields, ...read, ...(replayOf === undefined ? {} : { replayOf }) };
}

/** About how many bytes the item's JSON has. */
export function costOf(row: Row): number {
  const about = 300 + (textOf(row, 'Headers')?.length ?? 0);
  const plain = textOf(row, 'Encoding') === undefined && /json|text/i.test(textOf(row, 'ContentType') ?? '');
  return about + Math.ceil(bytesOf(row) * (plain ? 1.05 : 4 / 3));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
