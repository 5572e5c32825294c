import type { FastifyInstance } from 'fastify';
import { expect, test, vi } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import type { MailboxStanding } from '../../src/mailbox.ts';
import { type Exposition, readExposition } from '../prometheus.ts';
import { aSession, keyWith, listeningEndpoint, openEndpoint } from './endpoint.ts';
import { fromGitHub, post, secret, sources } from './senders.ts';

const github = sources({ github: { verify: 'github', secret } });

async function scrape(app: FastifyInstance, headers: Record<string, string> = {}): Promise<Exposition> {
  const answer = await app.inject({ url: '/metrics', headers });
  expect(answer.statusCode).toBe(200);
  return readExposition(answer.body);
}

test('requests are counted by method, route and kind of answer, as many as were made', async () => {
  const { app } = await openEndpoint();
  for (let n = 0; n < 3; n++) await app.inject({ url: `/api/sessions/main/never-stored-${n}` });
  await app.inject({ url: '/api/sessions?agentId=main' });
  for (const url of ['/nowhere', '/also/nowhere?code=x']) await app.inject({ url });
  await app.inject({ method: 'DELETE', url: '/api/sessions' });
  const seen = await scrape(app);
  const count = (method: string, route: string, status: string) =>
    seen.value('nexus_http_requests_total', { method, route, status });
  expect(count('GET', '/api/sessions/:agentId/:transcript', '4xx')).toBe(3);
  expect(count('GET', '/api/sessions', '2xx')).toBe(1);
  expect(count('GET', 'none', '4xx')).toBe(2);
  expect(count('DELETE', 'none', '4xx')).toBe(1);
  expect(
    seen.value('nexus_http_request_duration_seconds_count', {
      method: 'GET',
      route: '/api/sessions/:agentId/:transcript',
    }),
  ).toBe(3);
  const total = seen.samples('nexus_http_requests_total').reduce((sum, { value }) => sum + value, 0);
  expect(total).toBe(7);
});

test('who is refused at the door is counted too', async () => {
  const { key, text } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  for (let n = 0; n < 4; n++) await app.inject({ url: '/api/sessions' });
  const seen = await scrape(app, { 'x-functions-key': text });
  const labels = { method: 'GET', route: '/api/sessions', status: '4xx' };
  expect(seen.value('nexus_http_requests_total', labels)).toBe(4);
});

test('who is gone before the answer is counted, once, as gone', async () => {
  const asked = Promise.withResolvers<void>();
  const endpoint = await listeningEndpoint({
    overWebhooks: (webhooks) => ({
      ...webhooks,
      pending(request) {
        asked.resolve();
        return webhooks.pending(request);
      },
    }),
  });
  const gone = new AbortController();
  const waiting = fetch(`${endpoint.url}/api/webhook/pending?wait=30`, { signal: gone.signal });
  await asked.promise;
  gone.abort();
  await waiting.catch(() => undefined);
  const labels = { method: 'GET', route: '/api/webhook/pending', status: 'gone' };
  const look = async () => readExposition(await (await fetch(`${endpoint.url}/metrics`)).text());
  await expect
    .poll(async () => (await look()).value('nexus_http_requests_total', labels), { interval: 20 })
    .toBe(1);
  expect(
    (await look())
      .samples('nexus_http_requests_total')
      .filter(({ labels }) => labels['route'] === '/api/webhook/pending'),
  ).toHaveLength(1);
});

test('transcripts and their bytes are counted when they are stored, and only then', async () => {
  const { app } = await openEndpoint();
  const put = (id: string, offset: number, text: string) =>
    app.inject({
      method: 'PATCH',
      url: `/api/sessions/main/${id}`,
      payload: text,
      headers: {
        'content-type': 'application/partial-upload',
        'upload-offset': String(offset),
        'upload-complete': '?0',
      },
    });
  expect((await put('one', 0, '12345\n')).statusCode).toBe(201);
  expect((await put('one', 6, 'more\n')).statusCode).toBe(204);
  expect((await put('one', 6, 'again\n')).statusCode).toBe(409);
  expect((await put('empty', 0, '')).statusCode).toBe(201);
  const whole = { agentId: 'main', sessionId: aSession, transcript: 'a whole one\n' };
  for (const status of [200, 409])
    expect((await app.inject({ method: 'POST', url: '/api/sessions', payload: whole })).statusCode).toBe(
      status,
    );
  const seen = await scrape(app);
  expect(seen.value('nexus_transcripts_stored_total')).toBe(2);
  expect(seen.value('nexus_transcript_stored_bytes_total')).toBe(6 + 5 + 12);
});

