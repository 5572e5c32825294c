import fs from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import { expect, test, vi } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { type ClientOptions, openClient } from '../../src/http/client.ts';
import { pauseAfter, retryAfterMs } from '../../src/http/retry.ts';
import { digestFieldOf } from '../../src/http/wire.ts';
import { makeKey } from '../../src/keys.ts';
import type { Nexus } from '../../src/nexus.ts';
import { keyWith, listeningEndpoint } from './endpoint.ts';
import { badWayTo, type Fault, type Seen } from './faults.ts';

const retries = { tries: 3, baseMs: 1, maxMs: 2 };
const more = { complete: false, about: {} };
const bytes = Buffer.from('0123456789');

interface Way {
  client: Nexus;
  seen: Seen[];
  /** The real thing behind the faults. */
  sessions: Nexus;
}

async function way(faults: Fault[], options: Partial<ClientOptions> = {}): Promise<Way> {
  const { url: target, sessions } = await listeningEndpoint();
  const { url, seen } = await badWayTo(target, faults);
  return { client: openClient({ endpoint: url, retries, ...options }), seen, sessions };
}

async function failure(promise: Promise<unknown>): Promise<NexusError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof NexusError) return error;
    throw error;
  }
  throw new Error('it was expected to fail');
}

async function readAll(client: Nexus, from?: number, to?: number): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of client.read('main', 'x', from, to)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const unavailable: Fault = { status: 503, body: '{"error":"The disk is full."}' };

test.each<[string, Fault]>([
  ['a reset', 'reset before'],
  ['a 503', unavailable],
  ['a 500', { status: 500 }],
  ['a 502 in HTML', { status: 502, body: '<html>bad gateway</html>' }],
  ['a 429', { status: 429, headers: { 'retry-after': '0' } }],
  ['a 408', { status: 408 }],
])('after %s it is tried again', async (_, fault) => {
  const { client, seen, sessions } = await way([fault, fault]);
  expect(await client.append('main', 'x', 0, bytes, more)).toBe(10);
  expect(seen).toHaveLength(3);
  expect((await sessions.stat('main', 'x'))?.length).toBe(10);
});

test('after all tries it is unavailable, with the endpoint and the last cause', async () => {
  const { client, seen } = await way(['reset before', unavailable, unavailable]);
  const error = await failure(client.stat('main', 'x'));
  expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining('http://127.0.0.1:') });
  expect(error.message).toContain('HTTP 503');
  expect(seen).toHaveLength(3);
});

test("the endpoint's own sentence is part of the last cause", async () => {
  const { client } = await way([unavailable, unavailable, unavailable]);
  expect((await failure(client.mark('main', 'box'))).message).toContain('The disk is full.');
});

test('an endpoint that nobody listens on is unavailable and says ECONNREFUSED', async () => {
  const { url, stop, closed } = await listeningEndpoint();
  stop();
  await closed;
  const client = openClient({ endpoint: url, retries });
  expect(await failure(client.storeId())).toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('ECONNREFUSED'),
  });
});

test('an append whose answer is lost is a conflict that tells the true length, and stored once', async () => {
  const { client, sessions } = await way(['reset after']);
  expect(await failure(client.append('main', 'x', 0, bytes, more))).toMatchObject({
    code: 'conflict',
    length: 10,
  });
  expect((await sessions.stat('main', 'x'))?.length).toBe(10);
});

test.each<[number, string]>([
  [400, 'invalid'],
  [401, 'unauthorized'],
  [403, 'forbidden'],
  [413, 'too_large'],
  [415, 'unsupported'],
  [418, 'invalid'],
])('a %d is %s with the sentence it came with, and not tried again', async (status, code) => {
  const { client, seen } = await way([{ status, body: '{"error":"Because."}' }]);
  expect(await failure(client.append('main', 'x', 0, bytes, more))).toMatchObject({
    code,
    message: 'Because.',
  });
  expect(seen).toHaveLength(1);
});

test.each([404, 409, 416])('a %d that is not from Nexus is not believed', async (status) => {
  const { client } = await way([{ status, body: 'not here', headers: { 'upload-offset': '10' } }]);
  expect(await failure(client.stat('main', 'x'))).toMatchObject({ code: 'unavailable' });
});

