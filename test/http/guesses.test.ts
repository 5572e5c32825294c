import { expect, test } from 'vitest';
import { keyWith, openEndpoint } from './endpoint.ts';

const right = keyWith(['read']);

async function endpoint(proxies = 0) {
  let time = Date.parse('2026-11-23T10:00:00Z');
  const { app } = await openEndpoint({ keys: [right.key], now: () => new Date(time), proxies });
  const ask = (headers: Record<string, string>, url = '/api/store', remoteAddress = '127.0.0.1') =>
    app.inject({ url, headers, remoteAddress });
  async function guess(
    count: number,
    {
      headers = {},
      url,
      from,
    }: { headers?: Record<string, string>; url?: string; from?: string | undefined } = {},
  ) {
    const told: Record<string, number> = {};
    for (let n = 0; n < count; n++) {
      const answer = await ask({ 'x-functions-key': `guess-${n}`, ...headers }, url, from);
      expect(answer.json()).toEqual({ error: 'This key is not known here.' });
      const after = answer.headers['retry-after'];
      const status = `${answer.statusCode}${after === undefined ? '' : ', later'}`;
      told[status] = (told[status] ?? 0) + 1;
    }
    return told;
  }
  return { ask, guess, wait: (ms: number) => void (time += ms) };
}

test('after 60 wrong keys in a minute guesses are told when to come back, until there is room again', async () => {
  const { guess, wait } = await endpoint();
  expect(await guess(70)).toEqual({ '401': 60, '401, later': 10 });
  wait(1000);
  expect(await guess(2)).toEqual({ '401': 1, '401, later': 1 });
});

test('those of one address are nothing to another, of IPv6 those of one network', async () => {
  const { guess } = await endpoint();
  await guess(100, { from: '192.0.2.1' });
  expect(await guess(1, { from: '192.0.2.2' })).toEqual({ '401': 1 });
  await guess(60, { from: '2001:db8::1' });
  expect(await guess(1, { from: '2001:db8::2' })).toEqual({ '401, later': 1 });
});

test('behind a proxy the address is that of who asked it', async () => {
  const { guess } = await endpoint(1);
  const by = (address: string) => ({ from: '10.0.0.1', headers: { 'x-forwarded-for': address } });
  await guess(100, by('192.0.2.1'));
  expect(await guess(1, by('192.0.2.2'))).toEqual({ '401': 1 });
  expect(await guess(1, by('192.0.2.1'))).toEqual({ '401, later': 1 });
});

test('guesses at the metrics are counted with the others', async () => {
  const { guess } = await endpoint();
  expect(await guess(60)).toEqual({ '401': 60 });
  expect(await guess(1, { url: '/metrics' })).toEqual({ '401, later': 1 });
});

test('however many guess, the right key lets in', async () => {
  const { ask, guess } = await endpoint();
  await guess(100);
  expect((await ask({ 'x-functions-key': right.text })).statusCode).toBe(200);
});

test('who shows no key guesses nothing and hears that one is needed', async () => {
  const { ask, guess } = await endpoint();
  await guess(100);
  const answer = await ask({});
  expect([answer.statusCode, answer.headers['retry-after']]).toEqual([401, undefined]);
});