test('webhooks are counted by source and by what became of them', async () => {
  const { app } = await openEndpoint({ mailboxes: github });
  const delivery = { 'x-github-delivery': 'd-1' };
  for (const status of [202, 200, 200])
    expect((await app.inject(fromGitHub('{"n":1}', delivery))).statusCode).toBe(status);
  expect((await app.inject(fromGitHub('{"n":2}'))).statusCode).toBe(202);
  for (let n = 0; n < 2; n++)
    await app.inject(post('github', '{}', { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` }));
  await app.inject(fromGitHub('no json'));
  const seen = await scrape(app);
  const received = (outcome: string) =>
    seen.value('nexus_webhooks_received_total', { source: 'github', outcome });
  const refused = (reason: string) =>
    seen.value('nexus_webhooks_refused_total', { source: 'github', reason });
  expect([received('accepted'), received('duplicate')]).toEqual([2, 2]);
  expect([refused('unauthorized'), refused('invalid')]).toEqual([2, 1]);
});

test('a source that is not configured is one of the others, however it is called', async () => {
  const { app } = await openEndpoint({ mailboxes: github });
  for (let n = 0; n < 5; n++) await app.inject(post(`made-up-${n}`));
  await app.inject(post('__proto__'));
  await app.inject({ ...post('github'), url: '/api/webhook/other-agent?source=github' });
  await app.inject(post('nameless%00'));
  const seen = await scrape(app);
  expect(seen.samples('nexus_webhooks_received_total')).toEqual([
    { name: 'nexus_webhooks_received_total', labels: { source: 'other', outcome: 'accepted' }, value: 7 },
  ]);
  expect(seen.samples('nexus_webhooks_refused_total').map(({ labels }) => labels['source'])).toEqual([
    'other',
  ]);
});

test('a webhook that the store cannot keep is refused as unavailable', async () => {
  const full = () => Promise.reject(new NexusError('unavailable', 'The disk is full.'));
  const { app } = await openEndpoint({
    mailboxes: github,
    overWebhooks: (webhooks) => ({ ...webhooks, receive: full }),
  });
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(503);
  const labels = { source: 'github', reason: 'unavailable' };
  expect((await scrape(app)).value('nexus_webhooks_refused_total', labels)).toBe(1);
});

test("a source's name with quotes, backslashes and letters of any script is escaped", async () => {
  const name = 'a"b\\c é';
  const { app } = await openEndpoint({ mailboxes: sources({ [name]: { verify: 'none' } }) });
  await app.inject(post(encodeURIComponent(name)));
  const labels = { source: name, outcome: 'accepted' };
  expect((await scrape(app)).value('nexus_webhooks_received_total', labels)).toBe(1);
});

test('what is pending is told by agent, with its bytes and the age of the oldest', async () => {
  let at = Date.now();
  const { app, webhooks } = await openEndpoint({ mailboxes: github, now: () => new Date(at) });
  await app.inject(fromGitHub('{"n":1}'));
  await app.inject(fromGitHub('{"n":22}'));
  const [oldest] = (await webhooks.pending({ agents: '*' })).items;
  at = Date.parse(oldest?.receivedAt ?? '') + 90_000;
  const seen = await scrape(app);
  expect(seen.value('nexus_pending_items', { agent: 'main' })).toBe(2);
  expect(seen.value('nexus_pending_bytes', { agent: 'main' })).toBe(15);
  expect(seen.value('nexus_pending_oldest_age_seconds', { agent: 'main' })).toBe(90);
  expect(seen.value('nexus_pending_counted_timestamp_seconds')).toBe(at / 1000);
});

test('of very many agents those with the most pending are named, and the others are one', async () => {
  const standings: MailboxStanding[] = Array.from({ length: 600 }, (_, n) => ({
    agent: `agent-${n}`,
    pending: n,
    bytes: 10 * n,
    oldestAt: new Date(1_000_000 - n * 1000).toISOString(),
  }));
  const { app } = await openEndpoint({
    now: () => new Date(2_000_000),
    overWebhooks: (webhooks) => ({ ...webhooks, standing: () => Promise.resolve(standings) }),
  });
  const seen = await scrape(app);
  expect(seen.samples('nexus_pending_items')).toHaveLength(501);
  expect(seen.value('nexus_pending_items', { agent: 'agent-100' })).toBe(100);
  expect(seen.value('nexus_pending_items', { agent: '_other' })).toBe((99 * 100) / 2);
  expect(seen.value('nexus_pending_bytes', { agent: '_other' })).toBe(10 * ((99 * 100) / 2));
  expect(seen.value('nexus_pending_oldest_age_seconds', { agent: '_other' })).toBe(1000 + 99);
  expect(seen.value('nexus_pending_oldest_age_seconds', { agent: 'agent-599' })).toBe(1000 + 599);
});

test('a store that fails takes nothing away but what only it knows', async () => {
  const down = () => Promise.reject(new NexusError('unavailable', 'The store is gone.'));
  const { app } = await openEndpoint({
    over: (sessions) => ({ ...sessions, stat: down, storeId: down }),
    overWebhooks: (webhooks) => ({ ...webhooks, standing: down }),
  });
  const seen = await scrape(app);
  expect(seen.value('nexus_store_up')).toBe(0);
  expect(seen.samples('nexus_pending_items')).toEqual([]);
  expect(seen.samples('nexus_pending_counted_timestamp_seconds')).toEqual([]);
  expect(seen.value('nexus_build_info', { version: '1.2.3', store: 'unknown' })).toBe(1);
  expect((await scrape(app)).samples('nexus_http_requests_total')).not.toEqual([]);
});

test('a store that is silent delays a scrape by the time for it and no more', async () => {
  const silent = () => new Promise<never>(() => {});
  const { app } = await openEndpoint({
    limits: { metricsMs: 100 },
    over: (sessions) => ({ ...sessions, stat: silent, storeId: silent }),
    overWebhooks: (webhooks) => ({ ...webhooks, standing: silent }),
  });
  const began = performance.now();
  expect((await scrape(app)).value('nexus_store_up')).toBe(0);
  expect(performance.now() - began).toBeLessThan(10_000);
});

test('a store that answers no more is told as it was last seen, and as down', async () => {
  let slow = false;
  const standing = { agent: 'main', pending: 3, bytes: 30 };
  const pause = () => (slow ? new Promise<never>(() => {}) : Promise.resolve());
  vi.useFakeTimers({ toFake: ['performance'], now: 1_000_000 });
  try {
    const { app } = await openEndpoint({
      limits: { metricsMs: 50 },
      over: (sessions) => ({ ...sessions, stat: () => pause().then(() => undefined) }),
      overWebhooks: (webhooks) => ({ ...webhooks, standing: () => pause().then(() => [standing]) }),
    });
    expect((await scrape(app)).value('nexus_store_up')).toBe(1);
    slow = true;
    vi.advanceTimersByTime(60_000);
    const seen = await scrape(app);
    expect(seen.value('nexus_store_up')).toBe(0);
    expect(seen.value('nexus_pending_items', { agent: 'main' })).toBe(3);
    vi.advanceTimersByTime(600_000);
    expect((await scrape(app)).samples('nexus_pending_items')).toEqual([]);
  } finally {
    vi.useRealTimers();
  }
});

test('what was seen of a store that has failed since is not told any more', async () => {
  let down = false;
  const standing = { agent: 'main', pending: 3, bytes: 30 };
  const broken = new NexusError('unavailable', 'The store is gone.');
  vi.useFakeTimers({ toFake: ['performance'], now: 1_000_000 });
  try {
    const { app } = await openEndpoint({
      overWebhooks: (webhooks) => ({
        ...webhooks,
        standing: () => (down ? Promise.reject(broken) : Promise.resolve([standing])),
      }),
    });
    expect((await scrape(app)).value('nexus_pending_items', { agent: 'main' })).toBe(3);
    down = true;
    vi.advanceTimersByTime(60_000);
    expect((await scrape(app)).samples('nexus_pending_items')).toEqual([]);
  } finally {
    vi.useRealTimers();
  }
});

test('however many scrape, the store is asked once in a while', async () => {
  const standing = vi.fn(() => Promise.resolve([]));
  const { app } = await openEndpoint({ overWebhooks: (webhooks) => ({ ...webhooks, standing }) });
  await Promise.all(Array.from({ length: 20 }, () => scrape(app)));
  await scrape(app);
  expect(standing.mock.calls).toHaveLength(1);
});

test('they are for keys that may read all agents, sent as a key of Nexus or as monitors do', async () => {
  const [reader, uploader, ofOne] = [keyWith(['read']), keyWith(['upload']), keyWith(['read'], ['main'])];
  const keys = [reader.key, uploader.key, { ...ofOne.key, name: 'of-one' }];
  const { app } = await openEndpoint({ keys });
  const status = async (headers: Record<string, string>, url = '/metrics') =>
    (await app.inject({ url, headers })).statusCode;
  expect(await status({})).toBe(401);
  expect(await status({ authorization: 'Bearer nxk_wrong' })).toBe(401);
  expect(await status({ 'x-functions-key': uploader.text })).toBe(403);
  expect(await status({ 'x-functions-key': ofOne.text })).toBe(403);
  expect(await status({ 'x-functions-key': reader.text })).toBe(200);
  expect(await status({ authorization: `Bearer ${reader.text}` })).toBe(200);
  expect(await status({}, `/metrics?code=${reader.text}`)).toBe(200);
  expect(await status({ 'x-functions-key': 'nxk_wrong', authorization: `Bearer ${reader.text}` })).toBe(401);
});

test('without keys they are for this machine alone', async () => {
  const { app } = await openEndpoint();
  const url = '/metrics';
  expect((await app.inject({ url })).statusCode).toBe(200);
  expect((await app.inject({ url, headers: { 'x-forwarded-for': '203.0.113.9' } })).statusCode).toBe(403);
  expect((await app.inject({ url, remoteAddress: '203.0.113.9' })).statusCode).toBe(403);
  expect((await app.inject({ url, headers: { origin: 'https://evil.example' } })).statusCode).toBe(403);
});

test.each([
  ['', 'text/plain; version=0.0.4; charset=utf-8'],
  ['*/*', 'text/plain; version=0.0.4; charset=utf-8'],
  ['application/openmetrics-text', 'application/openmetrics-text; version=1.0.0; charset=utf-8'],
  // As Prometheus 2 and 3 ask.
  [
    'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2',
    'application/openmetrics-text; version=1.0.0; charset=utf-8',
  ],
  [
    'text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5',
    'text/plain; version=0.0.4; charset=utf-8',
  ],
  ['application/openmetrics-text;version=2.0.0', 'text/plain; version=0.0.4; charset=utf-8'],
  ['application/openmetrics-text;q=0', 'text/plain; version=0.0.4; charset=utf-8'],
])('asked for %j they come as %s', async (accept, type) => {
  const { app } = await openEndpoint({ mailboxes: github });
  await app.inject(fromGitHub('{}'));
  const { headers, body } = await app.inject({ url: '/metrics', headers: { accept } });
  expect(headers['content-type']).toBe(type);
  const seen = readExposition(body, type.startsWith('text') ? 'text' : 'openmetrics');
  expect(seen.value('nexus_webhooks_received_total', { source: 'github', outcome: 'accepted' })).toBe(1);
});

test('who asks for OpenMetrics changes nothing for who does not', async () => {
  const { app } = await openEndpoint();
  const accepts = [
    'application/openmetrics-text',
    'text/plain',
    'application/openmetrics-text',
    'text/plain',
  ];
  const answers = await Promise.all(
    accepts.map((accept) => app.inject({ url: '/metrics', headers: { accept } })),
  );
  for (const [n, { body }] of answers.entries())
    expect(readExposition(body, n % 2 === 0 ? 'openmetrics' : 'text').value('nexus_store_up')).toBe(1);
});
