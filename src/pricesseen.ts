import { createHash, randomUUID } from 'node:crypto';
import { checkAgentId } from './agents.ts';
import { NexusError } from './errors.ts';
import { type ModelPrice, modelPricesSchema, type SeenPrice } from './prices.ts';
import { keyOf, maxTextUnits, type Row, rowOf, type Store } from './stores/store.ts';

const table = 'Prices';
const timeDigits = 13;
const dayMs = 86_400_000;
/** Of one list: what a row can hold. */
const mostTexts = 25;
/** Of one agent; the oldest go. */
const mostRows = 1000;
/** Behind all that begin with a time. */
const latestPrefix = 'latest-';
/** No agent has such a name. It says when the last change was, so that readers need not look through all. */
const changed = { partition: '_changed', id: 'prices' };
/** Rows that another way brought, as a copy of a store, are seen after this, ms. */
const readEveryMs = 600_000;

/**
 * Keeps what openclaw.json of an agent's host says that models cost, with the time from when on it holds: one row for
 * each day with a change, so that calls are priced as of their day and who sets prices again and again fills nothing.
 * Of several changes on one day the last holds, from its time on.
 */
export async function keepPrices(
  store: Store,
  agent: string,
  host: string,
  prices: readonly ModelPrice[],
  now: Date,
): Promise<void> {
  const checked = modelPricesSchema.safeParse(prices);
  if (!checked.success) throw new NexusError('invalid', `The prices of ${host} are none that can be kept.`);
  const text = JSON.stringify(checked.data);
  const partition = checkAgentId(agent);
  const latest = { partition, id: `${latestPrefix}${keyOf(host)}`, host };
  const digest = createHash('sha256').update(text).digest('hex');
  const last = (await rowOf(store, table, partition, latest.id))?.['digest'];
  if (last === digest || (last === undefined && prices.length === 0)) return;
  const texts: Record<string, string> = {};
  for (let nth = 0; nth * maxTextUnits < text.length; nth++)
    texts[`prices${nth}`] = text.slice(nth * maxTextUnits, (nth + 1) * maxTextUnits);
  if (Object.keys(texts).length > mostTexts)
    throw new NexusError('too_large', `${prices.length} prices are more than can be kept.`);
  const day = Math.floor(now.getTime() / dayMs) * dayMs;
  const id = `${String(day).padStart(timeDigits, '0')}-${keyOf(host)}`;
  await store.put(table, { partition, id, host, At: now.toISOString(), ...texts });
  await prune(store, partition);
  await store.put(table, { ...changed, stamp: randomUUID() });
  // Last: until it is there, all is done again.
  await store.put(table, { ...latest, digest });
}

async function prune(store: Store, agent: string): Promise<void> {
  const ids: string[] = [];
  for await (const { id } of store.rows(table, agent, { before: latestPrefix })) ids.push(id);
  if (ids.length > mostRows) await store.removeRows(table, agent, ids.slice(0, ids.length - mostRows));
}

/** Answers all that was kept, of every agent: the same list as long as nothing has changed. */
export function openSeenPrices(store: Store): () => Promise<readonly SeenPrice[]> {
  let known: { seen: readonly SeenPrice[]; stamp: unknown; at: number } | undefined;
  return async () => {
    const at = performance.now();
    const stamp = (await rowOf(store, table, changed.partition, changed.id))?.['stamp'];
    if (known === undefined || known.stamp !== stamp || at - known.at > readEveryMs) {
      const seen = await readPrices(store);
      const same = known !== undefined && JSON.stringify(known.seen) === JSON.stringify(seen);
      known = { seen: same && known !== undefined ? known.seen : seen, stamp, at };
    }
    return known.seen;
  };
}

async function readPrices(store: Store): Promise<SeenPrice[]> {
  const seen: SeenPrice[] = [];
  for await (const { id: agent } of store.rows('Agents', 'agents'))
    for await (const row of store.rows(table, agent, { before: latestPrefix })) {
      const prices = pricesIn(textIn(row));
      const host = String(row['host']);
      const at = row['At'];
      const seenAt = typeof at === 'string' ? Date.parse(at) : Number(row.id.slice(0, timeDigits));
      seen.push(...prices.map((price) => ({ ...price, agent, host, seenAt })));
    }
  return seen;
}

function textIn(row: Row): string {
  let text = '';
  for (let nth = 0; nth < mostTexts; nth++) text += String(row[`prices${nth}`] ?? '');
  return text;
}

function pricesIn(text: string): ModelPrice[] {
  // Written by `keepPrices` alone, of what its caller has checked.
  return modelPricesSchema.parse(JSON.parse(text));
}
