import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { decode } from '../../src/http/body.ts';
import { digestFieldOf } from '../../src/http/wire.ts';
import { type Endpoint, openEndpoint } from './endpoint.ts';

const url = '/api/sessions/main/x';
const limit = 10 * 1024 * 1024;

function patch(
  { app }: Endpoint,
  payload: Buffer | string,
  headers: Record<string, string | undefined> = {},
) {
  const all = {
    'upload-offset': '0',
    'upload-complete': '?0',
    'content-type': 'application/partial-upload',
    ...headers,
  };
  const sent = Object.fromEntries(
    Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  return app.inject({ method: 'PATCH', url, payload, headers: sent });
}

async function stored({ sessions }: Endpoint): Promise<string | undefined> {
  if ((await sessions.stat('main', 'x')) === undefined) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of sessions.read('main', 'x')) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('the first bytes are 201 with the new length', async () => {
  const endpoint = await openEndpoint();
  const answer = await patch(endpoint, 'one\n');
  expect([answer.statusCode, answer.headers['upload-offset'], answer.headers['upload-complete']]).toEqual([
    201,
    '4',
    '?0',
  ]);
});

test('more bytes are 204 with the new length', async () => {
  const endpoint = await openEndpoint();
  await patch(endpoint, 'one\n');
  const answer = await patch(endpoint, 'two\n', { 'upload-offset': '4', 'upload-complete': '?1' });
  expect([answer.statusCode, answer.headers['upload-offset'], answer.headers['upload-complete']]).toEqual([
    204,
    '8',
    '?1',
  ]);
  expect(await stored(endpoint)).toBe('one\ntwo\n');
});

test('bytes for a transcript that was empty are 204', async () => {
  const endpoint = await openEndpoint();
  expect((await patch(endpoint, '')).statusCode).toBe(201);
  expect((await patch(endpoint, 'x')).statusCode).toBe(204);
});

test('nothing but a completion needs no body and no type', async () => {
  const endpoint = await openEndpoint();
  await patch(endpoint, 'one\n');
  const headers = { 'upload-offset': '4', 'upload-complete': '?1' };
  expect((await endpoint.app.inject({ method: 'PATCH', url, headers })).statusCode).toBe(204);
  expect((await endpoint.sessions.stat('main', 'x'))?.complete).toBe(true);
});

test('a wrong offset is 409 with the true one, and a sentence', async () => {
  const endpoint = await openEndpoint();
  await patch(endpoint, 'one\n');
  const answer = await patch(endpoint, 'one\n');
  expect([answer.statusCode, answer.headers['upload-offset']]).toEqual([409, '4']);
  expect(answer.json<{ error: string }>().error).toMatch(/4 bytes/);
});

test('an offset beyond nothing is 409 with 0', async () => {
  const endpoint = await openEndpoint();
  const answer = await patch(endpoint, 'x', { 'upload-offset': '9' });
  expect([answer.statusCode, answer.headers['upload-offset']]).toEqual([409, '0']);
});

test.each([
  ['no Upload-Offset', { 'upload-offset': undefined }, 400],
  ['a negative Upload-Offset', { 'upload-offset': '-1' }, 400],
  ['an Upload-Offset that is no number', { 'upload-offset': '0x0' }, 400],
  ['an Upload-Offset beyond all numbers', { 'upload-offset': '9'.repeat(30) }, 400],
  ['no Upload-Complete', { 'upload-complete': undefined }, 400],
  ['an Upload-Complete that is no boolean', { 'upload-complete': 'true' }, 400],
  ['another type', { 'content-type': 'application/octet-stream' }, 415],
  ['no type', { 'content-type': undefined }, 415],
  ['an encoding that is not understood', { 'content-encoding': 'br' }, 415],
  ['two encodings', { 'content-encoding': 'gzip, zstd' }, 415],
  ['an encoding that the body is not in', { 'content-encoding': 'zstd' }, 400],
  ['a digest of other bytes', { 'content-digest': digestFieldOf(Buffer.from('y')) }, 400],
  ['a digest that is none', { 'content-digest': 'sha-256=:abc:' }, 400],
  ['metadata that is not JSON', { 'nexus-about': '{' }, 400],
  ['metadata with a field that is not known', { 'nexus-about': '{"hots":"x"}' }, 400],
  ['metadata of the wrong kind', { 'nexus-about': '{"era":"stone"}' }, 400],
  ['metadata with a time that is none', { 'nexus-about': '{"firstEventAt":"soon"}' }, 400],
  ['too much metadata', { 'nexus-about': JSON.stringify({ host: 'x'.repeat(4096) }) }, 400],
])('%s is refused and stores nothing', async (_, headers, status) => {
  const endpoint = await openEndpoint();
  const answer = await patch(endpoint, 'x', headers);
  expect(answer.statusCode).toBe(status);
  expect(answer.json<{ error: string }>().error).not.toBe('');
  expect(await stored(endpoint)).toBeUndefined();
});

test.each([
  ['zstd', zstdCompressSync],
  ['gzip', gzipSync],
])('a body in %s is stored decoded, its digest that of what was sent', async (encoding, compress) => {
  const endpoint = await openEndpoint();
  const sent = compress(Buffer.from('line\n'.repeat(1000)));
  const headers = { 'content-encoding': encoding, 'content-digest': digestFieldOf(sent) };
  expect((await patch(endpoint, sent, headers)).headers['upload-offset']).toBe('5000');
  expect(await stored(endpoint)).toBe('line\n'.repeat(1000));
});

test.each([
  ['zstd', zstdCompressSync],
  ['gzip', gzipSync],
])('a %s bomb is 413', async (encoding, compress) => {
  const endpoint = await openEndpoint();
  const answer = await patch(endpoint, compress(Buffer.alloc(limit + 1)), { 'content-encoding': encoding });
  expect(answer.statusCode).toBe(413);
  expect(await stored(endpoint)).toBeUndefined();
});

test.each([
  ['zstd', zstdCompressSync],
  ['gzip', gzipSync],
])('decoding %s stops at the limit, and not after it', async (encoding, compress) => {
  const bomb = compress(Buffer.alloc(1024 * 1024));
  await expect(decode(bomb, encoding, 1000, 'Too long.')).rejects.toMatchObject({
    code: 'too_large',
    cause: { code: 'ERR_BUFFER_TOO_LARGE' },
  });
});

test.each([
  ['zstd', zstdCompressSync],
  ['gzip', gzipSync],
])('half a %s body is 400', async (encoding, compress) => {
  const endpoint = await openEndpoint();
  const sent = compress(Buffer.from('line\n'.repeat(1000)));
  const answer = await patch(endpoint, sent.subarray(0, sent.length - 4), { 'content-encoding': encoding });
  expect(answer.statusCode).toBe(400);
});

test('a chunk of exactly the limit passes and one byte more is 413', async () => {
  const endpoint = await openEndpoint();
  expect((await patch(endpoint, Buffer.alloc(limit + 1))).statusCode).toBe(413);
  expect((await patch(endpoint, Buffer.alloc(limit))).statusCode).toBe(201);
});

test('a digest of another algorithm only is ignored', async () => {
  const endpoint = await openEndpoint();
  expect((await patch(endpoint, 'x', { 'content-digest': 'sha-512=:AAAA:' })).statusCode).toBe(201);
});

test('what the header says about a transcript is kept', async () => {
  const endpoint = await openEndpoint();
  await patch(endpoint, 'x', { 'nexus-about': '{"host":"b\\u00f6x","era":"file","trigger":"cron"}' });
  expect(await endpoint.sessions.stat('main', 'x')).toMatchObject({
    host: 'böx',
    era: 'file',
    trigger: 'cron',
  });
});

test.each([
  '/api/sessions/a.b/x',
  '/api/sessions/main/.x',
  '/api/sessions/main/..%2fx',
  '/api/sessions/%2e%2e%2fx/y',
])('%s is 400', async (bad) => {
  const { app } = await openEndpoint();
  for (const method of ['PATCH', 'GET', 'HEAD'] as const)
    expect((await app.inject({ method, url: bad })).statusCode).toBe(400);
});
