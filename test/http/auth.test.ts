import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import type { Scope } from '../../src/keys.ts';
import { keyWith, openEndpoint } from './endpoint.ts';

const append = {
  'upload-offset': '0',
  'upload-complete': '?0',
  'content-type': 'application/partial-upload',
};
const json = { 'content-type': 'application/json' };

/** Each route that needs a caller, and the scopes that open it. */
const routes: [string, InjectOptions, Scope[]][] = [
  ['POST /api/sessions', { method: 'POST', url: '/api/sessions', payload: {} }, ['upload']],
  ['GET /api/sessions', { url: '/api/sessions?agentId=main' }, ['upload', 'read']],
  ['HEAD a transcript', { method: 'HEAD', url: '/api/sessions/main/x' }, ['upload', 'read']],
  ['GET a transcript', { url: '/api/sessions/main/x' }, ['upload', 'read']],
  [
    'PATCH a transcript',
    { method: 'PATCH', url: '/api/sessions/main/x', headers: append, payload: 'x' },
    ['upload'],
  ],
  ['GET a mark', { url: '/api/marks/main/box' }, ['upload']],
  [
    'PUT a mark',
    { method: 'PUT', url: '/api/marks/main/box', headers: json, payload: '{"mark":"m"}' },
    ['upload'],
  ],
  ['GET /api/store', { url: '/api/store' }, ['upload', 'pull', 'webhook', 'read']],
  ['GET what is pending', { url: '/api/webhook/pending?agentId=main' }, ['pull']],
  [
    'DELETE items',
    { method: 'DELETE', url: '/api/webhook/items', headers: json, payload: '{"ids":["main.000000000"]}' },
    ['pull'],
  ],
  ['GET items', { url: '/api/webhook/items?agentId=main' }, ['pull', 'read']],
  ['GET an item', { url: '/api/webhook/items/main.000000000' }, ['pull', 'read']],
  ['GET a body', { url: '/api/webhook/items/main.000000000/body' }, ['pull', 'read']],
  ['POST a replay', { method: 'POST', url: '/api/webhook/items/main.000000000/replay' }, ['pull']],
  ['GET mailboxes', { url: '/api/webhook/mailboxes?agentId=main' }, ['pull', 'read']],
  [
    'PUT the host of a mailbox',
    { method: 'PUT', url: '/api/webhook/mailboxes/main', headers: json, payload: '{"host":"box"}' },
    ['pull'],
  ],
];

const ofAnAgent = routes.filter(([name]) => !['POST /api/sessions', 'GET /api/store'].includes(name));

test.each(routes)('%s is 401 without a key and with a wrong one', async (_, request) => {
  const { app } = await openEndpoint({ keys: [keyWith(['upload', 'read']).key] });
  for (const headers of [{}, { 'x-functions-key': 'wrong' }, { 'x-functions-key': '' }])
    expect((await app.inject({ ...request, headers: { ...request.headers, ...headers } })).statusCode).toBe(
      401,
    );
});

test.each(routes)('%s opens to its scopes and is 403 to the others', async (_, request, scopes) => {
  for (const scope of ['upload', 'pull', 'webhook', 'read'] as const) {
    const { key, text } = keyWith([scope]);
    const { app } = await openEndpoint({ keys: [key] });
    const headers = { ...request.headers, 'x-functions-key': text };
    const { statusCode } = await app.inject({ ...request, headers });
    const opens = statusCode !== 401 && statusCode !== 403 && statusCode !== 405;
    expect({ scope, opens, refused: statusCode === 403 }).toEqual({
      scope,
      opens: scopes.includes(scope),
      refused: !scopes.includes(scope),
    });
  }
});

test.each(ofAnAgent)("%s is 403 for an agent that is not the key's", async (_, request) => {
  const { key, text } = keyWith(['upload', 'read', 'pull'], ['other']);
  const { app } = await openEndpoint({ keys: [key] });
  const headers = { ...request.headers, 'x-functions-key': text };
  expect((await app.inject({ ...request, headers })).statusCode).toBe(403);
});

test('a key in the query is as good as one in the header', async () => {
  const { key, text } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  expect((await app.inject({ url: `/api/sessions?code=${text}` })).statusCode).toBe(200);
  expect((await app.inject({ url: '/api/sessions?code=wrong' })).statusCode).toBe(401);
});

