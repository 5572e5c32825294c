import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { openUsageThread } from '../../src/commands/usagethread.ts';
import { type Config, loadConfig } from '../../src/config.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Usage } from '../../src/usage.ts';
import { type Spent, spend } from './spending.ts';

let config: Config;

beforeEach(async () => {
  const home = await mkdtemp(path.join(tmpdir(), 'nexus-thread-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  config = await loadConfig({ env: { HOME: home } });
});

function open(): Usage {
  const usage = openUsageThread(config);
  onTestFinished(() => usage.close());
  return usage;
}

async function spent(session: string, calls: Spent[]): Promise<void> {
  const store = await openLocalStore(path.join(config.dataDir, 'store'));
  await spend(store, 'main', session, calls);
  await store.close();
}

test('a thread answers as the index does, with its errors', async () => {
  await spent('a', [{ tokens: 7, cost: 1 }]);
  const usage = open();
  expect(await usage.catchUp()).toMatchObject({ complete: true });
  expect(await usage.query({ by: ['agent'] })).toMatchObject({
    rows: [{ agent: 'main', cost: 1, total: 7 }],
  });
  expect((await usage.query({}, ['other'])).totals.calls).toBe(0);
  expect((await usage.query({ agent: 'main' }, ['other'])).totals.calls).toBe(0);
  expect((await usage.query({ agent: 'main,other' }, ['main'])).totals.calls).toBe(1);
  expect((await usage.sessions({})).found).toBe(1);
  expect((await usage.standing(['other'])).coverage.transcripts).toBe(0);
  expect(await usage.costOf('main.0abcdefgh0000aaaaaaaa')).toBeUndefined();
  await expect(usage.query({ tz: 'Mars/X' })).rejects.toMatchObject({
    name: 'NexusError',
    code: 'invalid',
    hint: expect.stringContaining('Europe/Berlin'),
  });
});

test('a thread takes prices as they are, also before it has begun', async () => {
  await spent('a', [{ tokens: 1_000_000, model: 'secret' }]);
  const usage = open();
  const costs = async (input: number) => {
    await usage.setPrices([{ model: 'secret', input, output: 0, cacheRead: 0, cacheWrite: 0 }]);
    return (await usage.query({})).totals.cost;
  };
  await usage.setPrices([{ model: 'other', input: 1, output: 0, cacheRead: 0, cacheWrite: 0 }]);
  await usage.catchUp();
  expect((await usage.query({})).totals.cost).toBe(null);
  expect(await costs(3)).toBe(3);
  expect(await costs(4)).toBe(4);
});

test('who asks for a catching up while one is under way gets the end of that', async () => {
  await spent('a', [{ cost: 1 }]);
  const usage = open();
  const first = usage.catchUp();
  expect(usage.catchUp()).toBe(first);
  await first;
  expect(usage.catchUp()).not.toBe(first);
});

test('an index that cannot be opened fails those who ask, and is tried again by the next', async () => {
  await spent('a', [{ cost: 1 }]);
  const usage = open();
  await mkdir(config.dataDir, { recursive: true });
  await writeFile(path.join(config.dataDir, 'usage'), 'in the way');
  await expect(usage.catchUp()).rejects.toBeInstanceOf(Error);
  await expect(usage.query({})).rejects.toBeInstanceOf(Error);
  await rm(path.join(config.dataDir, 'usage'));
  await usage.catchUp();
  expect((await usage.query({})).totals.cost).toBe(1);
});

test('prices that change while the index cannot be opened are those that count when it can', async () => {
  await spent('a', [{ tokens: 1_000_000, model: 'secret' }]);
  const usage = open();
  const prices = [{ model: 'secret', input: 3, output: 0, cacheRead: 0, cacheWrite: 0 }];
  await mkdir(config.dataDir, { recursive: true });
  await writeFile(path.join(config.dataDir, 'usage'), 'in the way');
  await expect(usage.catchUp()).rejects.toBeInstanceOf(Error);
  await expect(usage.setPrices(prices)).rejects.toBeInstanceOf(Error);
  await rm(path.join(config.dataDir, 'usage'));
  await usage.setPrices(prices);
  await usage.catchUp();
  expect((await usage.query({})).totals.cost).toBe(3);
});

test('closing ends a long reading, and who waits for it is told', async () => {
  const calls = Array.from({ length: 500 }, (_, nth) => ({ tokens: nth + 1, cost: 1 }));
  for (let n = 0; n < 30; n++) await spent(`s${n}`, calls);
  const usage = open();
  const reading = usage.catchUp();
  await usage.standing();
  await usage.close();
  expect((await reading).complete).toBe(false);
  await expect(usage.query({})).rejects.toMatchObject({ code: 'unavailable' });
});