test.each<[string, Fault]>([
  ['a login page', { status: 200, body: '<html>please log in</html>' }],
  ['an empty 204', { status: 204 }],
])('%s is not taken for success', async (_, fault) => {
  const { client, sessions } = await way([fault, fault, fault]);
  expect(await failure(client.append('main', 'x', 0, bytes, more))).toMatchObject({ code: 'unavailable' });
  expect(await failure(client.stat('main', 'x'))).toMatchObject({ code: 'unavailable' });
  expect(await failure(client.mark('main', 'box'))).toMatchObject({ code: 'unavailable' });
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('an answer that tells another length than was sent is not taken for success', async () => {
  const { client, sessions } = await way([]);
  const id = await sessions.storeId();
  const lying = await way([{ status: 204, headers: { 'nexus-store': id, 'upload-offset': '3' } }]);
  expect(await failure(lying.client.append('main', 'x', 0, bytes, more))).toMatchObject({
    code: 'unavailable',
  });
  expect(await client.storeId()).toBe(id);
});

test('a redirect is not followed, and the key not carried there', async () => {
  const elsewhere = await badWayTo('http://127.0.0.1:1', [{ status: 200 }]);
  const redirect: Fault = { status: 307, headers: { location: `${elsewhere.url}/` } };
  const { client } = await way([redirect], { key: makeKey() });
  expect(await failure(client.stat('main', 'x'))).toMatchObject({ code: 'config' });
  expect(elsewhere.seen).toEqual([]);
});

test('another store at the same endpoint is noticed, and nothing is taken for shipped there', async () => {
  const other: Fault = { status: 204, headers: { 'nexus-store': 'other-store', 'upload-offset': '10' } };
  const { client } = await way(['pass', other]);
  await client.storeId();
  const error = await failure(client.append('main', 'x', 0, bytes, more));
  expect(error).toMatchObject({ code: 'unavailable', message: expect.stringContaining('another store') });
});

test('absence and conflict in another store are not believed either', async () => {
  const facts = { 'nexus-store': 'other-store' };
  const absent: Fault = { status: 404, headers: { ...facts, 'nexus-error': 'not_found' } };
  const conflict: Fault = {
    status: 409,
    headers: { ...facts, 'nexus-error': 'conflict', 'upload-offset': '0' },
  };
  const { client } = await way(['pass', absent, conflict]);
  await client.storeId();
  expect(await failure(client.stat('main', 'x'))).toMatchObject({ code: 'unavailable' });
  expect(await failure(client.append('main', 'x', 1, bytes, more))).toMatchObject({ code: 'unavailable' });
});

test('the store is asked for once', async () => {
  const { client, seen, sessions } = await way([]);
  expect(await client.storeId()).toBe(await sessions.storeId());
  expect(await client.storeId()).toBe(await sessions.storeId());
  expect(seen).toHaveLength(1);
});

test('a body cut short is taken up where it stopped', async () => {
  const { client, sessions, seen } = await way([{ cutAt: 3 }, { cutAt: 0 }, { cutAt: 4 }]);
  await sessions.append('main', 'x', 0, bytes, more);
  expect(await readAll(client)).toBe('0123456789');
  expect(seen.map(({ headers }) => headers.range)).toEqual([
    undefined,
    'bytes=3-9',
    'bytes=3-9',
    'bytes=7-9',
  ]);
});

test('a transcript that grows while its reading is taken up is read as it was', async () => {
  const { client, sessions } = await way([{ cutAt: 3 }]);
  await sessions.append('main', 'x', 0, bytes, more);
  let text = '';
  for await (const piece of client.read('main', 'x')) {
    text += Buffer.from(piece).toString();
    if (text === '012') await sessions.append('main', 'x', 10, Buffer.from('more'), more);
  }
  expect(text).toBe('0123456789');
});

test('a body that goes silent is taken up where it stopped', async () => {
  const { client, sessions } = await way([{ stallAt: 4 }], { timeoutMs: 100 });
  await sessions.append('main', 'x', 0, bytes, more);
  expect(await readAll(client, 1)).toBe('123456789');
});

test('a body that never gets anywhere is unavailable', async () => {
  const { client, sessions } = await way([{ cutAt: 0 }, { cutAt: 0 }, { cutAt: 0 }]);
  await sessions.append('main', 'x', 0, bytes, more);
  expect(await failure(readAll(client))).toMatchObject({ code: 'unavailable' });
});

test('a listing or a mark cut short is asked for again', async () => {
  const { client, sessions } = await way([{ cutAt: 9 }, 'pass', { cutAt: 3 }]);
  await sessions.append('main', 'x', 0, bytes, more);
  await sessions.setMark('main', 'box', 'm1');
  const cards = [];
  for await (const card of client.list()) cards.push(card.transcript);
  expect(cards).toEqual(['x']);
  expect(await client.mark('main', 'box')).toBe('m1');
});

test('an endpoint that never answers is given up after the time for a try', async () => {
  const { client, seen } = await way(['stall', 'stall'], { timeoutMs: 60 });
  expect(await client.stat('main', 'x')).toBeUndefined();
  expect(seen).toHaveLength(3);
});

test('an endpoint that goes silent over a digest is given up after the time that its bytes may take', async () => {
  const { client, sessions, seen } = await way(['pass', 'stall', 'stall'], { timeoutMs: 1000 });
  await sessions.append('main', 'x', 0, bytes, more);
  const card = await client.stat('main', 'x', { digest: 'reread' });
  expect(card).toMatchObject({ length: bytes.length, digest: expect.any(String) });
  expect(seen).toHaveLength(4);
});

test('a digest that is known is asked for once', async () => {
  const { client, sessions, seen } = await way([]);
  await sessions.append('main', 'x', 0, bytes, more);
  expect(await client.stat('main', 'x', { digest: 'stored' })).toHaveProperty('digest');
  expect(seen).toHaveLength(1);
});

test('the signal ends a request under way, with its own reason', async () => {
  const stop = new AbortController();
  const { client } = await way(['stall'], { signal: stop.signal });
  const waiting = client.stat('main', 'x');
  setTimeout(() => stop.abort(new Error('stopped by hand')), 30);
  await expect(waiting).rejects.toThrow('stopped by hand');
});

test('the signal ends the pause between tries', async () => {
  const stop = new AbortController();
  const asked: Fault = { status: 503, headers: { 'retry-after': '60' } };
  const { client, seen } = await way([asked], { signal: stop.signal });
  const waiting = client.stat('main', 'x');
  const ended = waiting.catch(String);
  await vi.waitFor(() => expect(seen).toHaveLength(1), { timeout: 5000 });
  setTimeout(() => stop.abort(new Error('stopped by hand')), 50);
  expect(await ended).toContain('stopped by hand');
  expect(seen).toHaveLength(1);
});

test('Retry-After is kept, in seconds and as a date', async () => {
  const now = new Date('2026-11-23T10:00:00Z');
  expect(retryAfterMs('7', now)).toBe(7000);
  expect(retryAfterMs('Mon, 23 Nov 2026 10:00:30 GMT', now)).toBe(30_000);
  expect(retryAfterMs('Mon, 23 Nov 2026 09:00:00 GMT', now)).toBe(0);
  expect(retryAfterMs('soon', now)).toBeUndefined();
  expect(retryAfterMs(null, now)).toBeUndefined();
  const { client } = await way([{ status: 503, headers: { 'retry-after': '1' } }]);
  const began = performance.now();
  await client.stat('main', 'x');
  expect(performance.now() - began).toBeGreaterThan(990);
});

test('the pause grows to its limit, is anything below it, and no longer than Retry-After or 5 minutes ask', () => {
  const times = { tries: 6, baseMs: 500, maxMs: 30_000 };
  const most = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => pauseAfter(n, times, undefined, () => 1));
  expect(most).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  expect(pauseAfter(3, times, undefined, () => 0)).toBe(0);
  expect(pauseAfter(3, times, 7000, () => 0)).toBe(7000);
  expect(pauseAfter(3, times, 3_600_000, () => 1)).toBe(300_000);
});

test('every append carries the digest of what is sent', async () => {
  const { client, seen } = await way([]);
  await client.append('main', 'x', 0, bytes, more);
  expect(seen[0]?.headers['content-digest']).toBe(digestFieldOf(bytes));
});

test('bytes changed on the way are refused and not stored', async () => {
  const { sessions, client } = await way([], {
    fetch: (url, init) =>
      fetch(url, { ...init, body: init?.method === 'PATCH' ? Buffer.from('0123456780') : null }),
  });
  expect(await failure(client.append('main', 'x', 0, bytes, more))).toMatchObject({ code: 'invalid' });
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('what is worth it is compressed on the way to another machine', async () => {
  const { client, seen, sessions } = await way([], { compress: true });
  const long = Buffer.from('line\n'.repeat(1000));
  await client.append('main', 'x', 0, long, more);
  expect(seen[0]?.headers['content-encoding']).toBe('zstd');
  expect(seen[0]?.headers['content-digest']).toBe(digestFieldOf(seen[0]?.body ?? Buffer.alloc(0)));
  expect(zstdDecompressSync(seen[0]?.body ?? Buffer.alloc(0)).equals(long)).toBe(true);
  expect((await sessions.stat('main', 'x'))?.length).toBe(5000);
  await client.append('main', 'x', 5000, bytes, more);
  expect(seen[1]?.headers['content-encoding']).toBeUndefined();
});

test('on this machine nothing is compressed', async () => {
  const { client, seen } = await way([]);
  await client.append('main', 'x', 0, Buffer.alloc(5000), more);
  expect(seen[0]?.headers['content-encoding']).toBeUndefined();
});

test('an endpoint below a path is asked below that path', async () => {
  const { url, seen } = await badWayTo('http://127.0.0.1:1', [
    { status: 200, headers: { 'nexus-store': 's' }, body: '{"mark":"m"}' },
  ]);
  const client = openClient({ endpoint: `${url}/nexus/`, retries });
  expect(await client.mark('main', 'box')).toBe('m');
  expect(seen[0]?.url).toBe('/nexus/api/marks/main/box');
});

test('the key goes in the header and nowhere else', async () => {
  const key = makeKey();
  const { client, seen } = await way([], { key });
  await client.mark('main', 'box');
  expect(seen[0]?.headers['x-functions-key']).toBe(key);
  expect(seen[0]?.url).not.toContain(key);
});

test('a wrong key is unauthorized, and its text in no message', async () => {
  const { url } = await listeningEndpoint({ keys: [keyWith(['upload']).key] });
  const key = makeKey();
  const error = await failure(openClient({ endpoint: url, key, retries }).storeId());
  expect(error.code).toBe('unauthorized');
  expect(JSON.stringify([error.message, error.stack, String(error.cause)])).not.toContain(key);
});

test('a wrong key is unauthorized and not tried again, also after many', async () => {
  const { url } = await listeningEndpoint({ keys: [keyWith(['upload']).key] });
  for (let n = 0; n < 61; n++)
    await fetch(`${url}/api/store`, { headers: { 'x-functions-key': `wrong${n}` } });
  const error = await failure(openClient({ endpoint: url, key: makeKey(), retries }).storeId());
  expect(error).toMatchObject({ code: 'unauthorized', message: expect.stringContaining('not known here') });
});

test.each([
  'not a url',
  'ftp://nexus.example',
  'https://me:hunter2@nexus.example',
  'https://nexus.example/?code=hunter2',
  'https://nexus.example/#hunter2',
])('the endpoint %s is a config error that repeats no secret', (endpoint) => {
  const opening = () => openClient({ endpoint });
  expect(opening).toThrow(expect.objectContaining({ code: 'config' }));
  expect(opening).not.toThrow(/hunter2/);
});

test.each(['nxk_hunter2\n', 'nxk hunter2', 'nxk_hünter2', ''])(
  'the key %j is a config error that does not repeat it',
  (key) => {
    const opening = () => openClient({ endpoint: 'https://nexus.example', key });
    expect(opening).toThrow(expect.objectContaining({ code: 'config' }));
    expect(opening).not.toThrow(/hunter2|hünter2/);
  },
);

test.each(['', '.', '..'])('a host called %j is refused before it becomes another path', async (host) => {
  const { client, seen } = await way([]);
  expect(await failure(client.setMark('main', host, 'm'))).toMatchObject({ code: 'invalid' });
  expect(seen).toEqual([]);
});

test('the client does not load Fastify', () => {
  const loaded = new Set<string>();
  const follow = (file: URL): void => {
    if (loaded.has(file.href)) return;
    loaded.add(file.href);
    const source = fs.readFileSync(file, 'utf8');
    for (const [, type, name = ''] of source.matchAll(
      /^(?:import|export)( type)? [^;]*?from '([^']+)';/gms,
    )) {
      if (name === 'fastify' && type === undefined) throw new Error(`${file.pathname} imports Fastify`);
      if (name.startsWith('.') && type === undefined) follow(new URL(name, file));
    }
  };
  follow(new URL('../../src/http/client.ts', import.meta.url));
  expect(loaded.size).toBeGreaterThan(5);
});
