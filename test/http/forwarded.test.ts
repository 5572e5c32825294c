import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import { askerOf } from '../../src/http/forwarded.ts';
import { keyWith, openEndpoint } from './endpoint.ts';
import { post } from './senders.ts';

const proxy = '10.0.0.4';

test.each([
  ['without a proxy, whatever the header says', 0, '203.0.113.9', proxy],
  ['as Container Apps writes it', 1, '203.0.113.9', '203.0.113.9'],
  ['with the port that App Service adds', 1, '203.0.113.9:50123', '203.0.113.9'],
  ['what the asker made up stands before it', 1, '127.0.0.1, 203.0.113.9:50123', '203.0.113.9'],
  ['behind two proxies', 2, '198.51.100.1, 203.0.113.9, 10.0.0.9', '203.0.113.9'],
  ['of IPv6', 1, '2001:db8::7', '2001:db8::7'],
  ['of IPv6 with a port', 1, '[2001:db8::7]:50123', '2001:db8::7'],
  ['the proxy itself where fewer have written than there are', 2, '203.0.113.9', proxy],
  ['the proxy itself where it is no address', 1, 'unknown', proxy],
  ['the proxy itself where it is empty', 1, '', proxy],
])('who asks: %s', (_, proxies, header, asker) => {
  expect(askerOf(proxy, header, proxies)).toBe(asker);
});

test('a header that came twice counts as one', () => {
  expect(askerOf(proxy, ['198.51.100.1', '203.0.113.9'], 1)).toBe('203.0.113.9');
});

const { key, text } = keyWith(['webhook']);

/** How somebody at `asker` is answered behind the proxy, after 60 have failed at 203.0.113.9, each under a name of its own. */
async function afterMany(proxies: number, asker: string): Promise<number> {
  const { app } = await openEndpoint({ keys: [key], proxies });
  const ask = async (request: InjectOptions, from: string) => {
    const headers = { ...request.headers, 'x-forwarded-for': `127.0.0.1, ${from}:50123` };
    return (await app.inject({ ...request, headers, remoteAddress: proxy })).statusCode;
  };
  for (let n = 1; n <= 60; n++) await ask(post(`s${n}`), '203.0.113.9');
  return await ask(post('s0'), asker);
}

test('behind a trusted proxy those who fail stand for themselves alone', async () => {
  expect(await afterMany(1, '203.0.113.9')).toBe(429);
  expect(await afterMany(1, '203.0.113.10')).toBe(401);
});

test('a proxy that is not trusted is who asks, whatever it says', async () => {
  expect(await afterMany(0, '203.0.113.10')).toBe(429);
});

test('a forwarding header never opens an endpoint that has no key', async () => {
  const { app } = await openEndpoint({ proxies: 1 });
  for (const from of ['127.0.0.1', '::1', '203.0.113.9']) {
    const answer = await app.inject({ url: '/api/sessions', headers: { 'x-forwarded-for': from } });
    expect(answer.statusCode).toBe(403);
  }
  const outside = { url: '/api/sessions', remoteAddress: proxy, headers: { 'x-forwarded-for': '127.0.0.1' } };
  expect((await app.inject(outside)).statusCode).toBe(403);
});

test('with a key the header changes nothing about who may', async () => {
  const { app } = await openEndpoint({ keys: [key], proxies: 1 });
  const asked = (headers: Record<string, string>) =>
    app.inject({ url: '/api/webhook/main?source=x', method: 'POST', payload: '', headers });
  expect((await asked({ 'x-forwarded-for': '127.0.0.1' })).statusCode).toBe(401);
  expect((await asked({ 'x-forwarded-for': '203.0.113.9', 'x-functions-key': text })).statusCode).toBe(202);
});
