import { describe, expect, test } from 'vitest';
import { openUsageClient } from '../../src/http/usageclient.ts';
import { composeMessage } from '../../src/openclaw/message.ts';
import { spend } from '../usage/spending.ts';
import { keyWith, listeningEndpoint, openEndpoint } from './endpoint.ts';

type Server = Awaited<ReturnType<typeof openEndpoint>>;

async function filled(options: Parameters<typeof openEndpoint>[0] = {}): Promise<Server> {
  const endpoint = await openEndpoint({ usage: true, ...options });
  await fill(endpoint);
  return endpoint;
}

async function fill({ store }: Pick<Server, 'store'>): Promise<void> {
  const cron = { trigger: 'cron', sessionKey: 'agent:main:cron:daily:run:1', host: 'box' };
  await spend(store, 'main', 'a', [{ at: '2026-11-10T10:00:00Z', tokens: 100, cost: 1 }], cron);
  await spend(store, 'main', 'b', [{ at: '2026-11-11T10:00:00Z', tokens: 200, cost: 2, model: '=cmd()' }]);
  await spend(store, 'work', 'c', [{ at: '2026-11-11T10:00:00Z', tokens: 400, cost: 4 }]);
  await spend(store, 'work', 'd', [{ at: '2026-11-12T10:00:00Z', tokens: 800, model: 'secret' }]);
}

async function ask({ app }: Server, url: string, headers: Record<string, string> = {}) {
  return await app.inject({ method: 'GET', url, headers: { host: '127.0.0.1', ...headers } });
}

describe('GET /api/usage', () => {
  test('sums by what is asked, with totals, coverage, as of when and whether that is all', async () => {
    const answer = await ask(await filled(), '/api/usage?by=agent,day');
    expect(answer.json()).toMatchObject({
      rows: [
        { agent: 'main', day: '2026-11-10', calls: 1, input: 100, total: 100, cost: 1 },
        { agent: 'main', day: '2026-11-11', cost: 2 },
        {
          agent: 'work',
          day: '2026-11-11',
          cost: 4,
          costCoverage: { recorded: 1, estimated: 0, unpriced: 0 },
        },
        { agent: 'work', day: '2026-11-12', cost: null, costCoverage: { recorded: 0, unpriced: 1 } },
      ],
      totals: { calls: 4, total: 1500, cost: 7 },
      asOf: expect.stringMatching(/^20.*Z$/),
      complete: true,
      coverage: { transcripts: 4, unread: 0 },
    });
    expect(answer.headers['nexus-all-read']).toBe('?1');
    expect(answer.headers['nexus-as-of']).toBe(answer.json().asOf);
  });

  test('has what was stored a moment before', async () => {
    const endpoint = await openEndpoint({ usage: true });
    await spend(endpoint.store, 'main', 'a', [{ cost: 1 }]);
    expect((await ask(endpoint, '/api/usage')).json().totals.cost).toBe(1);
  });

  test.each([
    ['agent=work', 4],
    ['agent=main,work', 7],
    ['agent=main&agent=work', 7],
    ['model=opus', 5],
    ['trigger=cron', 1],
    ['host=box', 1],
    ['job=daily', 1],
    ['session=main/b', 2],
    ['from=2026-11-11', 6],
    ['to=2026-11-10', 1],
    ['from=2026-11-11&to=2026-11-11', 6],
    ['to=2026-11-10&tz=Pacific/Kiritimati', 0],
  ])('takes the filter %s', async (query, cost) => {
    const { totals } = (await ask(await filled(), `/api/usage?${query}`)).json();
    expect(totals.cost).toBe(cost);
  });

  test.each([
    'by=colour',
    'from=yesterday',
    'from=2026-02-30',
    'from=2026-11-10T10:07',
    'tz=Mars/X',
    'last=7',
    'last=7d&from=2026-11-10',
    'from=2026-11-11&to=2026-11-10',
    'colour=red',
  ])('refuses %s with a sentence', async (query) => {
    const answer = await ask(await openEndpoint({ usage: true }), `/api/usage?${query}`);
    expect([answer.statusCode, answer.json().error]).toEqual([400, expect.stringMatching(/\.$/)]);
  });

  test('is CSV for who wants that more, without totals and without a formula', async () => {
    const endpoint = await filled();
    const csv = await ask(endpoint, '/api/usage?by=model&agent=main', { accept: 'text/csv, */*;q=0.1' });
    expect(csv.headers['content-type']).toMatch(/^text\/csv/);
    expect(csv.body.split('\r\n')).toEqual([
      'model,calls,input,output,cacheRead,cacheWrite,total,cost,costRecorded,costEstimated,recorded,estimated,unpriced',
      "'=cmd(),1,200,0,0,0,200,2,2,0,1,0,0",
      'opus,1,100,0,0,0,100,1,1,0,1,0,0',
      '',
    ]);
    expect((await ask(endpoint, '/api/usage', { accept: 'text/csv' })).body).toContain(
      '\r\n4,1500,0,0,0,1500,7,',
    );
    const both = { accept: 'application/json, text/csv;q=0.5' };
    expect((await ask(endpoint, '/api/usage', both)).json().totals.calls).toBe(4);
  });

  test('leaves empty a cost that nobody knows', async () => {
    const csv = await ask(await filled(), '/api/usage?by=model&model=secret', { accept: 'text/csv' });
    expect(csv.body.split('\r\n')[1]).toBe('secret,1,800,0,0,0,800,,0,0,0,0,1');
  });

  test('says so when something cannot be read', async () => {
    const endpoint = await filled();
    await ask(endpoint, '/api/usage');
    const { sessions } = endpoint;
    await sessions.append('main', 'odd', 0, Buffer.from('{broken\n'), { complete: true, about: {} });
    const { coverage } = (await ask(await again(endpoint), '/api/usage')).json();
    expect(coverage.oddities).toMatchObject([
      { kind: 'unparsable', count: 1, example: { agent: 'main', transcript: 'odd', line: 1 } },
    ]);
  });
});

