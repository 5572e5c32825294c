import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Alerts, openAlerts } from '../../src/alerts.ts';
import { nameOf, periodAt, watchSpending } from '../../src/budgets.ts';
import { type Budget, budgetsSchema } from '../../src/budgetsettings.ts';
import type { Price } from '../../src/prices.ts';
import { createOutput } from '../../src/output.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { keepSpending, watch } from '../../src/commands/spending.ts';
import { troubleOf } from '../../src/commands/usagetrouble.ts';
import { NexusError } from '../../src/errors.ts';
import { configSchema } from '../../src/config.ts';
import { type Spent, spend } from './spending.ts';

const channel = 'command-00000000';
const day: Budget = { agent: 'main', per: 'day', dollars: 10 };

let directory: string;
let store: Store;
let usage: Usage;
let alerts: Alerts;
let sessions = 0;
let at = '2026-11-10T12:00:00Z';
const opened: Usage[] = [];

beforeEach(async () => {
  at = '2026-11-10T12:00:00Z';
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-budgets-'));
  store = await openLocalStore(path.join(directory, 'store'));
  usage = await openIndex('one');
  alerts = openAlerts(store, { now: () => Date.parse(at) });
});

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
  await store.close();
  await rm(directory, { recursive: true, force: true });
});

async function openIndex(name: string, prices: Price[] = []): Promise<Usage> {
  const file = path.join(directory, name, 'index.sqlite');
  const one = await openUsage({ store, file, prices, now: () => new Date(at), timeZone: 'UTC' });
  opened.push(one);
  return one;
}

async function costs(dollars: number, more: { agent?: string; model?: string; trigger?: string } = {}) {
  const { agent = 'main', model = 'opus', trigger } = more;
  const about = trigger === undefined ? {} : { trigger };
  await calls(`s${sessions++}`, { at, model, cost: dollars }, about, agent);
}

/** Stored at the time of the test: the feed of changes is by time. */
async function calls(session: string, spent: Spent, about = {}, agent = 'main') {
  await spend(store, agent, session, [spent], about, () => new Date(at));
}

function around(budgets: Budget[]) {
  return { budgets, channels: [channel], host: 'box', now: new Date(at), timeZone: 'UTC' };
}

/** One look by one process; resolves with the subjects it raised. */
async function look(budgets: Budget[] = [day], by = { usage, alerts }): Promise<string[]> {
  await by.usage.catchUp();
  const raised = await watchSpending({
    ...by,
    ...around(budgets),
  });
  return raised.map(({ subject }) => subject);
}

const steps = (subjects: string[]) => subjects.map((subject) => subject.split('/').at(-1));

