import { failedWith } from './errors.ts';
import { type Pruned, positionOf } from './mailbox.ts';
import { type Row, rowOf, type Store } from './stores/store.ts';
import { blobsOf, readBlobName } from './webhookbodies.ts';
import { keptMs, rowTime, textOf, timeOfRow } from './webhookrows.ts';

/** Rows that are moved or removed together; on Azure, one transaction. */
const atOnce = 100;
const blobsAtOnce = 8;

/** The rows that these ids name, by agent; what is no id names none. */
export function rowsByAgent(ids: readonly string[]): Map<string, string[]> {
  const rows = new Map<string, Set<string>>();
  for (const id of ids) {
    const position = positionOf(id);
    if (position === undefined) continue;
    const known = rows.get(position.agent);
    if (known === undefined) rows.set(position.agent, new Set([position.row]));
    else known.add(position.row);
  }
  return new Map([...rows].map(([agent, set]) => [agent, [...set]]));
}

/**
 * Moves what is pending to history: in history before it leaves pending. What an earlier try has put there stays as it
 * is. Answers the rows that this call has put there: of many at once, and of tries that failed half-way, each row is
 * answered once at most.
 */
export async function moveToHistory(
  store: Store,
  agent: string,
  rows: readonly string[],
  facts: { AcknowledgedAt: string; Host?: string; State: 'delivered' | 'dropped' },
): Promise<Row[]> {
  const moved: Row[] = [];
  for (let first = 0; first < rows.length; first += atOnce) {
    const found = await Promise.all(
      rows.slice(first, first + atOnce).map((row) => leavingRow(store, agent, row)),
    );
    const pending = found.filter((row) => row !== undefined);
    const ours = await Promise.all(
      pending.map(async (row) => {
        try {
          await store.insert('History', { ...row, ...facts });
          return [row];
        } catch (error) {
          if (!failedWith(error, 'conflict')) throw error;
          return [];
        }
      }),
    );
    await store.removeRows(
      'WebhookItems',
      agent,
      pending.map(({ id }) => id),
    );
    moved.push(...ours.flat());
  }
  return moved;
}

/** One that rotted after it was delivered, or that is given up, leaves its id and its time: that it came stays known. */
async function leavingRow(store: Store, agent: string, id: string): Promise<Row | undefined> {
  try {
    return await rowOf(store, 'WebhookItems', agent, id);
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    const ReceivedAt = new Date(timeOfRow(id)).toISOString();
    return { partition: agent, id, ReceivedAt, Source: '', ContentType: '', Bytes: 0, Damaged: true };
  }
}

/**
 * Removes an agent's history and delivery ids of more than 30 days ago, and the blobs that nothing names. The delivery's
 * row goes before the item's and the blob last, so that what a crash leaves is found by the next run. `all` looks at
 * every delivery id for those whose item was never stored.
 */
export async function pruneAgent(
  store: Store,
  agent: string,
  { now, signal, all }: { now: Date; signal: AbortSignal | undefined; all: boolean },
): Promise<Pruned> {
  const pruned: Pruned = { items: 0, deliveries: 0, blobs: 0 };
  const cutoff = now.getTime() - keptMs;
  const old = new Date(cutoff).toISOString();
  const isPending = async (row: string): Promise<boolean> =>
    (await leavingRow(store, agent, row)) !== undefined;

  async function pruneItems(rows: Row[]): Promise<void> {
    // One whose acknowledge was cut short is pending still, with the same blob.
    const pending = await Promise.all(rows.map(({ id }) => isPending(id)));
    const gone = rows.filter((_, at) => pending[at] === false);
    const keys = await Promise.all(
      gone.map(async (row) => {
        const key = textOf(row, 'DeliveryKey');
        // The sender may have sent that id again, after an earlier run had removed its row.
        const delivery = key === undefined ? undefined : await rowOf(store, 'Deliveries', agent, key);
        return delivery?.['item'] === row.id ? [delivery.id] : [];
      }),
    );
    await store.removeRows('Deliveries', agent, keys.flat());
    await store.removeRows(
      'History',
      agent,
      gone.map(({ id }) => id),
    );
    const blobs = gone.flatMap((row) => textOf(row, 'PayloadBlob') ?? []);
    await removeBlobs(store, blobs);
    pruned.items += gone.length;
    pruned.deliveries += keys.flat().length;
    pruned.blobs += blobs.length;
  }

  /** Those whose item was never stored, or is gone. */
  async function pruneDeliveries(rows: Row[]): Promise<void> {
    const there = await Promise.all(
      rows.map(async ({ item }) => {
        const row = String(item);
        return (await isPending(row)) || (await rowOf(store, 'History', agent, row)) !== undefined;
      }),
    );
    const gone = rows.filter((_, at) => there[at] === false);
    await store.removeRows(
      'Deliveries',
      agent,
      gone.map(({ id }) => id),
    );
    pruned.deliveries += gone.length;
  }

  await inBatches(
    store.rows('History', agent, { before: rowTime(cutoff) }),
    (row) => (textOf(row, 'AcknowledgedAt') ?? '') < old,
    pruneItems,
    signal,
  );
  if (all)
    await inBatches(
      store.rows('Deliveries', agent),
      (row) => (textOf(row, 'at') ?? '') < old,
      pruneDeliveries,
      signal,
    );

  const nameless: string[] = [];
  for await (const { name } of store.list(blobsOf(agent))) {
    signal?.throwIfAborted();
    const blob = readBlobName(agent, name);
    if (blob === undefined) continue;
    if (blob.at >= cutoff - 86_400_000) break;
    const named = await Promise.all(
      ['WebhookItems', 'History'].map((table) => rowOf(store, table, agent, blob.row)),
    );
    if (named.every((one) => one?.['PayloadBlob'] !== name)) nameless.push(name);
  }
  await removeBlobs(store, nameless, signal);
  pruned.blobs += nameless.length;
  return pruned;
}

async function inBatches(
  rows: AsyncIterable<Row>,
  wanted: (row: Row) => boolean,
  work: (rows: Row[]) => Promise<void>,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  let batch: Row[] = [];
  for await (const row of rows) {
    signal?.throwIfAborted();
    if (!wanted(row)) continue;
    batch.push(row);
    if (batch.length < atOnce) continue;
    await work(batch);
    batch = [];
  }
  if (batch.length > 0) await work(batch);
}

async function removeBlobs(store: Store, names: readonly string[], signal?: AbortSignal): Promise<void> {
  const queue = names.values();
  const worker = async (): Promise<void> => {
    for (const name of queue) {
      signal?.throwIfAborted();
      await store.remove(name);
    }
  };
  await Promise.all(Array.from({ length: Math.min(blobsAtOnce, names.length) }, worker));
}