/** After as long as it does not look for changes. */
async function again(endpoint: Server): Promise<Server> {
  await new Promise((resolve) => setTimeout(resolve, 3100));
  return endpoint;
}

describe('a key', () => {
  const worker = keyWith(['read'], ['work']);
  const sent = { 'x-functions-key': worker.text };

  test('of some agents sees and counts those alone, in rows, totals and coverage', async () => {
    const endpoint = await filled({ keys: [worker.key] });
    await endpoint.sessions.append('main', 'odd', 0, Buffer.from('{broken\n'), { complete: true, about: {} });
    const answer = (await ask(endpoint, '/api/usage?by=agent', sent)).json();
    expect(answer.rows.map(({ agent }: { agent: string }) => agent)).toEqual(['work']);
    expect(answer).toMatchObject({
      totals: { calls: 2, cost: 4 },
      coverage: { transcripts: 2, oddities: [] },
    });
    const sessions = (await ask(endpoint, '/api/usage/sessions', sent)).json();
    expect(sessions).toMatchObject({ found: 2, coverage: { transcripts: 2, oddities: [] } });
    expect(JSON.stringify(sessions)).not.toContain('main');
    expect((await ask(endpoint, '/api/usage?session=main/a', sent)).json().totals.calls).toBe(0);
    expect(JSON.stringify((await ask(endpoint, '/api/usage/top', sent)).json())).not.toContain('main');
  });

  test.each([
    '/api/usage?agent=main',
    '/api/usage?agent=work,main',
    '/api/usage/sessions?agent=main',
    '/api/usage/top?agent=main',
    '/api/usage/items/main.0abcdefgh0000aaaaaaaa',
  ])('of another agent is refused %s', async (url) => {
    const endpoint = await filled({ keys: [worker.key] });
    expect((await ask(endpoint, url, sent)).statusCode).toBe(403);
  });

  test('without the scope "read" is refused, and who has none is not let in', async () => {
    const uploader = keyWith(['upload', 'pull', 'webhook']);
    const endpoint = await openEndpoint({ usage: true, keys: [uploader.key] });
    for (const url of [
      '/api/usage',
      '/api/usage/sessions',
      '/api/usage/top',
      '/api/usage/items/main.0abcdefgh0000aaaaaaaa',
    ]) {
      expect((await ask(endpoint, url, { 'x-functions-key': uploader.text })).statusCode).toBe(403);
      expect((await ask(endpoint, url)).statusCode).toBe(401);
    }
  });

  test('may be in the query', async () => {
    const endpoint = await filled({ keys: [worker.key] });
    expect((await ask(endpoint, `/api/usage?code=${worker.text}`)).json().totals.calls).toBe(2);
  });
});

