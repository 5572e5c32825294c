import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Alerts, type Channel, type Notice, openAlerts } from '../src/alerts.ts';
import { coverageLines } from '../src/commands/usagetable.ts';
import { damageIn } from '../src/damage.ts';
import { type JobReport, openJobReports } from '../src/jobreports.ts';
import { keepPrices } from '../src/pricesseen.ts';
import { openSignIns, signInMs } from '../src/signins.ts';
import { keyOf, type Store } from '../src/stores/store.ts';
import { openUsage, type Usage } from '../src/usage.ts';
import { type TestStore, temporaryStore } from './port/local.ts';
import { collect, ids } from './stores/outcomes.ts';
import { spend } from './usage/spending.ts';

let opened: TestStore;
let store: Store;
let clock: Date;

beforeEach(async () => {
  opened = await temporaryStore();
  ({ store } = opened);
  clock = new Date('2026-11-23T10:00:00Z');
});
afterEach(() => opened.remove());

const damaged = async () => (await collect(damageIn(store))).map(({ item }) => item);

describe('a sign-in that rotted', () => {
  test('signs nobody in, keeps nobody from signing in, and is removed by the next who does', async () => {
    const signIns = openSignIns(store, () => clock);
    const lost = await signIns.begin('one');
    opened.rot('SignIns');
    expect(await signIns.keyOf(lost)).toBeUndefined();
    const token = await signIns.begin('two');
    expect(await signIns.keyOf(token)).toBe('two');
    expect(await damaged()).toEqual([]);
    clock = new Date(clock.getTime() + signInMs);
    await signIns.begin('three');
    expect(await ids(store.rows('SignIns', 'dashboard'))).toHaveLength(1);
  });
});

describe('the report of a job that rotted', () => {
  const report: JobReport = {
    job: 'upload',
    endedAt: Date.parse('2026-11-23T09:00:00Z'),
    seconds: 1,
    failures: 0,
    failedItems: 0,
    agents: [],
  };

  test('is left out, and removed', async () => {
    const jobs = openJobReports(store, () => clock);
    await jobs.put('box', report);
    await jobs.put('other', report);
    opened.rot('Jobs', keyOf(JSON.stringify(['box', 'upload'])));
    expect((await jobs.list()).reports.map(({ host }) => host)).toEqual(['other']);
    expect(await damaged()).toEqual([]);
  });

  test('is replaced by the next, whoever tells it', async () => {
    const jobs = openJobReports(store, () => clock);
    await jobs.put('box', report);
    opened.rot('Jobs');
    await jobs.put('box', report, { key: 'box', isKey: () => true });
    expect((await jobs.list()).reports).toEqual([{ ...report, host: 'box' }]);
  });
});

describe('prices of a host that rotted', () => {
  let usage: Usage | undefined;
  const listed = (input: number) => [
    { provider: 'anthropic', model: 'opus', input, output: 0, cacheRead: 0, cacheWrite: 0 },
  ];
  const now = () => clock;
  const open = () =>
    openUsage({ store, file: path.join(opened.directory, 'usage', 'index.sqlite'), now, timeZone: 'UTC' });

  beforeEach(async () => {
    usage = undefined;
    for (const [host, input] of [
      ['box', 10],
      ['other', 20],
    ] as const)
      await keepPrices(store, 'main', host, listed(input), clock);
    await spend(store, 'main', 'one', [{ at: clock.toISOString(), tokens: 1e6 }], { host: 'box' }, now);
    await spend(store, 'main', 'two', [{ at: clock.toISOString(), tokens: 1e6 }], { host: 'other' }, now);
  });
  afterEach(() => usage?.close());

  async function ask() {
    usage ??= await open();
    await usage.catchUp();
    return await usage.query({ by: ['host'] });
  }

  test('price nothing, and are counted where it is said what the sums rest on', async () => {
    opened.rot('Prices', '1%-other');
    const answer = await ask();
    expect(answer.lostPrices).toBe(1);
    expect(answer.rows.find(({ host }) => host === 'box')?.cost).toBe(10);
    expect(coverageLines(answer.totals, answer, clock).join('\n')).toContain('1 day of prices');
    expect((await usage?.standing(['other']))?.lostPrices).toBeUndefined();
    expect((await usage?.standing())?.lostPrices).toBe(1);
    expect(await damaged()).toContain('Prices main/' + (await rottedId()));
  });

  async function rottedId(): Promise<string> {
    const found: string[] = [];
    for await (const row of store.rows('Prices', 'main', {}, (id) => found.push(id)))
      expect(row.partition).toBe('main');
    return String(found);
  }

  test('are kept anew where it is what was seen last that rotted', async () => {
    opened.rot('Prices', 'latest-other');
    opened.rot('Prices', 'prices');
    clock = new Date('2026-11-24T10:00:00Z');
    await keepPrices(store, 'main', 'other', [], clock);
    expect(await damaged()).toEqual([]);
    expect((await ask()).lostPrices).toBeUndefined();
  });

  test('keep no later ones from being kept', async () => {
    opened.rot('Prices', '1%-other');
    clock = new Date('2026-11-24T10:00:00Z');
    await keepPrices(store, 'main', 'other', listed(30), clock);
    expect((await ask()).rows.find(({ host }) => host === 'other')?.cost).toBe(30);
  });

  test('of a newer release are left out and counted too', async () => {
    for (const [id, prices0] of [
      ['1700000000000-new', JSON.stringify([{ ...listed(1)[0], perImage: 1 }])],
      ['1700000000000-newer', 'not JSON'],
    ] as const)
      await store.put('Prices', { partition: 'main', id, host: 'new', prices0 });
    const answer = await ask();
    expect([answer.lostPrices, answer.totals.cost]).toEqual([2, 30]);
  });
});

