import type { DatabaseSync } from 'node:sqlite';
import { isFree, type Period, periodsOf, type PriceTable, type Rates, type SeenPrice } from './prices.ts';
import { costKinds, quarterMs } from './usagecount.ts';

/** Agents of the index are counted from 1. */
const noAgent = 0;

/**
 * Finds the price `p` of each row of `rollup r` of `sessions s` whose cost is not recorded. A host whose openclaw.json
 * prices the model goes by that; every other one by what was seen last of its agent, which is under the host ''; a
 * model that no openclaw.json of the agent prices by Nexus's own setting, which is under no agent, laid once for all.
 */
export const priceJoin = `LEFT JOIN temp.priced a0 ON r.kind <> ${costKinds.recorded}
    AND a0.agent = s.agent AND a0.model = r.model AND a0.host = ''
  LEFT JOIN temp.priced h ON a0.agent IS NOT NULL AND h.agent = s.agent AND h.model = r.model AND h.host = s.host
  LEFT JOIN temp.price p ON r.kind <> ${costKinds.recorded} AND p.agent = coalesce(a0.agent, ${noAgent})
    AND p.host = coalesce(h.host, '') AND p.model = r.model AND p.begins <= r.quarter AND p.ends > r.quarter`;

const tables = `
  CREATE TEMP TABLE IF NOT EXISTS price_facts (said TEXT NOT NULL);
  CREATE TEMP TABLE IF NOT EXISTS priced (
    agent INTEGER NOT NULL, model INTEGER NOT NULL, host TEXT NOT NULL, PRIMARY KEY (agent, model, host)
  ) WITHOUT ROWID;
  CREATE TEMP TABLE IF NOT EXISTS price (
    agent INTEGER NOT NULL, host TEXT NOT NULL, model INTEGER NOT NULL, begins INTEGER NOT NULL,
    ends INTEGER NOT NULL, input REAL, output REAL, cache_read REAL, cache_write REAL, free INTEGER NOT NULL,
    PRIMARY KEY (agent, host, model, begins)) WITHOUT ROWID`;

/** Before and after anybody's calls, in quarters of an hour. */
const ever = 1e12;

const numbers = new WeakMap<PriceTable, number>();
let count = 0;

function numberOf(prices: PriceTable): number {
  let number = numbers.get(prices);
  if (number === undefined) numbers.set(prices, (number = ++count));
  return number;
}

/**
 * Lays the prices of the index's models beside it, for the connection alone: of each agent those that its openclaw.json
 * knows, and Nexus's own once. What they were laid for is noted there too: a transaction that is undone takes both
 * back.
 */
export function preparePrices(db: DatabaseSync, prices: PriceTable): void {
  const agents = db.prepare('SELECT id, name FROM agents').all();
  const models = db.prepare('SELECT id, provider, model FROM models').all();
  const said = JSON.stringify([numberOf(prices), agents, models]);
  db.exec(tables);
  if (db.prepare('SELECT said FROM temp.price_facts').get()?.['said'] === said) return;
  db.exec('DELETE FROM temp.price_facts; DELETE FROM temp.priced; DELETE FROM temp.price');
  const insert = db.prepare('INSERT INTO temp.price VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const insertPriced = db.prepare('INSERT INTO temp.priced VALUES (?, ?, ?)');
  const ownOf = Map.groupBy(prices.own, ({ model }) => model);
  const modelsOf = Map.groupBy(models, ({ provider, model }) => keyOf(nameOf(provider), nameOf(model)));

  function lay(agent: number, host: string, key: string, seen: readonly SeenPrice[]): void {
    for (const row of modelsOf.get(key) ?? []) {
      const [model, provider, called] = [Number(row['id']), nameOf(row['provider']), nameOf(row['model'])];
      const table = { own: ownOf.get(called) ?? [], seen };
      if (agent !== noAgent) insertPriced.run(agent, model, host);
      for (const { begins, ends, rates } of quartersOf(
        periodsOf(table, seen[0]?.agent ?? '', provider, called),
      ))
        insert.run(
          agent,
          host,
          model,
          begins,
          ends,
          rates.input,
          rates.output,
          rates.cacheRead,
          rates.cacheWrite,
          isFree(rates) ? 1 : 0,
        );
    }
  }

  for (const key of modelsOf.keys()) lay(noAgent, '', key, []);
  const seenOf = Map.groupBy(prices.seen, ({ agent }) => agent);
  for (const { id, name } of agents) {
    const byModel = Map.groupBy(seenOf.get(String(name)) ?? [], ({ provider, model }) =>
      keyOf(provider, model),
    );
    for (const [key, seen] of byModel) {
      lay(Number(id), '', key, seen);
      // Of one that is alone it is the same.
      for (const [host, own] of Map.groupBy(seen, (price) => price.host))
        if (host !== '' && own.length < seen.length) lay(Number(id), host, key, own);
    }
  }
  db.prepare('INSERT INTO temp.price_facts VALUES (?)').run(said);
}

function keyOf(provider: string, model: string): string {
  return JSON.stringify([provider, model]);
}

/** As answers call what has no name: so it can be given a price. */
function nameOf(value: unknown): string {
  return value === '' ? 'unknown' : String(value);
}

/**
 * Periods in quarters of an hour, by which sums are kept: each from the first quarter that begins within it, up to the
 * next. Of those that begin in the same one the last counts.
 */
export function quartersOf(periods: readonly Period[]): { begins: number; ends: number; rates: Rates }[] {
  const found = new Map<number, Rates | undefined>();
  for (const { from, rates } of periods)
    found.set(Math.max(-ever, Math.min(ever, Math.ceil(from / quarterMs))), rates);
  const all = [...found];
  return all.flatMap(([begins, rates], nth) =>
    rates === undefined ? [] : [{ begins, ends: all[nth + 1]?.[0] ?? ever, rates }],
  );
}