describe('GET /api/usage/sessions', () => {
  test('lists sessions with their cost, ordered, searched and paged', async () => {
    const endpoint = await filled();
    const list = async (query: string) =>
      (await ask(endpoint, `/api/usage/sessions?${query}`))
        .json()
        .sessions.map(({ session }: { session: string }) => session);
    expect(await list('')).toEqual(['c', 'b', 'a', 'd']);
    expect(await list('order=start&ascending=true')).toEqual(['a', 'b', 'c', 'd']);
    expect(await list('order=tokens&limit=1&offset=1')).toEqual(['c']);
    expect(await list('text=CRON:dai')).toEqual(['a']);
    expect(await list('uncalled=true&text=CRON:dai')).toEqual(['a']);
    expect((await ask(endpoint, '/api/usage/sessions?uncalled=perhaps')).statusCode).toBe(400);
    expect((await ask(endpoint, '/api/usage/sessions?limit=0')).statusCode).toBe(400);
    const { found, sessions } = (await ask(endpoint, '/api/usage/sessions?agent=main&limit=1')).json();
    expect([found, sessions.length]).toEqual([2, 1]);
  });
});

test('GET /api/usage/items/{id} says what handling a webhook has cost, and 404 when nobody knows', async () => {
  const endpoint = await openEndpoint({ usage: true });
  const id = 'main.0abcdefgh0000aaaaaaaa';
  const item = {
    id,
    source: 'github',
    receivedAt: '2026-11-10T10:00:00.000Z',
    bytes: 10,
    file: `/x/github_${id}.json`,
  };
  const message = composeMessage({
    batch: 'b-1',
    items: [item],
    sees: { directory: '/x', writable: true },
    inlineBytes: 0,
  });
  const asked = {
    type: 'message',
    id: '0',
    timestamp: '2026-11-10T10:00:00Z',
    message: { role: 'user', content: message },
  };
  await endpoint.sessions.append('main', 'hook', 0, Buffer.from(`${JSON.stringify(asked)}\n`), {
    complete: false,
    about: {},
  });
  await spend(endpoint.store, 'main', 'hook', [{ at: '2026-11-10T10:01:00Z', tokens: 70, cost: 0.25 }]);
  expect((await ask(endpoint, `/api/usage/items/${id}`)).json()).toMatchObject({
    id,
    sessions: ['main/hook'],
    sums: { cost: 0.25, total: 70 },
    items: 1,
    complete: true,
  });
  expect((await ask(endpoint, `/api/usage/items/${id.replace('aaaa', 'bbbb')}`)).statusCode).toBe(404);
  expect((await ask(endpoint, '/api/usage/items/nonsense')).statusCode).toBe(400);
});

test('an endpoint that keeps no index says so and serves the rest', async () => {
  const endpoint = await openEndpoint();
  expect((await ask(endpoint, '/api/usage')).statusCode).toBe(503);
  expect((await ask(endpoint, '/api/sessions')).statusCode).toBe(200);
});

test('the client tells what the endpoint told', async () => {
  const endpoint = await listeningEndpoint({ usage: true });
  await fill(endpoint);
  const client = openUsageClient({ endpoint: endpoint.url });
  const told = async (path: string): Promise<unknown> => await (await fetch(`${endpoint.url}${path}`)).json();
  expect(await client.query({ by: ['agent', 'model'], agent: ['work', 'main'], tz: 'Asia/Kolkata' })).toEqual(
    await told('/api/usage?by=agent,model&agent=main,work&tz=Asia/Kolkata'),
  );
  expect(await client.sessions({ order: 'tokens', ascending: true, limit: 3 })).toEqual(
    await told('/api/usage/sessions?order=tokens&ascending=true&limit=3'),
  );
  expect(await client.top({})).toEqual(await told('/api/usage/top'));
  expect(await client.costOf('main.0abcdefgh0000aaaaaaaa')).toBeUndefined();
  for (const model of [['a,b'], ['opus', 'a,b']])
    expect(await client.query({ model })).toEqual(
      await told(`/api/usage?${[...model, ...model].map((name) => `model=${name}`).join('&')}`),
    );
  expect((await client.query({ model: ['opus,haiku'] })).totals.calls).toBe(0);
  await expect(client.query({ model: [] })).rejects.toMatchObject({ code: 'invalid' });
  await expect(client.query({ tz: 'Mars/X' })).rejects.toMatchObject({ code: 'invalid' });
});
