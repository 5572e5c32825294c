import { once } from 'node:events';
import net from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { serve } from '../../src/http/listen.ts';
import { isLoopback } from '../../src/http/loopback.ts';
import { temporaryStore } from '../port/local.ts';
import { keyWith, listeningEndpoint } from './endpoint.ts';
import { nounsOver } from './nouns.ts';

async function refused(host: string, port: number): Promise<unknown> {
  const { store, remove } = await temporaryStore();
  onTestFinished(remove);
  const { signal } = new AbortController();
  const options = { ...nounsOver(store), keys: () => [], version: '0', host, port, signal };
  return serve(options).then(
    () => 'it listens',
    (error: unknown) => error,
  );
}

test.each(['0.0.0.0', '::', '192.0.2.1', 'nexus.example', ''])(
  'without keys it does not listen on %j',
  async (host) => {
    expect(await refused(host, 0)).toMatchObject({
      code: 'config',
      message: expect.stringContaining('nexus keys add'),
    });
  },
);

test('with a key it listens on every address', async () => {
  const { key, text } = keyWith(['read']);
  const { port } = await listeningEndpoint({ host: '0.0.0.0', keys: [key] });
  const answer = await fetch(`http://127.0.0.1:${port}/api/store?code=${text}`);
  expect(answer.status).toBe(200);
});

test('it tells the address that it got', async () => {
  const { url, port, host } = await listeningEndpoint({ host: 'localhost' });
  expect(port).toBeGreaterThan(0);
  expect(isLoopback(host)).toBe(true);
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('an address that is taken is unavailable, and named', async () => {
  const other = net.createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  onTestFinished(() => void other.close());
  const address = other.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  expect(await refused('127.0.0.1', port)).toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining(`127.0.0.1:${port}`),
  });
});

test('a signal that has come already stops it at once', async () => {
  const { store, remove } = await temporaryStore();
  onTestFinished(remove);
  const options = { ...nounsOver(store), keys: () => [], version: '0', host: '127.0.0.1', port: 0 };
  const { url, closed } = await serve({ ...options, signal: AbortSignal.abort() });
  await closed;
  await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed');
});

test.each([
  'localhost',
  'LOCALHOST.',
  'a.localhost',
  '127.0.0.1',
  '127.255.0.3',
  '::1',
  '[::1]',
  '::ffff:127.0.0.1',
])('%s is loopback', (host) => {
  expect(isLoopback(host)).toBe(true);
});

test.each([
  '',
  '0.0.0.0',
  '::',
  '10.0.0.1',
  '127.0.0.1.example',
  'localhost.example',
  'xlocalhost',
  '::ffff:10.0.0.1',
])('%j is not loopback', (host) => {
  expect(isLoopback(host)).toBe(false);
});
