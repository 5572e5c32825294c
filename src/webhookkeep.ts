import { setTimeout as sleep } from 'node:timers/promises';
import { failedWith, NexusError } from './errors.ts';
import { type Row, rowOf, type Store, type TableRow } from './stores/store.ts';
import { type BodyFields, discardBody, storeBody } from './webhookbodies.ts';
import { type fieldsOfDelivery, payloadFields } from './webhookrows.ts';

const items = 'WebhookItems';

/** Where an item is. */
export interface Found {
  row: Row;
  pending: boolean;
}

/** An item that is to become pending. */
export interface Keeping {
  agent: string;
  body: Buffer;
  /** The row of `Deliveries` that fixes its id, so that a repeat gets the same one. */
  key?: string;
  /** What else that row says. */
  facts?: Record<string, string>;
  fields: (row: string) => ReturnType<typeof fieldsOfDelivery>;
}

/**
 * How long whoever fixed an item's id is alone in storing it, by each one's own watch: others that find the id fixed
 * wait for so long before they store the item themselves. Who needed no longer knows, without asking, that no other
 * has stored it and no host has taken it meanwhile.
 */
const aloneMs = 250;

/** Pending first: what an acknowledge moves is in history before it leaves pending. */
export async function findItem(store: Store, agent: string, row: string): Promise<Found | undefined> {
  const pending = await rowOf(store, items, agent, row);
  if (pending !== undefined) return { row: pending, pending: true };
  const history = await rowOf(store, 'History', agent, row);
  return history === undefined ? undefined : { row: history, pending: false };
}

/**
 * Makes items pending. With a key the order is: the row of `Deliveries`, which fixes the item's id, then the blob,
 * then the item's row. A crash in between leaves a delivery without its item, which the next try with that key finds
 * in neither pending nor history and stores under the same id. Of many at once, the one whose row is there has won.
 */
export function openKeeping(
  store: Store,
  rememberAgent: (agent: string) => Promise<void>,
  nextRow: () => string,
  now: () => Date,
): (item: Keeping) => Promise<{ row: string; kept: boolean }> {
  /** Fixes the item's row, and stores the item along with it where its body is no blob. */
  async function fixRow(
    { agent, body, facts, fields }: Keeping,
    key: string,
    fresh: string,
  ): Promise<{ row: string; first: boolean; stored?: boolean }> {
    for (;;) {
      const delivery = { ...facts, partition: agent, id: key, item: fresh, at: now().toISOString() };
      const rows: TableRow[] = [{ table: 'Deliveries', row: delivery }];
      const payload = payloadFields(body);
      if (payload !== undefined)
        rows.push({ table: items, row: { ...fields(fresh), ...payload, partition: agent, id: fresh } });
      const added = await store.insertAll(rows);
      if (added > 0)
        return {
          row: fresh,
          first: true,
          ...(payload === undefined ? {} : { stored: added === rows.length }),
        };
      const known = await rowOf(store, 'Deliveries', agent, key);
      // Removed in between, 30 days old.
      if (known === undefined) continue;
      for (const [field, value] of Object.entries(facts ?? {}))
        if (known[field] !== value)
          throw new NexusError('conflict', 'This request was made before, for another item.');
      return { row: String(known['item']), first: false };
    }
  }

  /** True when the item is there, or comes while the one that fixed its id has time to store it. */
  async function appears(agent: string, row: string): Promise<boolean> {
    const began = performance.now();
    for (let pause = 5; ; pause *= 2) {
      if ((await findItem(store, agent, row)) !== undefined) return true;
      const left = aloneMs - (performance.now() - began);
      if (left <= 0) return false;
      await sleep(Math.min(pause, left));
    }
  }

  /** True when this call made the row. */
  async function insertItem({ agent, body, fields }: Keeping, row: string, fresh: string): Promise<boolean> {
    const stored: BodyFields = await storeBody(store, agent, row, fresh, body);
    try {
      await store.insert(items, { ...fields(row), ...stored, partition: agent, id: row });
      return true;
    } catch (error) {
      // After any other failure the row may be there all the same, and name the blob.
      if (!failedWith(error, 'conflict')) throw error;
      await discardBody(store, stored);
      return false;
    }
  }

  return async (item) => {
    const { agent, key } = item;
    await rememberAgent(agent);
    const fresh = nextRow();
    if (key === undefined) {
      if (!(await insertItem(item, fresh, fresh))) throw new Error(`the id ${fresh} was made twice`);
      return { row: fresh, kept: true };
    }
    const began = performance.now();
    const { row, first, stored } = await fixRow(item, key, fresh);
    if (!first && (await appears(agent, row))) return { row, kept: false };
    if (!(stored ?? (await insertItem(item, row, fresh)))) return { row, kept: false };
    if (first && performance.now() - began < aloneMs) return { row, kept: true };
    // Another call may have stored it, and its host taken it, since this one looked: then it is not pending again.
    // Its blob stays for `prune`: an acknowledge of this very row may have named it in history.
    if ((await rowOf(store, 'History', agent, row)) === undefined) return { row, kept: true };
    await store.removeRows(items, agent, [row]);
    return { row, kept: false };
  };
}
