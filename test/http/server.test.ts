import { expect, test, vi } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { requestEntry } from '../../src/http/log.ts';
import type { Facts } from '../../src/logline.ts';
import { keyWith, openEndpoint } from './endpoint.ts';

test('health is told to anybody', async () => {
  const { app } = await openEndpoint({ keys: [keyWith(['read']).key] });
  const headers = { host: 'nexus.example', 'x-forwarded-for': '203.0.113.9' };
  const answer = await app.inject({ url: '/healthz', headers });
  expect([answer.statusCode, answer.json()]).toEqual([200, { status: 'ok', version: '1.2.3' }]);
  expect((await app.inject({ method: 'HEAD', url: '/healthz' })).statusCode).toBe(200);
});

test('readiness is that the store answers', async () => {
  const { app } = await openEndpoint();
  expect((await app.inject({ url: '/readyz' })).statusCode).toBe(200);
});

test('a store that fails is not ready, and its reason is told to the log alone', async () => {
  const reason = new NexusError('unavailable', 'The disk behind /secret/place is gone.');
  const endpoint = await openEndpoint({
    over: (sessions) => ({ ...sessions, stat: () => Promise.reject(reason) }),
  });
  const answer = await endpoint.app.inject({ url: '/readyz' });
  expect([answer.statusCode, answer.json()]).toEqual([503, { error: 'The store does not answer.' }]);
  expect(answer.headers['retry-after']).toBeDefined();
  expect(endpoint.log.join('')).toContain('/secret/place');
});

test('a store that is silent for too long is not ready', async () => {
  const { app } = await openEndpoint({
    limits: { readyMs: 50 },
    over: (sessions) => ({ ...sessions, stat: () => new Promise(() => {}) }),
  });
  expect((await app.inject({ url: '/readyz' })).statusCode).toBe(503);
});

test('many who ask for readiness are one question to the store', async () => {
  const stat = vi.fn(() => Promise.resolve(undefined));
  const { app } = await openEndpoint({ over: (sessions) => ({ ...sessions, stat }) });
  await Promise.all(Array.from({ length: 20 }, () => app.inject({ url: '/readyz' })));
  expect(stat.mock.calls.length).toBeLessThan(20);
});

test('an unknown path is 404 in JSON', async () => {
  const { app } = await openEndpoint();
  for (const url of ['/', '/api', '/api/sessions/a/b/c', '/api/nothing?x=1']) {
    const answer = await app.inject({ url });
    expect([answer.statusCode, answer.json()]).toEqual([404, { error: 'There is nothing at this path.' }]);
  }
});

test('a wrong method is 405 and tells the right ones', async () => {
  const { app } = await openEndpoint();
  const answer = await app.inject({ method: 'DELETE', url: '/api/sessions/main/x?y' });
  expect([answer.statusCode, answer.headers['allow']]).toEqual([405, 'GET, HEAD, PATCH']);
  expect(answer.json()).toHaveProperty('error');
});

test.each(['/api/sessions/main/%zz', '/%ff', '/api/%'])('%s is refused with a sentence', async (url) => {
  const { app } = await openEndpoint();
  const answer = await app.inject({ url });
  expect(answer.statusCode).toBeOneOf([400, 404]);
  expect(Object.keys(answer.json<object>())).toContain('error');
  expect(answer.body).not.toContain('FST_');
});

test('a name beyond all length is refused with a sentence', async () => {
  const { app } = await openEndpoint();
  const answer = await app.inject({ url: `/api/sessions/main/${'x'.repeat(2000)}` });
  expect([answer.statusCode, answer.json()]).toEqual([400, { error: 'A name in the URL is too long.' }]);
});

test('answers are not kept by caches and not guessed at by browsers', async () => {
  const { app } = await openEndpoint();
  for (const url of ['/api/store', '/healthz', '/nowhere'])
    expect((await app.inject({ url })).headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
});

test('no key comes into the log, whatever became of the request', async () => {
  const { key, text } = keyWith(['read']);
  const endpoint = await openEndpoint({
    keys: [key],
    over: (sessions) => ({ ...sessions, stat: () => Promise.reject(new Error('bug')) }),
  });
  for (const code of [text, 'nxk_wrong'])
    for (const path of [
      '/api/sessions',
      '/api/sessions/main/x',
      '/nowhere',
      '/api/%zz',
      '/api/sessions/%2e/y',
    ]) {
      await endpoint.app.inject({ url: `${path}?code=${code}` });
      await endpoint.app.inject({ url: path, headers: { 'x-functions-key': code } });
      await endpoint.app.inject({ method: 'POST', url: `${path}?code=${code}`, payload: '{' });
    }
  expect(endpoint.log.length).toBeGreaterThan(10);
  expect(endpoint.log.join('')).not.toContain('nxk_');
});

test('a request is one entry: its route and not its URL, its status, time, bytes and caller', async () => {
  const { key, text } = keyWith(['read', 'upload']);
  const { app, log } = await openEndpoint({ keys: [key] });
  const asked = { headers: { 'x-functions-key': text } };
  await app.inject({ url: '/api/sessions/canary/canary?code=canary', ...asked });
  await app.inject({ method: 'POST', url: '/api/sessions?canary', payload: 'canary!', ...asked });
  await app.inject({ url: '/api/sessions?agentId=canary', ...asked });
  await app.inject({ url: '/canary', ...asked });
  expect(log.join('')).not.toContain('canary?');
  const entries = log.map((line) => JSON.parse(line));
  expect(entries).toMatchObject([
    {
      level: 'info',
      message: 'GET /api/sessions/:agentId/:transcript 404',
      facts: { request: 'req-1', method: 'GET', route: '/api/sessions/:agentId/:transcript', status: 404 },
    },
    { message: 'POST /api/sessions 415', facts: { code: 'unsupported', key: 'read-upload-key' } },
    { message: 'GET /api/sessions 200', facts: { status: 200, key: 'read-upload-key' } },
    { message: 'GET (no route) 404', facts: { status: 404, bytes: 42 } },
  ]);
  expect(entries.every(({ facts }) => typeof facts.ms === 'number')).toBe(true);
});

test('what monitors ask all day is for who looks closely, while it is well', async () => {
  const { app, log } = await openEndpoint();
  await app.inject({ url: '/healthz' });
  await app.inject({ url: '/readyz' });
  await app.inject({ url: '/metrics' });
  await app.inject({ url: '/api/store' });
  expect(log.map((line) => JSON.parse(line).level)).toEqual(['debug', 'debug', 'debug', 'info']);
});

test('a person at a terminal gets a short line', () => {
  const asked = { method: 'POST', route: '/api/webhook/:agentId', request: 'req-1', ms: 2.3, bytes: 1 };
  const at = new Date('2026-11-23T10:00:00.123Z');
  const shown = (status: number | undefined, facts: Facts) =>
    requestEntry({ ...asked, status, facts }, at).shown;
  expect([
    shown(202, { source: 'github', item: 'main.0mwt6', key: 'k' }),
    shown(401, { reason: 'It is too old.' }),
    shown(undefined, {}),
  ]).toEqual([
    '10:00:00.123 POST /api/webhook/:agentId 202 2 ms (k) github → main.0mwt6',
    '10:00:00.123 POST /api/webhook/:agentId 401 2 ms It is too old.',
    '10:00:00.123 POST /api/webhook/:agentId gone 2 ms',
  ]);
});
