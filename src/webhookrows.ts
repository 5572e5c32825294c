import { isUtf8 } from 'node:buffer';
import { createHash, randomUUID } from 'node:crypto';
import { NexusError } from './errors.ts';
import type { Delivery, ListedItem } from './mailbox.ts';
import { keyOf, maxTextUnits, type Row } from './stores/store.ts';

/** How long history and the senders' delivery ids are kept. */
export const keptMs = 30 * 86_400_000;

const timeDigits = 9;
const countDigits = 4;
const randomDigits = 8;

/**
 * Makes rows' ids in the order of arrival: 9 digits (base 36) of milliseconds since 1970, which never go back in a
 * process, 4 that count within one (`most` of them), 8 random ones that tell processes apart.
 */
export function openRowIds(now: () => Date, most = 36 ** countDigits): () => string {
  let last = 0;
  let count = 0;
  return () => {
    const time = now().getTime();
    if (time > last) {
      last = time;
      count = 0;
    } else if (++count === most) {
      last++;
      count = 0;
    }
    return `${rowTime(last)}${digits(count, countDigits)}${randomText()}`;
  };
}

/** The least id of rows of this time, ms since 1970. */
export function rowTime(ms: number): string {
  return digits(Math.max(0, Math.floor(ms)), timeDigits);
}

/** When the row's webhook came, ms since 1970. */
export function timeOfRow(row: string): number {
  return Number.parseInt(row.slice(0, timeDigits), 36);
}

function digits(value: number, length: number): string {
  return value.toString(36).padStart(length, '0');
}

function randomText(): string {
  // 48 random bits of the 122, which Node draws from a pool: a fresh draw for each id is slower than the rest of it.
  const bits = Number.parseInt(randomUUID().slice(-12), 16);
  return digits(bits % 36 ** randomDigits, randomDigits);
}

/** The row of `Deliveries` for a sender's id. No two pairs have the same: a source's key holds no space. */
export function deliveryKey(source: string, delivery: string): string {
  return keyOf(`${keyOf(source)} ${delivery}`);
}

/** The row of `Deliveries` for a replay; no sender's: no source's key is empty. */
export function replayKey(request: string): string {
  return keyOf(` ${request}`);
}

/** How a body lies in its row: in `Payload`, or `undefined` when it does not fit. */
export function payloadFields(
  body: Buffer,
): { Payload: string; Encoding?: 'base64'; PayloadHash: string } | undefined {
  const fields = textFields(body);
  return fields === undefined ? undefined : { ...fields, PayloadHash: sha256(body) };
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function textFields(body: Buffer): { Payload: string; Encoding?: 'base64' } | undefined {
  // No character of UTF-8 has more than 3 bytes for each of its UTF-16 units.
  if (body.length <= 3 * maxTextUnits && isUtf8(body)) {
    const text = body.toString('utf8');
    if (text.length <= maxTextUnits) return { Payload: text };
  } else if (4 * Math.ceil(body.length / 3) <= maxTextUnits)
    return { Payload: body.toString('base64'), Encoding: 'base64' };
  return undefined;
}

/** The fields of an item's row but those of its body. */
export function fieldsOfDelivery(
  row: string,
  delivery: Delivery,
  key: string | undefined,
): Omit<Row, 'partition' | 'id'> {
  return {
    Source: delivery.source,
    ReceivedAt: new Date(timeOfRow(row)).toISOString(),
    ContentType: delivery.contentType,
    Headers: headersText(delivery.headers),
    Bytes: delivery.body.length,
    ...(delivery.decoded === undefined ? {} : { Decoded: delivery.decoded }),
    // A key is made of the whole of it; this one is for people.
    ...(delivery.delivery === undefined ? {} : { Delivery: delivery.delivery.slice(0, 1000) }),
    ...(key === undefined ? {} : { DeliveryKey: key }),
    ...(delivery.reconciled === undefined ? {} : { Reconciled: true }),
  };
}

/** As JSON; the longest left out where a row could not hold them all. */
function headersText(headers: Record<string, string>): string {
  const text = JSON.stringify(headers);
  if (text.length <= maxTextUnits) return text;
  const shortestFirst = Object.entries(headers).sort(([, one], [, other]) => one.length - other.length);
  const kept: [string, string][] = [];
  let length = 2;
  for (const [name, value] of shortestFirst) {
    length += JSON.stringify([name, value]).length;
    if (length > maxTextUnits) break;
    kept.push([name, value]);
  }
  return JSON.stringify(Object.fromEntries(kept));
}

/** What a field says when it is text. */
export function textOf(row: Row, field: string): string | undefined {
  const value = row[field];
  return typeof value === 'string' ? value : undefined;
}

export function bytesOf(row: Row): number {
  return Number(row['Bytes'] ?? 0);
}

/** How long its body is when its Content-Encoding is undone; known of those that `checkPayload` has passed. */
export function decodedOf(row: Row): number | undefined {
  const decoded = row['Decoded'];
  return typeof decoded === 'number' ? decoded : undefined;
}

export function headersOf(row: Row): Record<string, string> {
  try {
    const headers: Record<string, string> = JSON.parse(textOf(row, 'Headers') ?? '{}');
    return headers;
  } catch (error) {
    throw new NexusError('corrupt', `The headers of ${row.partition}.${row.id} are not readable.`, {
      cause: error,
    });
  }
}

/** A row of pending or history as it is listed. */
export function listedItem(row: Row, pending: boolean): ListedItem {
  const [delivery, acknowledgedAt, host, replayOf] = ['Delivery', 'AcknowledgedAt', 'Host', 'ReplayOf'].map(
    (field) => textOf(row, field),
  );
  return {
    agent: row.partition,
    ...itemFields(row),
    bytes: bytesOf(row),
    state: pending ? 'pending' : textOf(row, 'State') === 'dropped' ? 'dropped' : 'delivered',
    ...(delivery === undefined ? {} : { delivery }),
    ...(acknowledgedAt === undefined ? {} : { acknowledgedAt }),
    ...(host === undefined ? {} : { host }),
    ...(replayOf === undefined ? {} : { replayOf }),
    ...reconciledIn(row),
  };
}

/** The mark of what a host fetched, as items and deliveries have it. */
export function reconciledIn(row: Row): { reconciled?: true } {
  return row['Reconciled'] === true ? { reconciled: true } : {};
}

export function itemFields(
  row: Row,
): Pick<ListedItem, 'id' | 'source' | 'receivedAt' | 'contentType' | 'headers'> {
  return {
    id: `${row.partition}.${row.id}`,
    source: textOf(row, 'Source') ?? '',
    receivedAt: textOf(row, 'ReceivedAt') ?? '',
    contentType: textOf(row, 'ContentType') ?? '',
    headers: headersOf(row),
  };
}