test('with a key in the header the query is ignored', async () => {
  const { key, text } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  const url = `/api/sessions?code=${text}`;
  expect((await app.inject({ url, headers: { 'x-functions-key': 'wrong' } })).statusCode).toBe(401);
  expect((await app.inject({ url, headers: { 'x-functions-key': '' } })).statusCode).toBe(401);
});

test('a key that is given twice is none', async () => {
  const { key, text } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  expect((await app.inject({ url: `/api/sessions?code=${text}&code=${text}` })).statusCode).toBe(401);
});

test('the hash of a key is no key', async () => {
  const { key } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  expect((await app.inject({ url: '/api/store', headers: { 'x-functions-key': key.hash } })).statusCode).toBe(
    401,
  );
});

test('keys come and go while it runs', async () => {
  const [first, second] = [keyWith(['read']), keyWith(['read'])];
  const keys = [first.key];
  const { app } = await openEndpoint({ keys });
  const asked = (text: string) => app.inject({ url: '/api/store', headers: { 'x-functions-key': text } });
  expect((await asked(second.text)).statusCode).toBe(401);
  keys.splice(0, 1, second.key);
  expect((await asked(second.text)).statusCode).toBe(200);
  expect((await asked(first.text)).statusCode).toBe(401);
});

test('a body is not asked for before its sender is known', async () => {
  const { app, sessions } = await openEndpoint({ keys: [keyWith(['upload']).key] });
  const url = '/api/sessions/main/x';
  expect((await app.inject({ method: 'PATCH', url, headers: append, payload: 'x' })).statusCode).toBe(401);
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('without keys this machine may do everything', async () => {
  const { app } = await openEndpoint();
  expect((await app.inject({ url: '/api/sessions' })).statusCode).toBe(200);
});

test.each([
  ['x-forwarded-for', '203.0.113.9'],
  ['x-forwarded-for', '127.0.0.1'],
  ['x-forwarded-host', 'nexus.example'],
  ['x-forwarded-proto', 'https'],
  ['forwarded', 'for=127.0.0.1'],
  ['via', '1.1 proxy'],
  ['x-real-ip', '127.0.0.1'],
  ['cf-connecting-ip', '203.0.113.9'],
  ['host', 'nexus.example'],
  ['host', '192.168.1.5:7788'],
  ['host', '127.0.0.1.nexus.example'],
  ['host', 'localhost.nexus.example'],
  ['host', '[2001:db8::1]'],
  ['origin', 'https://evil.example'],
  ['origin', 'null'],
  ['origin', 'http://localhost:9999'],
  ['origin', 'https://localhost:80'],
  ['sec-fetch-site', 'cross-site'],
  ['sec-fetch-site', 'same-site'],
])('without keys a request with %s: %s is 403 and told why', async (name, value) => {
  const { app } = await openEndpoint();
  const answer = await app.inject({ url: '/api/sessions', headers: { [name]: value } });
  expect(answer.statusCode).toBe(403);
  expect(answer.json<{ error: string }>().error).toMatch(/^Without any key /);
});

test.each([
  ['host', 'localhost'],
  ['host', 'LOCALHOST:7788'],
  ['host', '127.0.0.1:7788'],
  ['host', '127.8.9.1'],
  ['host', '[::1]:7788'],
  ['host', 'nexus.localhost:7788'],
  ['origin', 'http://localhost:80'],
  ['sec-fetch-site', 'same-origin'],
])('without keys a request with %s: %s is let in', async (name, value) => {
  const { app } = await openEndpoint();
  expect((await app.inject({ url: '/api/sessions', headers: { [name]: value } })).statusCode).toBe(200);
});

test('without keys another machine is 403', async () => {
  const { app } = await openEndpoint();
  for (const remoteAddress of ['203.0.113.9', '::ffff:203.0.113.9'])
    expect((await app.inject({ url: '/api/sessions', remoteAddress })).statusCode).toBe(403);
  for (const remoteAddress of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
    expect((await app.inject({ url: '/api/sessions', remoteAddress })).statusCode).toBe(200);
});

test('with a key a proxy may stand in between', async () => {
  const { key, text } = keyWith(['read']);
  const { app } = await openEndpoint({ keys: [key] });
  const headers = { 'x-functions-key': text, 'x-forwarded-for': '203.0.113.9', host: 'nexus.example' };
  expect((await app.inject({ url: '/api/sessions', headers })).statusCode).toBe(200);
});