describe('the steps of a budget', () => {
  test('are told once each, as it is spent, however often one looks', async () => {
    const told: string[][] = [];
    for (const dollars of [4.99, 0.01, 2.99, 0.01, 1.99, 0.01, 5]) {
      await costs(dollars);
      told.push(await look(), await look());
    }
    expect(told.map(steps).map(String)).toEqual(
      ['', '', '50', '', '', '', '80', '', '', '', '100', '', '', ''].map((step, nth) =>
        // At noon half of the day's budget at this pace is all of it.
        nth === 4 ? 'pace' : step,
      ),
    );
  });

  test('that are passed at once are told as the highest', async () => {
    await costs(25);
    expect(await look()).toEqual([expect.stringMatching(/^budget\/[0-9a-f]{16}\/2026-11-10\/100$/)]);
    expect(await look()).toEqual([]);
  });

  test('begin again with the next period, and those of the last are forgotten once they were sent', async () => {
    await costs(10);
    await look();
    await alerts.send([{ name: channel, send: () => Promise.resolve('') }], new AbortController().signal);
    at = '2026-11-13T00:30:00Z';
    expect(await look()).toEqual([]);
    expect(await alerts.list()).toHaveLength(1);
    at = '2026-11-13T01:30:00Z';
    expect(await look()).toEqual([]);
    expect(await alerts.list()).toEqual([]);
    await costs(10);
    expect((await look()).map((subject) => subject.split('/').slice(2).join('/'))).toEqual([
      '2026-11-13/100',
    ]);
  });

  test('are told of a period that is over, where what was spent in it arrives late', async () => {
    await costs(6);
    expect(steps(await look())).toContain('50');
    at = '2026-11-11T00:20:00Z';
    await calls('late', { at: '2026-11-10T23:50:00Z', cost: 4 });
    expect((await look()).map((subject) => subject.split('/').slice(2))).toEqual([['2026-11-10', '100']]);
    expect(await look()).toEqual([]);
    at = '2026-11-12T11:30:00Z';
    await calls('later', { at: '2026-11-11T23:50:00Z', cost: 9 });
    await calls('latest', { at: '2026-11-09T23:50:00Z', cost: 9 });
    expect((await look()).map((subject) => subject.split('/').slice(2))).toEqual([['2026-11-11', '80']]);
  });

  test('are those of each budget, however alike two of them are', async () => {
    await costs(10);
    const budgets: Budget[] = [
      { agent: 'main', per: 'day', dollars: 10 },
      { name: 'main', per: 'day', dollars: 10 },
      { agent: 'main', per: 'day', dollars: 10, tz: 'Asia/Tokyo' },
      { agent: 'main', per: 'day', dollars: 9.999 },
    ];
    const raised = await look(budgets);
    expect(new Set(raised).size).toBe(4);
    expect(steps(raised)).toEqual(['100', '100', '100', '100']);
  });

  test('are not forgotten as long as a channel may still take them', async () => {
    await costs(10);
    await look();
    at = '2026-11-12T12:00:00Z';
    await look();
    expect(await alerts.list()).toHaveLength(1);
    at = '2026-11-14T12:00:00Z';
    await look();
    expect(await alerts.list()).toEqual([]);
  });

  test('are those of its agent, model and trigger alone', async () => {
    await costs(100, { agent: 'other', model: 'opus', trigger: 'cron' });
    await costs(100, { model: 'haiku', trigger: 'cron' });
    await costs(100, { trigger: 'channel' });
    const budget: Budget = { agent: 'main', model: 'opus', trigger: 'cron', per: 'day', dollars: 10 };
    expect(await look([budget])).toEqual([]);
    await costs(5, { trigger: 'cron' });
    expect(steps(await look([budget]))).toEqual(['50']);
  });

  test('are counted in tokens where the budget is', async () => {
    const budget: Budget = { per: 'week', tokens: 1000 };
    await calls('tokens', { at, tokens: 799, cost: 0 });
    expect(steps(await look([budget]))).toContain('50');
    await calls('tokens', { at, tokens: 1, cost: 0 });
    expect(steps(await look([budget]))).toEqual(['80']);
  });

  test('are told anew when the budget is another', async () => {
    await costs(10);
    expect(steps(await look())).toEqual(['100']);
    expect(steps(await look([{ ...day, dollars: 20 }]))).toEqual(['50']);
  });

  test('are told once by two replicas that look at the same time, each with an index of its own', async () => {
    await costs(8.5);
    const other = { usage: await openIndex('two'), alerts: openAlerts(store, { now: () => Date.parse(at) }) };
    const [one, two] = await Promise.all([look(), look([day], other)]);
    expect(steps([...one, ...two].sort())).toEqual(['80', 'pace']);
  });

  test('that one replica told are no news from one whose index is behind', async () => {
    await costs(6);
    const behind = { usage: await openIndex('two'), alerts };
    await behind.usage.catchUp();
    await costs(3);
    expect(steps(await look())).toContain('80');
    const raised = await watchSpending({
      ...behind,
      ...around([day]),
    });
    expect(raised).toEqual([]);
  });

  test('say what is in no sum', async () => {
    await costs(6);
    await calls('unpriced', { at, model: 'secret' });
    await usage.catchUp();
    const [first] = await watchSpending({
      usage,
      alerts,
      ...around([day]),
    });
    expect(first?.title).toBe(
      'main, $10.00 a day: 50 % is spent in 2026-11-10, $6.00 of $10.00. Not counted: 1 call without a price.',
    );
  });
});

describe('the pace of a budget', () => {
  const month: Budget = { per: 'month', dollars: 100 };
  const pace = async () => steps(await look([month])).filter((step) => step === 'pace');

  test('is told once a period, when both the whole of it and its last part would pass the budget', async () => {
    at = '2026-11-10T00:00:00Z';
    await costs(20);
    at = '2026-11-11T00:00:00Z';
    // 20 of 10 days would be 60.
    expect(await pace()).toEqual([]);
    await costs(20);
    at = '2026-11-11T01:00:00Z';
    expect(await pace()).toEqual(['pace']);
    await costs(1);
    expect(await pace()).toEqual([]);
  });

  test('is not told of what was spent before and is over', async () => {
    at = '2026-11-02T00:00:00Z';
    await costs(45);
    at = '2026-11-11T00:00:00Z';
    expect(await pace()).toEqual([]);
  });

  test('is not told in the first eighth of the period', async () => {
    at = '2026-11-01T06:00:00Z';
    await costs(45);
    at = '2026-11-04T17:00:00Z';
    expect(await pace()).toEqual([]);
    at = '2026-11-04T19:00:00Z';
    expect(await pace()).toEqual(['pace']);
  });

  test('is no news when all is spent', async () => {
    at = '2026-11-20T00:00:00Z';
    await costs(100);
    expect(steps(await look([month]))).toEqual(['100']);
  });
});

