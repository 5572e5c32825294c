import type { FastifyInstance } from 'fastify';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openHosts } from '../../src/http/dashboard/hosts.ts';
import type { Log } from '../../src/http/log.ts';
import { createServer } from '../../src/http/server.ts';
import type { Entry } from '../../src/logline.ts';
import type { Nexus } from '../../src/nexus.ts';
import { openSignIns } from '../../src/signins.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { nounsOver } from '../http/nouns.ts';
import { fillSample } from './sample.ts';

// 04:40 of the 21st in Auckland.
const now = new Date('2026-11-20T15:40:00Z');

let directory: string;
let store: Store;
let usage: Usage;
let app: FastifyInstance;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-overview-'));
  store = await openLocalStore(path.join(directory, 'store'));
  await fillSample(store, now);
  usage = await openUsage({ store, file: path.join(directory, 'usage', 'index.sqlite'), now: () => now });
  await usage.catchUp();
});
afterEach(() => app.close());
afterAll(async () => {
  await usage.close();
  await store.close();
  await rm(directory, { recursive: true });
});

/** A page's text, its markup taken away. */
async function text(
  url: string,
  over: { usage?: Partial<Usage>; timeZone?: string; log?: Log; list?: Nexus['list'] } = {},
): Promise<string> {
  const nouns = nounsOver(store);
  app = createServer({
    log: over.log ?? (() => undefined),
    ...nouns,
    sessions: over.list === undefined ? nouns.sessions : { ...nouns.sessions, list: over.list },
    keys: () => [],
    version: '0',
    now: () => now,
    usage: { ...usage, ...over.usage },
    dashboard: { signIns: openSignIns(store), timeZone: over.timeZone ?? 'UTC' },
  });
  const { statusCode, body } = await app.inject({ url, headers: { host: 'localhost' } });
  expect(statusCode).toBe(200);
  return body
    .replace(/<[^>]*>/g, ' ')
    .replace(/&gt;/g, '>')
    .replace(/\s+/g, ' ');
}

describe.each([
  {
    timeZone: 'UTC',
    days: ['2026-11-20', '2026-11-14', '2026-10-22'],
    before: [
      ['2026-11-19T00:00Z', '2026-11-19T15:30Z'],
      ['2026-11-07T00:00Z', '2026-11-13T15:30Z'],
      ['2026-09-22T00:00Z', '2026-10-21T15:30Z'],
    ],
  },
  {
    timeZone: 'Pacific/Auckland',
    days: ['2026-11-21', '2026-11-15', '2026-10-23'],
    before: [
      ['2026-11-19T11:00Z', '2026-11-19T15:30Z'],
      ['2026-11-07T11:00Z', '2026-11-13T15:30Z'],
      // Clocks went forward on the 27th of September.
      ['2026-09-22T12:00Z', '2026-10-21T15:30Z'],
    ],
  },
])('in $timeZone', ({ timeZone, days, before }) => {
  test('today, 7 and 30 days are whole days, each beside as much of the days before', async () => {
    const shown = await text('/', { timeZone });
    for (const [nth, title] of ['Today', '7 days', '30 days'].entries()) {
      const current = await usage.query({ from: days[nth] ?? '', tz: timeZone });
      const [from = '', to = ''] = before[nth] ?? [];
      const earlier = await usage.query({ from, to });
      const [one, other] = [current.totals.cost ?? Number.NaN, earlier.totals.cost ?? Number.NaN];
      const share = Math.abs(one / other - 1) * 100;
      const change = `${one > other ? '▲ +' : '▼ −'}${share.toFixed(share < 10 ? 1 : 0)} %`;
      const unpriced = current.totals.costCoverage.unpriced;
      const amount = `${unpriced > 0 ? '≥ ' : ''}$${one.toFixed(one < 0.1 ? 4 : 2)}`;
      expect(shown).toContain(`${title} ${amount} ${change} `);
      expect(shown).toContain(
        `· ${current.totals.calls} calls${unpriced > 0 ? ` · ${unpriced} unpriced` : ''}`,
      );
    }
    const [today = ''] = days;
    expect(shown).toContain(`Day research main mediabox Total ${today} `);
    expect(shown).toContain(`Days are those of ${timeZone}.`);
  });
});

test('hosts are shown with when they last sent something, and how long after the event that was', async () => {
  expect(await text('/')).toMatch(
    /Hosts Host Last upload Lag Transcripts Size claw-box 2 h ago lag 7 min 7 min 189 [\d.]+ MiB nas 5 h ago lag 7 min 7 min 48 \d+ KiB/,
  );
});

test('pending webhooks are counted by agent, with the oldest and the host', async () => {
  expect(await text('/')).toMatch(
    /Pending webhooks Agent Pending Oldest Host main 1 1 h ago claw-box mediabox 2 2 h ago nas/,
  );
});

describe('where the store fails to list what came from hosts', () => {
  const list: Nexus['list'] = async function* () {
    yield* await Promise.reject<[]>(new NexusError('corrupt', 'The row main/x of Sessions cannot be read.'));
  };

  test('that alone is missing, with the reason', async () => {
    const logged: Entry[] = [];
    const shown = await text('/', { list, log: (entry) => void logged.push(entry) });
    expect(shown).toContain('Hosts This cannot be shown: The row main/x of Sessions cannot be read. Pending');
    expect(shown).toContain('Pending webhooks Agent Pending Oldest Host main 1 ');
    expect(logged).toContainEqual(
      expect.objectContaining({ level: 'warn', message: 'A part of a page cannot be shown.' }),
    );
  });

  test('a bug there is still a failure of the page', async () => {
    const bug: Nexus['list'] = async function* () {
      yield* await Promise.reject<[]>(new TypeError('a bug'));
    };
    await expect(text('/', { list: bug })).rejects.toThrow('expected 500 to be 200');
  });
});

