import path from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Period, periodsOf, type Price, pricesSchema } from '../../src/prices.ts';
import { keepPrices, openSeenPrices } from '../../src/pricesseen.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { quarterMs } from '../../src/usagecount.ts';
import { openIndexFile } from '../../src/usagefile.ts';
import { preparePrices, priceJoin, quartersOf } from '../../src/usageprices.ts';
import { temporary } from './history.ts';

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

test('the same price twice is one period', () => {
  const table = { own: [], seen: [seen(3, 1000), seen(3, 2000), seen(4, 3000), seen(3, 4000)] };
  expect(inputs(periodsOf(table, 'a', 'p', 'm'))).toEqual([
    [always, 3],
    [3000, 4],
    [4000, 3],
  ]);
});

test('whenever prices change, each quarter of an hour has the one price that held when it began', () => {
  const time = fc.integer({ min: -3 * quarterMs, max: 6 * quarterMs });
  const changes = fc.array(fc.record({ at: time, input: fc.integer({ min: 0, max: 2 }) }), { maxLength: 8 });
  fc.assert(
    fc.property(changes, fc.boolean(), (given, isOwn) => {
      const table = {
        own: isOwn ? price({ input: 7 }) : [],
        seen: given.map(({ at: seenAt, input }) => seen(input, seenAt)),
      };
      const periods = periodsOf(table, 'a', 'p', 'm');
      const quarters = quartersOf(periods);
      expect(new Set(quarters.map(({ begins }) => begins)).size).toBe(quarters.length);
      for (let quarter = -5; quarter < 9; quarter++) {
        const holding = periods.findLast(({ from }) => from <= quarter * quarterMs)?.rates;
        const found = quarters.filter(({ begins, ends }) => begins <= quarter && quarter < ends);
        expect(found.map(({ rates }) => rates.input)).toEqual(holding === undefined ? [] : [holding.input]);
      }
    }),
  );
});

test('prices that a transaction laid out and that was undone are laid out again', async () => {
  const index = await openIndexFile(path.join(await temporary(), 'i', 'index.sqlite'), 'store');
  const table = { own: price({}), seen: [] };
  index.db.exec("INSERT INTO agents VALUES (1, 'a'); INSERT INTO models VALUES (1, 'p', 'm')");
  const undone = index.snapshot(() => {
    preparePrices(index.db, table);
    throw new Error('undone');
  });
  await expect(undone).rejects.toThrow('undone');
  await index.snapshot(() => preparePrices(index.db, table));
  expect(index.db.prepare('SELECT count(*) AS n FROM temp.price').get()).toEqual({ n: 1 });
  index.close();
});

test('every call has the price of its host, else of its agent, else Nexus’s own', async () => {
  const index = await openIndexFile(path.join(await temporary(), 'i', 'index.sqlite'), 'store');
  const agents = ['a', 'b', 'c'];
  const models = ['m', 'n', 'o', ''];
  for (const [nth, name] of agents.entries())
    index.db.prepare('INSERT INTO agents VALUES (?, ?)').run(nth + 1, name);
  for (const [nth, name] of models.entries())
    index.db.prepare("INSERT INTO models VALUES (?, 'p', ?)").run(nth + 1, name);
  const one = fc.record({
    agent: fc.constantFrom(...agents),
    host: fc.constantFrom('', 'h', 'i'),
    model: fc.constantFrom('m', 'n', 'unknown', 'never called'),
    input: fc.integer({ min: 1, max: 9 }),
    seenAt: fc.integer({ min: 0, max: 4 }).map((quarter) => quarter * quarterMs),
  });
  const own = [...price({ model: 'm', input: 100 }), ...price({ model: 'unknown', input: 200 })];
  const sql = `SELECT p.input FROM (SELECT ? AS agent, ? AS host) s, (SELECT ? AS model, ? AS quarter, 2 AS kind) r ${priceJoin}`;
  await fc.assert(
    fc.asyncProperty(fc.array(one, { maxLength: 12 }), async (said) => {
      const table = { own, seen: said.map(({ input, seenAt, ...fields }) => seen(input, seenAt, fields)) };
      await index.snapshot(() => {
        preparePrices(index.db, table);
        const find = index.db.prepare(sql);
        for (const [a, agent] of agents.entries())
          for (const [m, model] of models.entries())
            for (const host of ['', 'h', 'i', 'new'])
              for (const quarter of [-1, 0, 2, 5]) {
                const called = model === '' ? 'unknown' : model;
                const known = table.seen.filter((it) => it.agent === agent && it.model === called);
                const its = known.filter((it) => host !== '' && it.host === host);
                const periods = periodsOf({ own, seen: its.length > 0 ? its : known }, agent, 'p', called);
                const expected = quartersOf(periods).find(
                  ({ begins, ends }) => begins <= quarter && quarter < ends,
                );
                const found = find.get(a + 1, host, m + 1, quarter);
                expect(found?.['input'] ?? undefined).toBe(expected?.rates.input);
              }
      });
    }),
    { numRuns: 60 },
  );
  index.close();
});

