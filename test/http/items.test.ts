import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Delivery, ListedItem } from '../../src/mailbox.ts';
import { keyWith, openEndpoint } from './endpoint.ts';

function delivery(agent: string, more: Partial<Delivery> = {}): Delivery {
  return {
    agent,
    source: 'x',
    contentType: 'application/json',
    headers: {},
    body: Buffer.from('{"n":1.10}'),
    ...more,
  };
}

const json = (method: 'POST' | 'PUT', url: string, body: unknown) => ({
  method,
  url,
  headers: { 'content-type': 'application/json' },
  payload: JSON.stringify(body),
});

test('a body is answered as it was received, and as nothing that a browser would show', async () => {
  const { app, webhooks } = await openEndpoint();
  const body = Buffer.from('<script>alert(1)</script>\u00e9');
  const { id } = await webhooks.receive(delivery('main', { contentType: 'text/html; charset=utf-8', body }));
  const answer = await app.inject({ url: `/api/webhook/items/${id}/body` });
  expect(answer.rawPayload.equals(body)).toBe(true);
  expect(answer.headers).toMatchObject({
    'content-type': 'text/html; charset=utf-8',
    'content-length': String(body.length),
    'content-disposition': 'attachment',
    'content-security-policy': "default-src 'none'; sandbox",
    'x-content-type-options': 'nosniff',
  });
});

test('a body without a type is bytes, and one of no bytes is none', async () => {
  const { app, webhooks } = await openEndpoint();
  const { id } = await webhooks.receive(delivery('main', { contentType: '', body: Buffer.alloc(0) }));
  const answer = await app.inject({ url: `/api/webhook/items/${id}/body` });
  expect([answer.statusCode, answer.rawPayload.length, answer.headers['content-type']]).toEqual([
    200,
    0,
    'application/octet-stream',
  ]);
});

test('an item is shown with its payload, exactly', async () => {
  const { app, webhooks } = await openEndpoint();
  const { id } = await webhooks.receive(delivery('main', { delivery: 'd1' }));
  const answer = await app.inject({ url: `/api/webhook/items/${id}` });
  expect(answer.json()).toMatchObject({ id, agent: 'main', state: 'pending', bytes: 10, delivery: 'd1' });
  expect(answer.body).toContain('"payload":{"n":1.10}');
});

test.each(['main.000000000000000000000', 'nonsense', '..%2fmain.000000000', '%20'])(
  'of %s there is nothing: 404',
  async (id) => {
    const { app } = await openEndpoint();
    for (const request of [
      { url: `/api/webhook/items/${id}` },
      { url: `/api/webhook/items/${id}/body` },
      json('POST', `/api/webhook/items/${id}/replay`, { request: randomUUID() }),
    ])
      expect((await app.inject(request)).statusCode).toBe(404);
  },
);

