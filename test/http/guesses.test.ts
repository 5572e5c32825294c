import { expect, test } from 'vitest';
import { keyWith, openEndpoint } from './endpoint.ts';

const right = keyWith(['read']);

async function endpoint(proxies = 0) {
  let time = Date.parse('2026-11-23T10:00:00Z');
  const { app } = await openEndpoint({ keys: [right.key], now: () => new Date(time), proxies });
  const ask = async (headers: Record<string, string>, url = '/api/store') =>
    (await app.inject({ url, headers })).statusCode;
  async function guess(count: number, headers: Record<string, string> = {}, url?: string) {
    const statuses: Record<number, number> = {};
    for (let n = 0; n < count; n++) {
      const status = await ask({ 'x-functions-key': `guess-${n}`, ...headers }, url);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    return statuses;
  }
  return { ask, guess, wait: (ms: number) => void (time += ms) };
}

test('after 60 wrong keys in a minute guesses are 429, until there is room again', async () => {
  const { guess, wait } = await endpoint();
  expect(await guess(70)).toEqual({ 401: 60, 429: 10 });
  wait(1000);
  expect(await guess(2)).toEqual({ 401: 1, 429: 1 });
});

test('guesses at the metrics are counted with the others', async () => {
  const { guess } = await endpoint();
  expect(await guess(60)).toEqual({ 401: 60 });
  expect(await guess(1, {}, '/metrics')).toEqual({ 429: 1 });
});

test('however many guess, the right key lets in', async () => {
  const { ask, guess } = await endpoint();
  await guess(100);
  expect(await ask({ 'x-functions-key': right.text })).toBe(200);
});

test('who shows no key guesses nothing and hears that one is needed', async () => {
  const { ask, guess } = await endpoint();
  await guess(100);
  expect(await ask({})).toBe(401);
});
