import { expect, test } from 'vitest';
import { type Period, periodsOf, type Price, pricesSchema } from '../../src/prices.ts';

const price = (fields: object): Price[] =>
  pricesSchema.parse([{ model: 'm', input: 1, output: 2, ...fields }]);
const seen = (input: number, seenAt: number, fields: object = {}) => ({
  agent: 'a',
  host: 'h',
  provider: 'p',
  model: 'm',
  output: 0,
  cacheRead: 0,
  cacheWrite: 0,
  input,
  seenAt,
  ...fields,
});
const inputs = (periods: Period[]) => periods.map(({ from, rates }) => [from, rates?.input]);
const at = (date: string) => Date.parse(`${date}T00:00:00Z`);
const always = Number.NEGATIVE_INFINITY;

test('the price that began last counts, that of this provider before that of any', () => {
  const own = [
    ...price({ from: '2026-11-01', input: 3 }),
    ...price({ input: 1 }),
    ...price({ from: '2026-11-10', input: 4, provider: 'p' }),
    ...price({ from: '2026-11-20', input: 5 }),
  ];
  expect(inputs(periodsOf({ own, seen: [] }, 'a', 'p', 'm'))).toEqual([
    [always, 1],
    [at('2026-11-01'), 3],
    [at('2026-11-10'), 4],
  ]);
  expect(inputs(periodsOf({ own, seen: [] }, 'a', 'q', 'm'))).toEqual([
    [always, 1],
    [at('2026-11-01'), 3],
    [at('2026-11-20'), 5],
  ]);
});

test('before its first day a dated price is not known', () => {
  const own = price({ from: '2026-11-01' });
  expect(inputs(periodsOf({ own, seen: [] }, 'a', 'p', 'm'))).toEqual([
    [always, undefined],
    [at('2026-11-01'), 1],
  ]);
});

test('what openclaw.json says goes before it, the first also for the time before', () => {
  const table = { own: price({ input: 9 }), seen: [seen(3, 2000), seen(2, 1000)] };
  expect(inputs(periodsOf(table, 'a', 'p', 'm'))).toEqual([
    [always, 2],
    [2000, 3],
  ]);
  expect(inputs(periodsOf(table, 'b', 'p', 'm'))).toEqual([[always, 9]]);
});

test('a price of zero in openclaw.json gives way to Nexus’s own, and else is known to be zero', () => {
  const free = [seen(0, 1000)];
  expect(inputs(periodsOf({ own: price({ input: 9 }), seen: free }, 'a', 'p', 'm'))).toEqual([[always, 9]]);
  expect(inputs(periodsOf({ own: [], seen: free }, 'a', 'p', 'm'))).toEqual([[always, 0]]);
});