test('an item of another’s agent is 403, whether or not it is there', async () => {
  const { key, text } = keyWith(['pull', 'read'], ['main']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  const { id } = await webhooks.receive(delivery('other'));
  const headers = { 'x-functions-key': text };
  for (const one of [id, 'other.000000000000000000000'])
    for (const url of [`/api/webhook/items/${one}`, `/api/webhook/items/${one}/body`])
      expect((await app.inject({ url, headers })).statusCode).toBe(403);
});

test('items are listed by agent and arrival, pending and history, without payloads', async () => {
  const { app, webhooks } = await openEndpoint();
  const ids: string[] = [];
  for (const agent of ['main', 'main', 'other'])
    ids.push((await webhooks.receive(delivery(agent, { source: agent === 'other' ? 'y' : 'x' }))).id);
  await webhooks.acknowledge(ids.slice(0, 1), 'box');
  const list = async (query: string) => {
    const answer = await app.inject({ url: `/api/webhook/items${query}` });
    return answer.json<{ items: ListedItem[] }>().items.map(({ id }) => ids.indexOf(id));
  };
  const whole = (await app.inject({ url: '/api/webhook/items' })).json<{ items: object[]; next: unknown }>();
  expect(whole.next).toBeNull();
  expect(whole.items[0]).toMatchObject({ id: ids[0], state: 'delivered', host: 'box', bytes: 10 });
  expect(whole.items[0]).not.toHaveProperty('payload');
  expect(await list('')).toEqual([0, 1, 2]);
  expect(await list('?agentId=main')).toEqual([0, 1]);
  expect(await list('?source=y')).toEqual([2]);
  expect(await list('?state=pending')).toEqual([1, 2]);
  expect(await list('?state=history')).toEqual([0]);
  expect(await list('?since=2999-01-01T00:00:00Z')).toEqual([]);
  expect(await list('?since=2001-01-01T00:00:00%2B02:00')).toEqual([0, 1, 2]);
});

test('a listing goes on where its page ended, over the agents of the key', async () => {
  const { key, text } = keyWith(['read'], ['c', 'a']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  const ids: string[] = [];
  for (const agent of ['a', 'a', 'b', 'c']) ids.push((await webhooks.receive(delivery(agent))).id);
  const found: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const url: string = `/api/webhook/items?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`;
    const answer = await app.inject({ url, headers: { 'x-functions-key': text } });
    const page = answer.json<{ items: ListedItem[]; next: string | null }>();
    found.push(...page.items.map(({ id }) => id));
    cursor = page.next;
  }
  expect(found).toEqual([ids[0], ids[1], ids[3]]);
});

test.each(['state=all', 'since=yesterday', 'limit=0', 'cursor=x', 'agentId=a.b'])(
  '?%s is 400',
  async (query) => {
    const { app } = await openEndpoint();
    expect((await app.inject({ url: `/api/webhook/items?${query}` })).statusCode).toBe(400);
  },
);

test('an item of history is made pending again, once for each request', async () => {
  const { app, webhooks } = await openEndpoint();
  const { id } = await webhooks.receive(delivery('main'));
  const request = randomUUID();
  const replay = json('POST', `/api/webhook/items/${id}/replay`, { request });
  const early = await app.inject(replay);
  expect([early.statusCode, early.headers['nexus-error']]).toEqual([409, 'conflict']);
  await webhooks.acknowledge([id]);
  const first = await app.inject(replay);
  expect([first.statusCode, first.json()]).toEqual([201, { id: expect.stringMatching(/^main\./) }]);
  expect((await app.inject(replay)).json()).toEqual(first.json());
  expect((await webhooks.pending({ agents: '*' })).items).toMatchObject([{ replayOf: id }]);
  for (const wrong of [{}, { request: 'x' }, []]) {
    const url = `/api/webhook/items/${id}/replay`;
    expect((await app.inject(json('POST', url, wrong))).statusCode).toBe(400);
  }
});

test('a mailbox is claimed for a host, whoever had it', async () => {
  const { app, webhooks } = await openEndpoint();
  const claim = (host: unknown) => app.inject(json('PUT', '/api/webhook/mailboxes/main', { host }));
  expect((await claim('one')).json()).toEqual({ host: 'one', before: null });
  expect((await claim('two')).json()).toEqual({ host: 'two', before: 'one' });
  await expect(webhooks.pending({ agents: ['main'], host: 'one' })).rejects.toMatchObject({
    code: 'conflict',
  });
  for (const wrong of ['', 'x'.repeat(256), 'a\nb', 1]) expect((await claim(wrong)).statusCode).toBe(400);
});

test('how mailboxes stand is told of the key’s agents', async () => {
  const { key, text } = keyWith(['read'], ['main']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  await webhooks.receive(delivery('main'));
  await webhooks.receive(delivery('other'));
  await webhooks.claim('main', 'box');
  const get = (query: string) =>
    app.inject({ url: `/api/webhook/mailboxes${query}`, headers: { 'x-functions-key': text } });
  expect((await get('')).json()).toEqual({
    mailboxes: [{ agent: 'main', pending: 1, bytes: 10, oldestAt: expect.any(String), host: 'box' }],
  });
  expect((await get('?agentId=other')).statusCode).toBe(403);
});

const fetched = {
  agentId: 'main',
  source: 'putio',
  contentType: 'application/x-www-form-urlencoded',
  base64: Buffer.from('id=7').toString('base64'),
  delivery: '7',
};

test('what a host fetched is taken from a key that may pull for its agent, once', async () => {
  const { key, text } = keyWith(['pull'], ['main']);
  const { app, webhooks } = await openEndpoint({ keys: [key] });
  const send = async (over: object) => {
    const request = json('POST', '/api/webhook/items', { ...fetched, ...over });
    return await app.inject({ ...request, headers: { ...request.headers, 'x-functions-key': text } });
  };
  expect((await send({})).statusCode).toBe(201);
  expect((await send({})).statusCode).toBe(200);
  expect((await send({ agentId: 'other' })).statusCode).toBe(403);
  const { items } = await webhooks.pending({ agents: ['main'] });
  expect(items).toMatchObject([{ source: 'putio', reconciled: true, payloadText: '{"id":"7"}' }]);
});

test('who may only send webhooks or read cannot say what a host fetched', async () => {
  const { key, text } = keyWith(['webhook', 'read', 'upload']);
  const { app } = await openEndpoint({ keys: [key] });
  const request = json('POST', '/api/webhook/items', fetched);
  const headers = { ...request.headers, 'x-functions-key': text };
  expect((await app.inject({ ...request, headers })).statusCode).toBe(403);
  expect((await app.inject(request)).statusCode).toBe(401);
});

test.each([
  [{ delivery: '' }, 400],
  [{ base64: 'no base64!' }, 400],
  [{ source: 'a\nb' }, 400],
  [{ agentId: '../x' }, 400],
  [{ headers: {} }, 400],
  [{ host: 'a\nb' }, 400],
  [{ otherwise: { delivery: '7', since: 'yesterday' } }, 400],
  [{ contentType: 'nonsense' }, 415],
])('what a host fetched is refused with %j', async (over, status) => {
  const { app, webhooks } = await openEndpoint();
  const answer = await app.inject(json('POST', '/api/webhook/items', { ...fetched, ...over }));
  expect(answer.statusCode).toBe(status);
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
});
