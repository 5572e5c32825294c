import type { DatabaseSync } from 'node:sqlite';
import { isFree, type Period, periodsOf, type PriceTable, type Rates } from './prices.ts';
import { costKinds, quarterMs } from './usagecount.ts';

/**
 * Finds the price `p` of each row of `rollup r` of `sessions s` whose cost is not recorded. A host whose openclaw.json
 * has prices goes by those; every other one by what was seen last of its agent, which is under the host ''.
 */
export const priceJoin = `LEFT JOIN temp.priced_host h ON h.agent = s.agent AND h.host = s.host
  LEFT JOIN temp.price p ON r.kind <> ${costKinds.recorded} AND p.agent = s.agent AND p.host = coalesce(h.host, '')
    AND p.model = r.model AND p.begins <= r.quarter AND p.ends > r.quarter`;

const tables = `
  CREATE TEMP TABLE IF NOT EXISTS price_facts (said TEXT NOT NULL);
  CREATE TEMP TABLE IF NOT EXISTS priced_host (
    agent INTEGER NOT NULL, host TEXT NOT NULL, PRIMARY KEY (agent, host)) WITHOUT ROWID;
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
 * Lays the prices of every agent and model beside the index, for the connection alone. What they were laid for is noted
 * there too: a transaction that is undone takes both back.
 */
export function preparePrices(db: DatabaseSync, prices: PriceTable): void {
  const agents = db.prepare('SELECT id, name FROM agents').all();
  const models = db.prepare('SELECT id, provider, model FROM models').all();
  const said = JSON.stringify([numberOf(prices), agents, models]);
  db.exec(tables);
  if (db.prepare('SELECT said FROM temp.price_facts').get()?.['said'] === said) return;
  db.exec('DELETE FROM temp.price_facts; DELETE FROM temp.priced_host; DELETE FROM temp.price');
  const insert = db.prepare('INSERT INTO temp.price VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const insertHost = db.prepare('INSERT INTO temp.priced_host VALUES (?, ?)');
  for (const agent of agents) {
    const name = String(agent['name']);
    const seen = prices.seen.filter((price) => price.agent === name);
    const hosts = new Set(seen.map(({ host }) => host).filter((host) => host !== ''));
    for (const host of hosts) insertHost.run(Number(agent['id']), host);
    for (const model of models) {
      const provider = nameOf(model['provider']);
      const called = nameOf(model['model']);
      const ofModel = seen.filter((price) => price.provider === provider && price.model === called);
      for (const host of ['', ...hosts]) {
        const own = host === '' ? [] : ofModel.filter((price) => price.host === host);
        const table = { own: prices.own, seen: own.length === 0 ? ofModel : own };
        for (const { begins, ends, rates } of quartersOf(periodsOf(table, name, provider, called)))
          insert.run(
            Number(agent['id']),
            host,
            Number(model['id']),
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
  }
  db.prepare('INSERT INTO temp.price_facts VALUES (?)').run(said);
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
