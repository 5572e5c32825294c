import * as z from 'zod';

const perMillion = z
  .number({ error: 'must be dollars for a million tokens' })
  .min(0, { error: 'must not be negative' })
  .max(1_000_000, { error: 'must be dollars for a million tokens, at most 1000000' });

/** What a million tokens of a model cost, in dollars. */
const priceSchema = z.strictObject({
  model: z
    .string({ error: 'must be text' })
    .min(1, { error: 'must not be empty' })
    .describe('The model, as transcripts name it.'),
  provider: z
    .string({ error: 'must be text' })
    .min(1, { error: 'must not be empty' })
    .optional()
    .describe('Only for this provider.'),
  from: z.iso
    .date({ error: 'must be a date like "2026-11-23"' })
    .optional()
    .describe('The first day, UTC. Of several prices the one that began last counts.'),
  input: perMillion,
  output: perMillion,
  cacheRead: perMillion.default(0),
  cacheWrite: perMillion.default(0),
});

export type Price = z.output<typeof priceSchema>;

export const pricesSchema = z
  .array(priceSchema, { error: 'must be a list of prices' })
  .default([])
  .describe(
    'What models cost, in dollars for a million tokens: `model`, `provider`, `from`, `input`, `output`, `cacheRead`, `cacheWrite`. For calls of which OpenClaw records no cost, and whose model openclaw.json does not price.',
  );

/** What a host's openclaw.json says that a model of a provider costs, in dollars for a million tokens. */
export const modelPriceSchema = z.strictObject({
  provider: z.string().min(1).max(200),
  model: z.string().min(1).max(300),
  input: perMillion,
  output: perMillion,
  cacheRead: perMillion,
  cacheWrite: perMillion,
});

export const modelPricesSchema = z.array(modelPriceSchema).max(2000);

export type ModelPrice = z.output<typeof modelPriceSchema>;

/** One of them, whose it was, and from when on it holds. */
export interface SeenPrice extends ModelPrice {
  agent: string;
  host: string;
  /** ms since 1970. */
  seenAt: number;
}

/** Where prices come from when a query is answered. */
export interface PriceTable {
  /** Nexus's own setting. */
  own: readonly Price[];
  /** Those of openclaw.json. */
  seen: readonly SeenPrice[];
}

/** Dollars for a million tokens. */
export type Rates = Pick<Price, 'input' | 'output' | 'cacheRead' | 'cacheWrite'>;

/** A price and from when on it holds, ms since 1970; `-Infinity`: always. */
export interface Period {
  from: number;
  rates: Rates | undefined;
}

/**
 * The price of one model of one agent over time, in ascending order, the first from ever. openclaw.json's counts, its
 * first also for the time before it was seen, else Nexus's own setting: one for this provider before one for any, and
 * of them the one that began last. A price in openclaw.json that is zero throughout, as it is for whoever has not set
 * one, counts only where Nexus's own setting has none.
 */
export function periodsOf(table: PriceTable, agent: string, provider: string, model: string): Period[] {
  const seen = table.seen
    .filter((price) => price.agent === agent && price.provider === provider && price.model === model)
    .sort((one, other) => one.seenAt - other.seenAt);
  const own = table.own.filter(
    (price) => price.model === model && (price.provider === undefined || price.provider === provider),
  );
  const begins = own.map(({ from }) => beginOf(from));
  const times = [Number.NEGATIVE_INFINITY, ...seen.slice(1).map(({ seenAt }) => seenAt), ...begins];
  const periods: Period[] = [];
  for (const from of [...new Set(times)].sort((one, other) => one - other)) {
    const known = seen.findLast((price, nth) => nth === 0 || price.seenAt <= from);
    const set = own
      .filter((price) => beginOf(price.from) <= from)
      .reduce<Price | undefined>(
        (best, price) => (best === undefined || over(price, best) ? price : best),
        undefined,
      );
    const rates = known !== undefined && !(isFree(known) && set !== undefined) ? known : set;
    if (periods.length === 0 || !isSame(periods.at(-1)?.rates, rates)) periods.push({ from, rates });
  }
  return periods;
}

function isSame(one: Rates | undefined, other: Rates | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return (
    one.input === other.input &&
    one.output === other.output &&
    one.cacheRead === other.cacheRead &&
    one.cacheWrite === other.cacheWrite
  );
}

export function isFree({ input, output, cacheRead, cacheWrite }: Rates): boolean {
  return input === 0 && output === 0 && cacheRead === 0 && cacheWrite === 0;
}

function beginOf(from: string | undefined): number {
  return from === undefined ? Number.NEGATIVE_INFINITY : Date.parse(`${from}T00:00:00Z`);
}

function over(price: Price, best: Price): boolean {
  if ((price.provider === undefined) !== (best.provider === undefined)) return price.provider !== undefined;
  return beginOf(price.from) >= beginOf(best.from);
}