test('prices are laid of what an agent’s hosts price, and Nexus’s own once for all agents', async () => {
  const index = await openIndexFile(path.join(await temporary(), 'i', 'index.sqlite'), 'store');
  const [agents, models] = [500, 100];
  await index.snapshot(() => {
    for (let n = 1; n <= agents; n++) index.db.prepare('INSERT INTO agents VALUES (?, ?)').run(n, `a${n}`);
    for (let n = 1; n <= models; n++)
      index.db.prepare("INSERT INTO models VALUES (?, 'p', ?)").run(n, `m${n}`);
    const own = Array.from({ length: models }, (_, n) => price({ model: `m${n + 1}` })).flat();
    const kept = Array.from({ length: agents }, (_, n) => seen(1, 0, { agent: `a${n + 1}`, model: 'm1' }));
    preparePrices(index.db, { own, seen: kept });
  });
  expect(index.db.prepare('SELECT count(*) AS n FROM temp.price').get()).toEqual({ n: models + agents });
  index.close();
});

const listed = (input: number) => [
  { provider: 'p', model: 'm', input, output: 0, cacheRead: 0, cacheWrite: 0 },
];

test('of the prices of one day the last are kept, and an unchanged list is neither written nor read again', async () => {
  const local = await openLocalStore(path.join(await temporary(), 'store'));
  let writes = 0;
  let reads = 0;
  const store: typeof local = {
    ...local,
    put(...given) {
      writes++;
      return local.put(...given);
    },
    rows(table, partition, ...range) {
      if (table === 'Prices' && partition === 'main' && range[0]?.from === undefined) reads++;
      return local.rows(table, partition, ...range);
    },
  };
  await local.put('Agents', { partition: 'agents', id: 'main' });
  const seenPrices = openSeenPrices(store);
  for (const [time, input] of [
    ['2026-11-20T10:00:00Z', 1],
    ['2026-11-21T10:00:00Z', 2],
    ['2026-11-21T10:01:00Z', 3],
    ['2026-11-21T10:02:00Z', 4],
  ] as const)
    await keepPrices(store, 'main', 'box', listed(input), new Date(time));
  const kept = await seenPrices();
  expect(kept.prices.map(({ input, seenAt }) => [input, new Date(seenAt).toISOString()])).toEqual([
    [1, '2026-11-20T10:00:00.000Z'],
    [4, '2026-11-21T10:02:00.000Z'],
  ]);
  [writes, reads] = [0, 0];
  await keepPrices(store, 'main', 'box', listed(4), new Date('2026-11-25T10:00:00Z'));
  expect(await seenPrices()).toBe(kept);
  expect([writes, reads]).toEqual([0, 0]);
  await local.close();
});
