import { expect, test, vi } from 'vitest';
import { keyWith, listeningEndpoint, openEndpoint } from './endpoint.ts';
import type { Webhooks } from '../../src/mailbox.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Puts so many items into a mailbox; answers their ids. */
async function fill(webhooks: Webhooks, agent: string, count = 1, body: Buffer | string = '{"n":1}') {
  const ids: string[] = [];
  for (let n = 0; n < count; n++) {
    const delivery = { agent, source: 'x', contentType: 'application/json', headers: { 'x-n': String(n) } };
    ids.push((await webhooks.receive({ ...delivery, body: Buffer.from(body) })).id);
  }
  return ids;
}

const asked = (ids: unknown, more: object = {}) => ({
  method: 'DELETE' as const,
  url: '/api/webhook/items',
  headers: { 'content-type': 'application/json' },
  payload: JSON.stringify({ ids, ...more }),
});

test('what is pending comes by agent, oldest first', async () => {
  const { app, webhooks } = await openEndpoint();
  const [one, two] = await fill(webhooks, 'main', 2);
  const [other] = await fill(webhooks, 'other');
  const answer = await app.inject({ url: '/api/webhook/pending' });
  expect([answer.statusCode, answer.headers['content-type'], answer.headers['link']]).toEqual([
    200,
    'application/json; charset=utf-8',
    undefined,
  ]);
  expect(answer.json()).toEqual({
    main: [
      {
        id: one,
        source: 'x',
        receivedAt: expect.any(String),
        contentType: 'application/json',
        headers: { 'x-n': '0' },
        payload: { n: 1 },
      },
      expect.objectContaining({ id: two }),
    ],
    other: [expect.objectContaining({ id: other })],
  });
  expect((await app.inject({ url: '/api/webhook/pending?agentId=other' })).json()).toEqual({
    other: [expect.objectContaining({ id: other })],
  });
  expect((await app.inject({ url: '/api/webhook/pending?agentId=nobody' })).json()).toEqual({ nobody: [] });
});

test('numbers are answered as they were sent', async () => {
  const { app, webhooks } = await openEndpoint();
  const body = '{"id":12345678901234567890123,"price":1.10,"big":1e400}';
  await fill(webhooks, 'main', 1, body);
  expect((await app.inject({ url: '/api/webhook/pending' })).body).toContain(`"payload":${body}`);
});

test('a page has at most as many items as asked for, and names the next one', async () => {
  const { url, webhooks } = await listeningEndpoint();
  const ids = await fill(webhooks, 'main', 5);
  const found: string[][] = [];
  let next: string | undefined = `${url}/api/webhook/pending?agentId=main&limit=2&code=hidden`;
  while (next !== undefined) {
    const answer: Response = await fetch(next);
    const page: unknown = await answer.json();
    found.push(Object(page).main.map((item: { id: string }) => item.id));
    const link = /<([^>]*)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
    expect(link ?? '').not.toContain('hidden');
    next = link === undefined ? undefined : new URL(link, next).href;
  }
  expect(found).toEqual([ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)]);
});

test('the next page is found behind a prefix that a proxy has put before the path', async () => {
  const { app, webhooks } = await openEndpoint();
  await fill(webhooks, 'main', 2);
  const answer = await app.inject({ url: '/api/webhook/pending?limit=1' });
  const link = /<([^>]*)>/.exec(String(answer.headers['link']))?.[1] ?? '';
  const outside = new URL(link, 'https://nexus.example/some/prefix/api/webhook/pending?limit=1');
  expect(outside.pathname).toBe('/some/prefix/api/webhook/pending');
  expect(outside.searchParams.get('limit')).toBe('1');
});

test.each(['limit=0', 'limit=1001', 'limit=x', 'cursor=nonsense', 'wait=61', 'wait=-1', 'agentId=..'])(
  '?%s is 400',
  async (query) => {
    const { app } = await openEndpoint();
    expect((await app.inject({ url: `/api/webhook/pending?${query}` })).statusCode).toBe(400);
  },
);