test('transcripts that are damaged are counted beside the figures that they are not in', async () => {
  const { sessions } = nounsOver(store);
  const damaged: Nexus['list'] = async function* (options) {
    for (const [agent, transcript] of [
      ['main', 'x'],
      ['main', 'y'],
      ['research', 'x'],
    ] as const)
      options?.damaged?.({ agent, transcript, item: `${agent}/${transcript}`, reason: 'It rotted.' });
    yield* sessions.list(options);
  };
  expect(await text('/', { list: damaged })).toMatch(
    /Hosts Host .* KiB 3 transcripts damaged in the store, not in these figures\. nexus backfill --verify names what is damaged\. Pending/,
  );
  await app.close();
  expect(await text('/')).not.toContain('damaged');
  const hosts = openHosts({ list: damaged });
  expect(await hosts.standing(['research'])).toMatchObject({ damaged: 1 });
  expect(await hosts.standing(['nobody'])).toEqual({ hosts: [], damaged: 0 });
});

test('hosts are not waited for when there is very much to add up', async () => {
  const list: Nexus['list'] = async function* () {
    yield* await new Promise<[]>(() => undefined);
  };
  expect(await openHosts({ list }, 20).standing(undefined)).toBeUndefined();
});

describe('what the figures rest on is said as it is', () => {
  test('everything counted, as of when', async () => {
    expect(await text('/')).toMatch(/Everything that was stored is counted, as of now \. Days/);
  });

  test('not the whole, with what is missing', async () => {
    const { coverage } = await usage.standing();
    const lacking = {
      complete: false,
      coverage: {
        ...coverage,
        unread: 3,
        bytes: coverage.bytes + 5 * 1024 * 1024,
        unreadable: { count: 1, examples: [] },
      },
    };
    const query: Usage['query'] = async (request) => ({ ...(await usage.query(request)), ...lacking });
    expect(await text('/usage', { usage: { query } })).toContain(
      'Not the whole, as of now : 3 transcripts with 5.0 MiB still to be read, 1 transcript cannot be read.',
    );
  });

  test('not looked through at all', async () => {
    const query: Usage['query'] = async (request) => ({
      ...(await usage.query(request)),
      asOf: null,
      complete: false,
    });
    expect(await text('/usage', { usage: { query } })).toContain('these figures are not the whole');
  });

  test('of an archive that is not read yet it is not said that it is empty', async () => {
    const none = { complete: false, rows: [], sessions: [], found: 0 };
    const query: Usage['query'] = async (request) => ({ ...(await usage.query(request)), ...none });
    const sessions: Usage['sessions'] = async (request) => ({ ...(await usage.sessions(request)), ...none });
    for (const url of ['/usage', '/sessions', '/sessions?text=x']) {
      const shown = await text(url, { usage: { query, sessions } });
      expect(shown).toContain('Nothing yet: not all that is stored has been read.');
      expect(shown).not.toContain('nexus backfill');
      await app.close();
    }
  });

  test('changes that could not be looked for', async () => {
    const catchUp = () => Promise.reject(new NexusError('unavailable', 'The store is on fire.'));
    const logged: Entry[] = [];
    const log = (entry: Entry) => void logged.push(entry);
    expect(await text('/', { usage: { catchUp }, log })).toContain(
      'Changes since then could not be looked for: The store is on fire.',
    );
    expect(logged).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        facts: expect.objectContaining({ code: 'unavailable', reason: 'The store is on fire.' }),
      }),
    );
  });

  test('an archive that cannot be looked through at all', async () => {
    const catchUp = () =>
      Promise.reject(new NexusError('corrupt', 'The row main/x of Sessions cannot be read.'));
    const query: Usage['query'] = async (request) => ({
      ...(await usage.query(request)),
      asOf: null,
      complete: false,
    });
    const shown = await text('/usage', { usage: { catchUp, query } });
    expect(shown).toContain('That failed: The row main/x of Sessions cannot be read.');
    expect(shown).not.toContain('these figures are not the whole. Reload in a moment.');
  });

  test('a look that takes long is not waited for', async () => {
    const began = performance.now();
    await text('/', { usage: { catchUp: () => new Promise(() => undefined) } });
    expect(performance.now() - began).toBeLessThan(2500);
  });
});

test('a webhook is shown with what handling it has cost, and together with which others', async () => {
  let item = '';
  for await (const { id } of openWebhooks(store).list({ agent: 'mediabox' })) item = id;
  const { totals } = await usage.query({ agent: ['mediabox'] });
  const costOf: Usage['costOf'] = (id) =>
    Promise.resolve(id === item ? { sessions: ['mediabox/s1'], sums: totals, items: 3 } : undefined);
  expect(await text(`/webhooks/${item}`, { usage: { costOf } })).toContain(
    `Handling it $${totals.cost?.toFixed(4)} together with 2 other webhooks: mediabox/s1`,
  );
  await app.close();
  expect(await text(`/webhooks/${item}`)).toContain('no session is known that it began');
});