describe('a model without a price', () => {
  const prices: Price[] = [{ model: 'secret', input: 1, output: 1, cacheRead: 0, cacheWrite: 0 }];

  test('is told once, and again after it had one', async () => {
    await calls('a', { at, model: 'secret' });
    expect(await look([])).toEqual(['price/anthropic/secret']);
    expect(await look([])).toEqual([]);
    at = '2026-11-12T12:00:00Z';
    expect(await look([], { usage: await openIndex('priced', prices), alerts })).toEqual([]);
    expect(await alerts.list()).toEqual([]);
    expect(await look([])).toEqual(['price/anthropic/secret']);
  });

  test('is not told again and again by replicas with different prices', async () => {
    await calls('a', { at, model: 'secret' });
    const other = { usage: await openIndex('priced', prices), alerts };
    const told: string[] = [];
    for (let n = 0; n < 4; n++) told.push(...(await look([])), ...(await look([], other)));
    expect(told).toEqual(['price/anthropic/secret']);
  });

  test('is told without what its name could do to a terminal or a shell', async () => {
    await calls('a', { at, model: "\u001b[2J'; reboot; '" });
    await usage.catchUp();
    const [notice] = await watchSpending({ usage, alerts, ...around([]) });
    expect(notice?.title).toMatch(/^No price is known of \\u\{1b\}/);
    expect(notice?.next).not.toContain('nexus config');
    expect(notice?.next).not.toContain('\u001b');
  });

  test('is told together with others where there are many, once a day', async () => {
    const invent = async (count: number) => {
      for (let n = 0; n < count; n++) await calls('many', { at, model: `invented-${at.slice(0, 13)}-${n}` });
    };
    await invent(3);
    expect(await look([])).toHaveLength(3);
    await invent(8);
    await usage.catchUp();
    const [notice, ...others] = await watchSpending({ usage, alerts, ...around([]) });
    expect([notice?.subject, others]).toEqual(['prices/2026-11-10', []]);
    at = '2026-11-10T13:00:00Z';
    await invent(300);
    expect(await look([])).toEqual([]);
    at = '2026-11-11T14:00:00Z';
    const raised = await watchSpending({ usage, alerts, ...around([]) });
    expect(raised[0]?.title).toMatch(
      /^No price is known of 305 more models, (invented-[^ ]*, ){5}…: 305 calls of the last 30 days are in no cost/,
    );
    expect(raised).toHaveLength(1);
  });

  test('is none where its cost is recorded or was used long ago', async () => {
    await costs(1);
    await calls('a', { at: '2026-09-10T12:00:00Z', model: 'secret' });
    expect(await look([])).toEqual([]);
  });
});

test('a budget that cannot be watched keeps no other from being told, and is named', async () => {
  await costs(50);
  await usage.catchUp();
  const raised: string[] = [];
  const watching = watchSpending({
    usage,
    alerts,
    ...around([{ ...day, tz: '+05:20' }, { ...day, agent: ' ' }, day]),
    onRaised: ({ subject }) => raised.push(subject),
  });
  await expect(watching).rejects.toThrow(/^The budget "main, \$10.00 a day" .*off the quarters/);
  expect(steps(raised)).toEqual(['100']);
  expect(steps((await alerts.list()).map(({ subject }) => subject))).toEqual(['100']);
});

/** Nexus on a machine with a channel that keeps what it is given. */
function contextWith(budgets: Budget[]) {
  const notices = path.join(directory, 'notices');
  const config = configSchema.parse({
    dataDir: directory,
    host: 'box',
    budgets,
    alerts: { channels: [{ kind: 'command', command: ['/bin/sh', '-c', `cat >> "${notices}"`] }] },
  });
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const output = createOutput({ stdout, stderr, json: false, env: {} });
  const { signal } = new AbortController();
  const told = async () =>
    [...(await readFile(notices, 'utf8').catch(() => '')).matchAll(/"subject": ?"([^"]+)"/g)].map(
      ([, subject = '']) => subject,
    );
  return { config, env: process.env, now: () => new Date(at), output, signal, stderr, told };
}

test('what was raised is sent although what is spent cannot be read', async () => {
  const notice = { event: 'failed', host: 'box', subject: 'job/upload', title: 'It failed.', at } as const;
  await alerts.raise(notice, []);
  const failing = { query: () => Promise.reject(new Error('no query today')) };
  await expect(watch(contextWith([]), failing, store)).rejects.toThrow('no query today');
  expect((await alerts.list())[0]?.deliveries).toMatchObject([{ state: 'sent' }]);
});