test('a key sees the mailboxes of its agents alone', async () => {
  const { key, text } = keyWith(['pull'], ['main', 'third']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  await fill(webhooks, 'main');
  await fill(webhooks, 'other');
  const get = (query: string) =>
    app.inject({ url: `/api/webhook/pending${query}`, headers: { 'x-functions-key': text } });
  expect(Object.keys((await get('')).json<object>())).toEqual(['main']);
  expect((await get('?agentId=other')).statusCode).toBe(403);
  expect((await get('?agentId=main&agentId=other')).statusCode).toBe(403);
  expect((await get('?agentId=main&agentId=third')).statusCode).toBe(200);
});

test('the first host that is named has the mailbox, and another is 409 and told whose it is', async () => {
  const { app, webhooks } = await openEndpoint();
  const [id] = await fill(webhooks, 'main');
  const get = (host?: string) =>
    app.inject({
      url: '/api/webhook/pending?agentId=main',
      headers: host === undefined ? {} : { 'x-nexus-host': host },
    });
  expect((await get('box%20%C3%A9')).statusCode).toBe(200);
  const other = await get('other');
  expect([other.statusCode, other.json<{ error: string }>().error]).toEqual([
    409,
    expect.stringContaining('box é'),
  ]);
  const remove = { ...asked([id]), headers: { ...asked([]).headers, 'x-nexus-host': 'other' } };
  expect((await app.inject(remove)).statusCode).toBe(409);
  expect((await get('box%20%C3%A9')).json<{ main: unknown[] }>().main).toHaveLength(1);
  expect((await get()).statusCode).toBe(200);
  for (const wrong of ['', '%', '%00', 'x'.repeat(256)])
    expect([wrong, (await get(wrong)).statusCode]).toEqual([wrong, 400]);
});

test('items that cannot be read are named in a header, and the others delivered', async () => {
  const { app, webhooks, spoil, store } = await openEndpoint();
  const [broken] = await fill(webhooks, 'main', 1, `"${'x'.repeat(100_000)}"`);
  const [sound] = await fill(webhooks, 'main');
  for await (const { name } of store.list('payloads/')) await spoil(name);
  const answer = await app.inject({ url: '/api/webhook/pending' });
  expect(answer.json<{ main: { id: string }[] }>().main.map(({ id }) => id)).toEqual([sound]);
  expect(JSON.parse(String(answer.headers['nexus-broken']))).toEqual([
    { id: broken, reason: expect.any(String) },
  ]);
});

test('who waits is answered as soon as something comes', async () => {
  const { url, webhooks } = await listeningEndpoint();
  const began = Date.now();
  const waiting = fetch(`${url}/api/webhook/pending?agentId=main&wait=30`);
  await sleep(100);
  const [id] = await fill(webhooks, 'main');
  expect(await (await waiting).json()).toMatchObject({ main: [{ id }] });
  expect(Date.now() - began).toBeLessThan(5000);
});

test('who waits in vain is answered when the time is over', async () => {
  const { app } = await openEndpoint();
  const began = Date.now();
  const answer = await app.inject({ url: '/api/webhook/pending?agentId=main&wait=0.3' });
  expect([answer.statusCode, answer.json()]).toEqual([200, { main: [] }]);
  expect(Date.now() - began).toBeGreaterThan(250);
});

test('an endpoint that is told to stop answers those who wait, and is gone at once', async () => {
  const { url, stop, closed } = await listeningEndpoint({ drainMs: 10_000 });
  const waiting = fetch(`${url}/api/webhook/pending?agentId=main&wait=60`);
  await sleep(100);
  const began = Date.now();
  stop();
  expect(await (await waiting).json()).toEqual({ main: [] });
  await closed;
  expect(Date.now() - began).toBeLessThan(3000);
});

test('nobody waits for who has gone', async () => {
  let signal: AbortSignal | undefined;
  const { url } = await listeningEndpoint({
    overWebhooks: (webhooks) => ({
      ...webhooks,
      pending: (request) => {
        signal = request.signal;
        return webhooks.pending(request);
      },
    }),
  });
  const gone = new AbortController();
  const waiting = fetch(`${url}/api/webhook/pending?wait=60`, { signal: gone.signal });
  await vi.waitUntil(() => signal !== undefined);
  expect(signal?.aborted).toBe(false);
  gone.abort();
  await expect(waiting).rejects.toThrow('abort');
  await vi.waitUntil(() => signal?.aborted === true);
});

test('what is deleted is no longer pending, and the answer counts what was', async () => {
  const { app, webhooks } = await openEndpoint();
  const [one, two, three] = await fill(webhooks, 'main', 3);
  const answer = await app.inject(asked([one, two, one, 'main.000000000unknown0', 'nonsense', '../x', '']));
  expect([answer.statusCode, answer.json()]).toEqual([200, { deleted: 2 }]);
  expect((await app.inject(asked([one, two]))).json()).toEqual({ deleted: 0 });
  expect((await webhooks.pending({ agents: '*' })).items.map(({ id }) => id)).toEqual([three]);
  expect(await webhooks.show(one ?? '')).toMatchObject({ state: 'delivered' });
});

test('what was not wanted is dropped', async () => {
  const { app, webhooks } = await openEndpoint();
  const [id = ''] = await fill(webhooks, 'main');
  expect((await app.inject(asked([id], { drop: true }))).json()).toEqual({ deleted: 1 });
  expect(await webhooks.show(id)).toMatchObject({ state: 'dropped' });
});

test('who deletes is kept with what was deleted', async () => {
  const { app, webhooks } = await openEndpoint();
  const [id = ''] = await fill(webhooks, 'main');
  await app.inject({ ...asked([id]), headers: { ...asked([]).headers, 'x-nexus-host': 'box' } });
  expect(await webhooks.show(id)).toMatchObject({ state: 'delivered', host: 'box' });
});

test('one id of another’s agent refuses them all, whether or not there is such an item', async () => {
  const { key, text } = keyWith(['pull'], ['main']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  const [mine] = await fill(webhooks, 'main');
  const [others] = await fill(webhooks, 'other');
  for (const foreign of [others, 'other.000000000000000000000']) {
    const request = asked([mine, foreign]);
    const headers = { ...request.headers, 'x-functions-key': text };
    expect((await app.inject({ ...request, headers })).statusCode).toBe(403);
  }
  expect((await webhooks.pending({ agents: '*' })).items).toHaveLength(2);
});

test.each([
  ['no ids', {}],
  ['ids that are no list', { ids: 'main.000000000' }],
  ['an id that is no text', { ids: [1] }],
  ['too many ids', { ids: Array.from({ length: 1001 }, () => 'x') }],
])('%s is 400', async (_, body) => {
  const { app } = await openEndpoint();
  const { headers } = asked([]);
  const answer = await app.inject({ ...asked([]), headers, payload: JSON.stringify(body) });
  expect([answer.statusCode, answer.json()]).toEqual([400, { error: expect.stringContaining('"ids"') }]);
});

test('a list of ids that is no JSON, or not said to be, is refused', async () => {
  const { app } = await openEndpoint();
  expect((await app.inject({ ...asked([]), payload: '{' })).statusCode).toBe(400);
  expect((await app.inject({ ...asked([]), headers: { 'content-type': 'text/plain' } })).statusCode).toBe(
    415,
  );
});
