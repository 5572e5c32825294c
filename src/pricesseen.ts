import { checkAgentId } from './agents.ts';
import { NexusError } from './errors.ts';
import { type ModelPrice, modelPricesSchema, type SeenPrice } from './prices.ts';
import { keyOf, maxTextUnits, type Row, type Store } from './stores/store.ts';

const table = 'Prices';
const timeDigits = 13;
/** Of one list: what a row can hold. */
const mostTexts = 25;

/**
 * Keeps what openclaw.json of an agent's host says that models cost, with the time when it was seen: a row for each
 * change, so that calls of one day are priced as of that day.
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
  let last: string | undefined;
  for await (const row of store.rows(table, checkAgentId(agent)))
    if (row['host'] === host) last = textIn(row);
  if (last === text || (last === undefined && prices.length === 0)) return;
  const texts: Record<string, string> = {};
  for (let nth = 0; nth * maxTextUnits < text.length; nth++)
    texts[`prices${nth}`] = text.slice(nth * maxTextUnits, (nth + 1) * maxTextUnits);
  if (Object.keys(texts).length > mostTexts)
    throw new NexusError('too_large', `${prices.length} prices are more than can be kept.`);
  const time = String(now.getTime()).padStart(timeDigits, '0');
  await store.put(table, { partition: agent, id: `${time}-${keyOf(host)}`, host, ...texts });
}

/** All that was kept, of every agent. */
export async function seenPrices(store: Store): Promise<SeenPrice[]> {
  const seen: SeenPrice[] = [];
  for await (const { id: agent } of store.rows('Agents', 'agents'))
    for await (const row of store.rows(table, agent)) {
      const prices = pricesIn(textIn(row));
      const host = String(row['host']);
      const seenAt = Number(row.id.slice(0, timeDigits));
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
