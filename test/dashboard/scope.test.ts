import type { FastifyInstance } from 'fastify';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { createServer } from '../../src/http/server.ts';
import { hashKey, type Key, makeKey } from '../../src/keys.ts';
import { openSignIns } from '../../src/signins.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { nounsOver } from '../http/nouns.ts';
import { fillSample } from './sample.ts';

const now = new Date('2026-11-20T15:40:00Z');
const key = makeKey();
const limited: Key = { name: 'only', hash: hashKey(key), agents: ['mediabox'], scopes: ['read'] };

let directory: string;
let store: Store;
let usage: Usage;
let app: FastifyInstance;
let cookie: string;
let item: string;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-scope-'));
  store = await openLocalStore(path.join(directory, 'store'));
  await fillSample(store, now);
  for await (const { id } of openWebhooks(store).list({ agent: 'main' })) item = id;
  usage = await openUsage({
    store,
    file: path.join(directory, 'usage', 'index.sqlite'),
    timeZone: 'UTC',
    now: () => now,
  });
  await usage.catchUp();
  app = createServer({
    ...nounsOver(store),
    keys: () => [limited],
    version: '0',
    now: () => now,
    usage,
    dashboard: { signIns: openSignIns(store, () => now), timeZone: 'UTC' },
  });
  const host = 'localhost:7788';
  const answer = await app.inject({
    method: 'POST',
    url: '/sign-in',
    body: `key=${key}`,
    headers: { host, origin: `http://${host}`, 'content-type': 'application/x-www-form-urlencoded' },
  });
  cookie = `nexus=${answer.cookies[0]?.value}`;
});
afterAll(async () => {
  await app.close();
  await usage.close();
  await store.close();
  await rm(directory, { recursive: true });
});

const get = (url: string) => app.inject({ url, headers: { host: 'localhost:7788', cookie } });

test.each([
  '/',
  '/?by=model',
  '/usage?by=agent&last=all',
  '/usage?by=session&last=all',
  '/usage?by=day&and=agent',
  '/usage?by=host&and=trigger&last=all',
  '/sessions',
  '/sessions?text=main',
  '/webhooks',
  '/webhooks?state=history&days=30',
])('a key for one agent sees nothing of the others on %s', async (url) => {
  const { statusCode, body } = await get(url);
  expect(statusCode).toBe(200);
  const own = body
    .replaceAll(/href="#main"|id="main"|class="main"|<\/?main/g, '')
    .replaceAll('value="main"', '');
  const text = url.includes('text=main') ? own.replaceAll(/name="text" [^>]*|text=main/g, '') : own;
  expect(text).not.toMatch(/\bmain\b|research|claw-box|github|operator|subagent|haiku|sonnet/);
});

test('its sums are those of its agent alone', async () => {
  const { totals } = await usage.query({ agent: ['mediabox'], last: '30d', tz: 'UTC' });
  const { body } = await get('/usage?by=agent');
  expect(body).toContain(`<tr><th scope="row" colspan="1">Total of 1 row</th>`);
  expect(body).toContain(`$${totals.cost?.toFixed(4)}`);
  expect(body).toContain(`title="${totals.input.toLocaleString('en-US')}"`);
});

test.each([
  '/?agent=main',
  '/usage?agent=main',
  '/usage?agent=mediabox&agent=main',
  '/sessions?agent=research',
  '/sessions/main/x',
  '/webhooks?agent=main',
])('asked for another agent by %s, it is refused', async (url) => {
  const { statusCode, body } = await get(url);
  expect(statusCode).toBe(403);
  expect(body).toContain('is not good for the agent');
});

test("another agent's webhook is refused whether or not there is one", async () => {
  expect((await get(`/webhooks/${item}`)).statusCode).toBe(403);
  expect((await get('/webhooks/main.0mwoyvaio0000i6k0le52')).statusCode).toBe(403);
});

test('what fails for all agents says nothing of the others to it', async () => {
  const error = new NexusError('corrupt', 'The row research/x of Sessions cannot be read.');
  const nouns = nounsOver(store);
  const failing = createServer({
    ...nouns,
    sessions: {
      ...nouns.sessions,
      async *list() {
        yield* await Promise.reject<[]>(error);
      },
    },
    keys: () => [limited],
    version: '0',
    now: () => now,
    usage: { ...usage, catchUp: () => Promise.reject(error) },
    dashboard: { signIns: openSignIns(store, () => now), timeZone: 'UTC' },
  });
  const answer = await failing.inject({ url: '/', headers: { host: 'localhost:7788', cookie } });
  await failing.close();
  expect(answer.statusCode).toBe(200);
  expect(answer.body).toContain('This cannot be shown: the log of the endpoint tells why.');
  expect(answer.body).toContain('could not be looked for: the log of the endpoint tells why.');
  expect(answer.body).not.toContain('research');
});
