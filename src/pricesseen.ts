import { createHash, randomUUID } from 'node:crypto';
import { checkAgentId } from './agents.ts';
import { NexusError } from './errors.ts';
import { type ModelPrice, modelPricesSchema, type SeenPrice } from './prices.ts';
import { namedAgents } from './storecontents.ts';
import { keyOf, maxTextUnits, removeFound, type Row, rowOf, type Store } from './stores/store.ts';

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
  let isRotted = false;
  const last = (await rowOf(store, table, partition, latest.id, () => (isRotted = true)))?.['digest'];
  if (last === digest || (last === undefined && !isRotted && prices.length === 0)) return;
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
  const rows = store.rows(table, agent, { before: latestPrefix }, (id) => ids.push(id));
  for await (const { id } of rows) ids.push(id);
  if (ids.length > mostRows) await removeFound(store, table, agent, ids.slice(0, ids.length - mostRows));
}

/** All prices that were kept, of every agent. */
export interface SeenPrices {
  prices: readonly SeenPrice[];
  /** The agent of each row that is left out: it is not what was stored, or of a release that this one cannot read. */
  lost: readonly string[];
}

/** Answers the same object as long as nothing has changed. */
export function openSeenPrices(store: Store): () => Promise<SeenPrices> {
  let known: { seen: SeenPrices; digest: string; stamp: unknown; at: number } | undefined;
  return async () => {
    const at = performance.now();
    const row = await rowOf(store, table, changed.partition, changed.id, () => undefined);
    const stamp = row?.['stamp'];
    if (known === undefined || known.stamp !== stamp || at - known.at > readEveryMs) {
      const { digest, ...seen } = await readPrices(store);
      known = { seen: known?.digest === digest ? known.seen : seen, digest, stamp, at };
    }
    return known.seen;
  };
}

async function readPrices(store: Store): Promise<SeenPrices & { digest: string }> {
  const found: SeenPrice[] = [];
  const lost: string[] = [];
  const hash = createHash('sha256');
  for (const agent of await namedAgents(store)) {
    const leave = (id: string): void => {
      lost.push(agent);
      hash.update(JSON.stringify(['lost', agent, id]));
    };
    for await (const row of store.rows(table, agent, { before: latestPrefix }, leave)) {
      const text = textIn(row);
      const prices = pricesIn(text);
      if (prices === undefined) {
        leave(row.id);
        continue;
      }
      const host = String(row['host']);
      const at = row['At'];
      const seenAt = typeof at === 'string' ? Date.parse(at) : Number(row.id.slice(0, timeDigits));
      found.push(...prices.map((price) => ({ ...price, agent, host, seenAt })));
      hash.update(JSON.stringify([agent, host, seenAt, text]));
    }
  }
  return { prices: found, lost, digest: hash.digest('hex') };
}

function textIn(row: Row): string {
  let text = '';
  for (let nth = 0; nth < mostTexts; nth++) text += String(row[`prices${nth}`] ?? '');
  return text;
}

/** `undefined` for what another version wrote and this one cannot read. */
function pricesIn(text: string): ModelPrice[] | undefined {
  try {
    return modelPricesSchema.safeParse(JSON.parse(text)).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
