import { expect, test } from 'vitest';
import type { Card } from '../../src/nexus.ts';
import { type Endpoint, keyWith, openEndpoint } from './endpoint.ts';

interface Page {
  sessions: Card[];
  next: string | null;
}

const facts = { complete: false, about: {} };

async function filled(...keys: Parameters<typeof openEndpoint>): Promise<Endpoint> {
  const endpoint = await openEndpoint(...keys);
  for (const agent of ['a', 'b', 'c'])
    for (const transcript of ['1', '2', '3'])
      await endpoint.sessions.append(agent, transcript, 0, Buffer.from('x'), facts);
  return endpoint;
}

const names = ({ sessions }: Page) => sessions.map(({ agent, transcript }) => agent + transcript);

async function pages(
  endpoint: Endpoint,
  query: string,
  headers: Record<string, string> = {},
): Promise<string[][]> {
  const found: string[][] = [];
  for (let cursor = ''; ; ) {
    const answer = await endpoint.app.inject({ url: `/api/sessions?${query}${cursor}`, headers });
    expect(answer.statusCode).toBe(200);
    const page = answer.json<Page>();
    found.push(names(page));
    if (page.next === null) return found;
    cursor = `&cursor=${page.next}`;
  }
}

test('the listing is the cards by agent and transcript', async () => {
  const endpoint = await filled();
  const page = (await endpoint.app.inject({ url: '/api/sessions' })).json<Page>();
  expect(names(page)).toEqual(['a1', 'a2', 'a3', 'b1', 'b2', 'b3', 'c1', 'c2', 'c3']);
  expect(page.sessions[0]).toEqual(await endpoint.sessions.stat('a', '1'));
  expect(page.next).toBeNull();
});

test('pages follow one another across agents, without a gap or a repeat', async () => {
  expect(await pages(await filled(), 'limit=4')).toEqual([
    ['a1', 'a2', 'a3', 'b1'],
    ['b2', 'b3', 'c1', 'c2'],
    ['c3'],
  ]);
});

test('a page that ends with the last card is the last page', async () => {
  expect(await pages(await filled(), 'limit=9')).toHaveLength(1);
});

test('a cursor still stands when what it named is gone', async () => {
  const endpoint = await filled();
  const first = (await endpoint.app.inject({ url: '/api/sessions?limit=2' })).json<Page>();
  await endpoint.store.removeRows('Sessions', 'a', ['2']);
  await endpoint.store.remove('sessions/inbox/a/2.jsonl');
  const second = await endpoint.app.inject({ url: `/api/sessions?limit=2&cursor=${String(first.next)}` });
  expect(names(second.json<Page>())).toEqual(['a3', 'b1']);
});

test('an agent alone', async () => {
  expect(await pages(await filled(), 'agentId=b&limit=2')).toEqual([['b1', 'b2'], ['b3']]);
});

test('a cursor of another agent does not leave the agent that is asked for', async () => {
  const endpoint = await filled();
  const { next } = (await endpoint.app.inject({ url: '/api/sessions?limit=9&agentId=a' })).json<Page>();
  expect(next).toBeNull();
  const cursor = Buffer.from('["a","2"]').toString('base64url');
  expect(await pages(endpoint, `agentId=b&cursor=${cursor}`)).toEqual([['b1', 'b2', 'b3']]);
});

test('only what changed since a time, in any time zone', async () => {
  const endpoint = await filled();
  expect(await pages(endpoint, 'since=2100-01-01T00:00:00Z')).toEqual([[]]);
  const hourAgo = new Date(Date.now() - 3_600_000).toISOString().slice(0, 19);
  // An hour ago on the wall clock of a zone two hours behind is an hour from now.
  expect(await pages(endpoint, `since=${hourAgo}-02:00`)).toEqual([[]]);
  expect((await pages(endpoint, `since=${hourAgo}Z`)).flat()).toHaveLength(9);
});

test("a key sees its own agents' cards only", async () => {
  const { key, text } = keyWith(['read'], ['c', 'a', 'unknown']);
  const endpoint = await filled({ keys: [key] });
  const headers = { 'x-functions-key': text };
  expect(await pages(endpoint, 'limit=4', headers)).toEqual([
    ['a1', 'a2', 'a3', 'c1'],
    ['c2', 'c3'],
  ]);
  expect((await endpoint.app.inject({ url: '/api/sessions?agentId=b', headers })).statusCode).toBe(403);
});

test.each([
  ['limit=0'],
  ['limit=1001'],
  ['limit=some'],
  ['since=yesterday'],
  ['cursor=nonsense'],
  ['agentId=..'],
  ['agentId='],
  ['agentId=a&agentId=b'],
])('%s is 400 with a sentence', async (query) => {
  const { app } = await openEndpoint();
  const answer = await app.inject({ url: `/api/sessions?${query}` });
  expect(answer.statusCode).toBe(400);
  expect(answer.json<{ error: string }>().error).toMatch(/^Invalid /);
});

test('a mark is kept and given back', async () => {
  const { app } = await openEndpoint();
  const url = `/api/marks/main/${encodeURIComponent('bö/x')}`;
  expect((await app.inject({ url })).json()).toEqual({ mark: null });
  expect((await app.inject({ method: 'PUT', url, payload: { mark: 'm1' } })).statusCode).toBe(200);
  expect((await app.inject({ url })).json()).toEqual({ mark: 'm1' });
});

test.each([{}, { mark: '' }, { mark: 1 }, { mark: 'x', more: 1 }, { mark: 'x'.repeat(201) }])(
  'the mark %j is 400',
  async (payload) => {
    const { app } = await openEndpoint();
    const answer = await app.inject({ method: 'PUT', url: '/api/marks/main/box', payload });
    expect(answer.statusCode).toBe(400);
  },
);

test('the store says its id, and so does every answer', async () => {
  const { app, store } = await openEndpoint();
  const answer = await app.inject({ url: '/api/store' });
  expect(answer.json()).toEqual({ id: await store.id(), version: '1.2.3' });
  for (const url of ['/api/store', '/api/sessions', '/api/sessions/main/x', '/api/sessions/..x/y'])
    expect((await app.inject({ url })).headers['nexus-store']).toBe(await store.id());
});

test('the store says nothing to whom it does not know', async () => {
  const { key } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  for (const url of ['/api/store', '/healthz', '/readyz', '/nowhere'])
    expect((await app.inject({ url })).headers['nexus-store']).toBeUndefined();
});