describe('an alert that rotted', () => {
  let alerts: Alerts;
  let sent: string[];
  const name = 'webhook-00000001';

  beforeEach(() => {
    alerts = openAlerts(store, { now: () => clock.getTime() });
    sent = [];
  });

  const about = (subject: string, event: Notice['event']): Notice => ({
    event,
    host: 'box',
    subject,
    title: `${event} ${subject}`,
    at: clock.toISOString(),
  });
  const raise = (subject: string) => alerts.raise(about(subject, 'failed'), [name]);
  const recover = (subject: string) => alerts.recover(about(subject, 'recovered'));
  async function send(): Promise<string[]> {
    const channel: Channel = {
      name,
      send: ({ title }) => {
        sent.push(title);
        return Promise.resolve('noted');
      },
    };
    await alerts.send([channel], new AbortController().signal);
    return sent.splice(0);
  }
  const subjects = async () => (await alerts.list()).map(({ subject }) => subject);

  test('keeps no other from going out', async () => {
    await raise('one');
    opened.rot('Alerts');
    await raise('two');
    expect(await send()).toEqual(['failed two']);
    expect(await subjects()).toEqual(['two']);
    expect(await damaged()).toEqual(['Alerts latched/one~~00001~~raised']);
  });

  test('is raised anew, and nothing of it is left', async () => {
    await raise('one');
    await send();
    opened.rot('Alerts', '%raised');
    expect(await raise('one')).toBe(true);
    expect(await raise('one')).toBe(false);
    expect(await send()).toEqual(['failed one']);
    expect(await damaged()).toEqual([]);
  });

  test('of which nothing sound is left is raised and sent anew', async () => {
    await raise('one');
    await send();
    opened.rot('Alerts');
    expect(await raise('one')).toBe(true);
    expect(await send()).toEqual(['failed one']);
    expect(await send()).toEqual([]);
    expect(await damaged()).toEqual([]);
  });

  test('when it was sent may be sent again, and is then known to be', async () => {
    await raise('one');
    await send();
    opened.rot('Alerts', '%~~sent');
    opened.rot('Alerts', '%~~0001');
    expect(await send()).toEqual(['failed one']);
    expect(await send()).toEqual([]);
  });

  test('when it ended lasts until it ends again', async () => {
    await raise('one');
    await send();
    await recover('one');
    opened.rot('Alerts', '%over');
    expect((await alerts.list())[0]?.recovered).toBeUndefined();
    expect(await recover('one')).toBe(true);
    expect(await send()).toEqual(['recovered one']);
    expect(await damaged()).toEqual([]);
  });

  test('and is raised no more goes when others are forgotten', async () => {
    await raise('one');
    await raise('two');
    opened.rot('Alerts', 'one%');
    await alerts.forget([]);
    expect(await damaged()).toEqual([]);
    expect(await subjects()).toEqual(['two']);
  });
});
