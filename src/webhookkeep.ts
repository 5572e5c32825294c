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
  /**
   * The row of another id that the sender's own delivery may come under, or have come under since that time (ISO 8601):
   * then it is that item. Fixed along with `key`.
   */
  otherwise?: { key: string; since: string };
  /** What else that row says. */
  facts?: Record<string, string>;
  fields: (row: string) => ReturnType<typeof fieldsOfDelivery>;
}

/** `free`: nothing came under it. `begun`: it was fixed along with the delivery's own. `came`: it is that item. */
type Otherwise =
  | { state: 'none' }
  | { state: 'free'; key: string }
  | { state: 'begun' | 'came'; row: string };

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
  /** What is fixed already under the other id that a delivery may have. */
  async function fixedOtherwise({ agent, otherwise }: Keeping, key: string): Promise<Otherwise> {
    if (otherwise === undefined) return { state: 'none' };
    const known = await rowOf(store, 'Deliveries', agent, otherwise.key);
    if (known === undefined) return { state: 'free', key: otherwise.key };
    const row = String(known['item']);
    if (known['for'] === key) return { state: 'begun', row };
    const same = known['for'] === undefined && String(known['at']) >= otherwise.since;
    return same ? { state: 'came', row } : { state: 'none' };
  }

  /** Fixes the item's row, and stores the item along with it where its body is no blob. */
  async function fixRow(
    item: Keeping,
    key: string,
    fresh: string,
  ): Promise<{ row: string; first: boolean; stored?: boolean }> {
    const { agent, body, facts, fields } = item;
    for (;;) {
      const other = await fixedOtherwise(item, key);
      if (other.state === 'came') return { row: other.row, first: false };
      const row = other.state === 'begun' ? other.row : fresh;
      const fact = { partition: agent, item: row, at: now().toISOString() };
      // The other id first: it decides a race with a sender who knows only that one.
      const before: TableRow[] =
        other.state === 'free' ? [{ table: 'Deliveries', row: { ...fact, id: other.key, for: key } }] : [];
      const rows: TableRow[] = [...before, { table: 'Deliveries', row: { ...facts, ...fact, id: key } }];
      const payload = other.state === 'begun' ? undefined : payloadFields(body);
      if (payload !== undefined)
        rows.push({ table: items, row: { ...fields(row), ...payload, partition: agent, id: row } });
      const added = await store.insertAll(rows);
      if (added < before.length) continue;
      if (added > before.length)
        return {
          row,
          // Of what was begun before, another may have stored the item.
          first: other.state !== 'begun',
          ...(payload === undefined ? {} : { stored: added === rows.length }),
        };
      const known = await rowOf(store, 'Deliveries', agent, key);
      // Removed in between, 30 days old.
      if (known === undefined) continue;
      for (const [field, value] of Object.entries(facts ?? {}))
        if (known[field] !== value)
          throw new NexusError('conflict', 'This request was made before, for another item.');
      const found = String(known['item']);
      for (const { table, row: mine } of before) await store.put(table, { ...mine, item: found });
      return { row: found, first: false };
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