describe('while what is stored cannot be read', () => {
  const refused = () => Promise.reject(new NexusError('unavailable', 'The disk gives nothing.'));

  test('budgets are watched by what was read before', async () => {
    await costs(50);
    await usage.catchUp();
    const context = contextWith([day]);
    const stop = new AbortController();
    const followed = () => Promise.resolve(context.config);
    const over = keepSpending(
      { ...context, readHiddenLine: () => Promise.resolve(''), version: '0', configPath: '' },
      { usage: { ...usage, catchUp: refused }, store, followed, signal: stop.signal },
    );
    await vi.waitFor(async () => expect(steps(await context.told())).toEqual(['100']), 10_000);
    stop.abort();
    await over;
    expect(String(context.stderr.read())).toContain('Usage cannot be followed: The disk gives nothing.');
  });

  test('that is told once, when it has lasted for an hour of whoever looked, and its end', async () => {
    const context = contextWith([]);
    const look = async (catchUp: () => Promise<unknown>) => {
      await watch(context, usage, store, await troubleOf(context, catchUp));
    };
    const told: string[][] = [];
    for (const [time, catchUp] of [
      ['10:00', refused],
      ['10:59', refused],
      ['11:00', refused],
      ['12:00', refused],
      ['12:01', usage.catchUp],
      ['12:02', usage.catchUp],
      ['13:30', refused],
    ] as const) {
      at = `2026-11-10T${time}:00Z`;
      await look(catchUp);
      told.push((await alerts.list()).map(({ recovered }) => (recovered === undefined ? 'lasts' : 'over')));
    }
    expect(told).toEqual([[], [], ['lasts'], ['lasts'], ['over'], ['over'], ['over']]);
    expect(await context.told()).toEqual(['usage/box', 'usage/box']);
  });

  test('and since when cannot be kept either, that is told at once', async () => {
    await writeFile(path.join(directory, 'host'), 'where a directory should be');
    const context = contextWith([]);
    await watch(context, usage, store, await troubleOf(context, refused));
    expect(await context.told()).toEqual(['usage/box']);
  });
});

describe('a period', () => {
  const hours = ({ from, to }: { from: number; to: number }) => (to - from) / 3_600_000;

  test('is a day of its time zone, of 23 or 25 hours when the clock changes', () => {
    expect(hours(periodAt('day', 'Europe/Berlin', Date.parse('2026-03-29T10:00Z')))).toBe(23);
    expect(hours(periodAt('day', 'Europe/Berlin', Date.parse('2026-10-25T10:00Z')))).toBe(25);
    expect(periodAt('day', 'Pacific/Auckland', Date.parse('2026-11-10T12:00Z')).label).toBe('2026-11-11');
  });

  test('is a week from Monday, also over a new year', () => {
    const week = periodAt('week', 'UTC', Date.parse('2027-01-02T10:00Z'));
    expect(week).toEqual({
      label: '2026-W53',
      from: Date.parse('2026-12-28T00:00Z'),
      to: Date.parse('2027-01-04T00:00Z'),
    });
    for (let dayOf = 4; dayOf < 11; dayOf++)
      expect(periodAt('week', 'UTC', Date.UTC(2027, 0, dayOf, 23, 59)).from).toBe(Date.UTC(2027, 0, 4));
  });

  test('is a month to its last day', () => {
    const december = periodAt('month', 'UTC', Date.parse('2026-12-31T23:59Z'));
    expect([december.label, december.to]).toEqual(['2026-12', Date.parse('2027-01-01T00:00Z')]);
  });
});

test('a budget has dollars or tokens, a period and a zone that there is, and is there once', () => {
  const refused = (budget: object) => budgetsSchema.safeParse([budget].flat()).success;
  expect(refused({ per: 'day', dollars: 1 })).toBe(true);
  expect(refused({ per: 'day' })).toBe(false);
  expect(refused({ per: 'day', dollars: 1, tokens: 1 })).toBe(false);
  expect(refused({ per: 'hour', dollars: 1 })).toBe(false);
  expect(refused({ per: 'day', dollars: 0 })).toBe(false);
  expect(refused({ per: 'day', dollars: 1, tz: 'Mars/X' })).toBe(false);
  expect(refused({ per: 'day', dollars: 1, tz: '+05:45' })).toBe(true);
  expect(refused({ per: 'day', dollars: 1, tz: '+05:20' })).toBe(false);
  expect(refused({ per: 'day', dollars: 1, agent: ' ' })).toBe(false);
  expect(refused([day, day])).toBe(false);
});

test('the name of a budget says what it is of', () => {
  expect(nameOf({ per: 'month', tokens: 5_000_000 })).toBe('all spending, 5,000,000 tokens a month');
  expect(nameOf({ name: 'bots', trigger: 'cron', per: 'week', dollars: 0.5 })).toBe(
    'bots cron, $0.50 a week',
  );
});
