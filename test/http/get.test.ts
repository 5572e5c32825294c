import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { digestFieldOf } from '../../src/http/wire.ts';
import { type Endpoint, openEndpoint } from './endpoint.ts';

const url = '/api/sessions/main/x';
const text = '0123456789';

async function withTranscript(): Promise<Endpoint> {
  const endpoint = await openEndpoint();
  await endpoint.sessions.append('main', 'x', 0, Buffer.from(text), {
    complete: true,
    about: { host: 'böx' },
  });
  return endpoint;
}

test('HEAD tells the length and whether it is complete', async () => {
  const { app } = await withTranscript();
  const answer = await app.inject({ method: 'HEAD', url });
  expect([answer.statusCode, answer.headers['upload-offset'], answer.headers['upload-complete']]).toEqual([
    200,
    '10',
    '?1',
  ]);
  expect(answer.body).toBe('');
  expect(answer.headers['repr-digest']).toBeUndefined();
});

test('HEAD carries the card, in ASCII', async () => {
  const { app, sessions } = await withTranscript();
  const card = String((await app.inject({ method: 'HEAD', url })).headers['nexus-card']);
  expect(card).toMatch(/^[\x20-\x7e]+$/);
  expect(JSON.parse(card)).toEqual(await sessions.stat('main', 'x'));
});

test.each(['sha-256=1', 'sha-512=3, sha-256=10', 'sha-256'])('HEAD gives the digest for %j', async (want) => {
  const { app } = await withTranscript();
  const answer = await app.inject({ method: 'HEAD', url, headers: { 'want-repr-digest': want } });
  expect(answer.headers['repr-digest']).toBe(digestFieldOf(Buffer.from(text)));
});

test.each(['sha-256=0', 'sha-512=1', 'sha-2567=1'])('HEAD gives no digest for %j', async (want) => {
  const { app } = await withTranscript();
  const answer = await app.inject({ method: 'HEAD', url, headers: { 'want-repr-digest': want } });
  expect([answer.statusCode, answer.headers['repr-digest']]).toEqual([200, undefined]);
});

test('HEAD with no-cache reads the stored bytes again and finds what has changed', async () => {
  const { app, spoil } = await withTranscript();
  await app.inject({ method: 'HEAD', url, headers: { 'want-repr-digest': 'sha-256=1' } });
  await spoil('sessions/inbox/main/x.jsonl');
  const headers = { 'want-repr-digest': 'sha-256=1', 'cache-control': 'no-cache' };
  const answer = await app.inject({ method: 'HEAD', url, headers });
  expect([answer.statusCode, answer.headers['nexus-error']]).toEqual([500, 'corrupt']);
});

test('what is not stored is 404, with a sentence where there is room', async () => {
  const { app } = await withTranscript();
  expect((await app.inject({ method: 'HEAD', url: '/api/sessions/main/y' })).statusCode).toBe(404);
  const answer = await app.inject({ url: '/api/sessions/main/y' });
  expect([answer.statusCode, answer.json()]).toEqual([404, { error: 'Nothing is stored as main/y.' }]);
});

test('GET gives the bytes and says what they are', async () => {
  const { app } = await withTranscript();
  const answer = await app.inject({ url });
  expect([answer.statusCode, answer.body]).toEqual([200, text]);
  expect(answer.headers).toMatchObject({
    'content-type': 'application/x-ndjson',
    'content-length': '10',
    'accept-ranges': 'bytes',
  });
});

test('GET of an empty transcript is empty', async () => {
  const { app, sessions } = await openEndpoint();
  await sessions.append('main', 'x', 0, new Uint8Array(), { complete: true, about: {} });
  const answer = await app.inject({ url });
  expect([answer.statusCode, answer.headers['content-length'], answer.body]).toEqual([200, '0', '']);
});

test.each([
  ['bytes=0-3', 'bytes 0-3/10', '0123'],
  ['bytes=4-', 'bytes 4-9/10', '456789'],
  ['bytes=9-9', 'bytes 9-9/10', '9'],
  ['bytes=8-100', 'bytes 8-9/10', '89'],
  ['bytes=-3', 'bytes 7-9/10', '789'],
  ['bytes=-100', 'bytes 0-9/10', text],
])('%s is 206 with %s', async (range, contentRange, bytes) => {
  const { app } = await withTranscript();
  const answer = await app.inject({ url, headers: { range } });
  expect([answer.statusCode, answer.headers['content-range'], answer.body]).toEqual([
    206,
    contentRange,
    bytes,
  ]);
});

test.each(['bytes=10-', 'bytes=10-12', 'bytes=-0'])('%s is 416 and tells the length', async (range) => {
  const { app } = await withTranscript();
  const answer = await app.inject({ url, headers: { range } });
  expect([answer.statusCode, answer.headers['content-range']]).toEqual([416, 'bytes */10']);
  expect(answer.json()).toHaveProperty('error');
});

test.each(['bytes=0-1,4-5', 'bytes=5-2', 'lines=1-2', 'bytes=-', 'bytes=a-b'])(
  '%s is ignored and the whole is given',
  async (range) => {
    const { app } = await withTranscript();
    expect((await app.inject({ url, headers: { range } })).statusCode).toBe(200);
  },
);

test('with If-Range, which nothing here can match, the whole is given', async () => {
  const { app } = await withTranscript();
  const headers = { range: 'bytes=0-1', 'if-range': '"etag"' };
  expect((await app.inject({ url, headers })).body).toBe(text);
});

test('what cannot be opened is an error and not a body cut short', async () => {
  const { app, sessions } = await openEndpoint({
    over: (sessions) => ({
      ...sessions,
      read: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () => Promise.reject(new NexusError('corrupt', 'The file is shorter than what was stored.')),
        }),
      }),
    }),
  });
  await sessions.append('main', 'x', 0, Buffer.from(text), { complete: true, about: {} });
  const answer = await app.inject({ url });
  expect([answer.statusCode, answer.headers['nexus-error'], answer.json()]).toEqual([
    500,
    'corrupt',
    { error: 'The file is shorter than what was stored.' },
  ]);
});
