import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { aSession, type Endpoint, keyWith, openEndpoint } from './endpoint.ts';

const whole = { agentId: 'main', sessionId: aSession, transcript: '{"type":"session"}\n' };

function post({ app }: Endpoint, payload: unknown, headers: Record<string, string> = {}) {
  const body = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload);
  return app.inject({
    method: 'POST',
    url: '/api/sessions',
    payload: body,
    headers: { 'content-type': 'application/json', ...headers },
  });
}

async function stored({ sessions }: Endpoint, sessionId = aSession): Promise<string | undefined> {
  if ((await sessions.stat('main', sessionId)) === undefined) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of sessions.read('main', sessionId)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

test('a session is stored and answered as the contract says', async () => {
  const endpoint = await openEndpoint();
  const answer = await post(endpoint, { ...whole, transcript: 'ä\r\n\u0000' });
  expect(answer.statusCode).toBe(200);
  const { stored: when, ...rest } = answer.json<Record<string, unknown>>();
  expect(rest).toEqual({
    status: 'ok',
    sessionId: aSession,
    path: `inbox/main/${aSession}.jsonl`,
    bytes: 5,
  });
  expect(new Date(String(when)).toISOString()).toBe(when);
  expect(await stored(endpoint)).toBe('ä\r\n\u0000');
});

test('a session that was posted whole is complete', async () => {
  const endpoint = await openEndpoint();
  await post(endpoint, whole);
  expect((await endpoint.sessions.stat('main', aSession))?.complete).toBe(true);
});

test('a second one of the same id is 409 and changes nothing', async () => {
  const endpoint = await openEndpoint();
  await post(endpoint, whole);
  const answer = await post(endpoint, { ...whole, transcript: 'other' });
  expect([answer.statusCode, answer.json()]).toEqual([
    409,
    { error: 'Session already exists', sessionId: aSession },
  ]);
  expect(await stored(endpoint)).toBe(whole.transcript);
});

test('of many at once one is stored and the others are 409', async () => {
  const endpoint = await openEndpoint();
  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, n) => post(endpoint, { ...whole, transcript: `${n}\n` })),
  );
  const statuses = answers.map(({ statusCode }) => statusCode).sort((one, other) => one - other);
  expect(statuses).toEqual([200, 409, 409, 409, 409, 409, 409, 409]);
  const winner = answers.findIndex(({ statusCode }) => statusCode === 200);
  expect(await stored(endpoint)).toBe(`${winner}\n`);
});

test('an empty transcript that a host has shipped exists', async () => {
  const endpoint = await openEndpoint();
  await endpoint.sessions.append('main', aSession, 0, new Uint8Array(), { complete: true, about: {} });
  expect((await post(endpoint, whole)).statusCode).toBe(409);
});

const missing = 'Missing required fields: agentId, sessionId, transcript';
const badId = 'Invalid sessionId format — expected UUID';
test.each<[string, unknown, string | RegExp]>([
  ['no agentId', { sessionId: aSession, transcript: 'x' }, missing],
  ['no sessionId', { agentId: 'main', transcript: 'x' }, missing],
  ['no transcript', { agentId: 'main', sessionId: aSession }, missing],
  ['an empty transcript', { ...whole, transcript: '' }, missing],
  ['a transcript that is no string', { ...whole, transcript: { a: 1 } }, missing],
  ['a null', null, missing],
  ['an array', [], missing],
  ['a sessionId that is no UUID', { ...whole, sessionId: 'abc' }, badId],
  ['a UUID with something behind it', { ...whole, sessionId: `${aSession}~2` }, badId],
  ['a path for a sessionId', { ...whole, sessionId: '../../../../etc/passwd' }, badId],
  ['an agentId that leaves its place', { ...whole, agentId: '../x' }, /^Invalid agentId /],
  ['an agentId with a dot', { ...whole, agentId: 'a.b' }, /^Invalid agentId /],
  ['half a JSON', '{"agentId": "main"', /^Invalid JSON/],
  ['nothing', '', /^Invalid JSON/],
  [
    'bytes that are no UTF-8',
    Buffer.from([...Buffer.from('{"a":"'), 0xff, ...Buffer.from('"}')]),
    /^Invalid JSON/,
  ],
  [
    'an unpaired surrogate',
    `{"agentId":"main","sessionId":"${aSession}","transcript":"\\ud800"}`,
    /surrogate/,
  ],
])('%s is 400 and stores nothing', async (_, payload, sentence) => {
  const endpoint = await openEndpoint();
  const answer = await post(endpoint, payload);
  expect(answer.statusCode).toBe(400);
  const { error } = answer.json<{ error: string }>();
  expect(error).toMatch(typeof sentence === 'string' ? new RegExp(`^${sentence}$`) : sentence);
  expect(await stored(endpoint)).toBeUndefined();
});

test('a paired surrogate written as escapes is stored as its UTF-8', async () => {
  const endpoint = await openEndpoint();
  const payload = `{"agentId":"main","sessionId":"${aSession}","transcript":"\\ud83e\\udd80"}`;
  expect((await post(endpoint, payload)).json()).toMatchObject({ bytes: 4 });
  expect(await stored(endpoint)).toBe('\u{1f980}');
});

test('a body that is not JSON by its type is 415', async () => {
  const endpoint = await openEndpoint();
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonx', ';;'])
    expect((await post(endpoint, whole, { 'content-type': type })).statusCode).toBe(415);
  expect(await stored(endpoint)).toBeUndefined();
});

test('a charset beside the JSON type is let pass', async () => {
  const endpoint = await openEndpoint();
  const headers = { 'content-type': 'Application/JSON; charset=utf-8' };
  expect((await post(endpoint, whole, headers)).statusCode).toBe(200);
});

const limit = 10 * 1024 * 1024;

test('the limit is in bytes of UTF-8, and a transcript of exactly that is stored', async () => {
  const endpoint = await openEndpoint();
  const transcript = 'ä'.repeat(limit / 2);
  expect((await post(endpoint, { ...whole, transcript })).json()).toMatchObject({ bytes: limit });
});

test('a transcript of one byte more is 413', async () => {
  const endpoint = await openEndpoint();
  const answer = await post(endpoint, { ...whole, transcript: `${'ä'.repeat(limit / 2)}x` });
  expect([answer.statusCode, answer.json()]).toEqual([413, { error: 'Transcript exceeds 10 MB limit' }]);
  expect(await stored(endpoint)).toBeUndefined();
});

test('a transcript within the limit passes however much its escapes swell it', async () => {
  const endpoint = await openEndpoint();
  const transcript = '\u0001'.repeat(limit);
  expect((await post(endpoint, { ...whole, transcript })).statusCode).toBe(200);
});

test('a store that cannot take it now is 503 with Retry-After and says so', async () => {
  const full = new NexusError('unavailable', 'The disk is full.', { retryAfter: 7.2 });
  const endpoint = await openEndpoint({
    over: (sessions) => ({ ...sessions, append: () => Promise.reject(full) }),
  });
  const answer = await post(endpoint, whole);
  expect([answer.statusCode, answer.headers['retry-after'], answer.json()]).toEqual([
    503,
    '8',
    { error: 'The disk is full.' },
  ]);
});

test('a bug is a 500 that says nothing of the inside, and its stack is in the log', async () => {
  const endpoint = await openEndpoint({
    over: (sessions) => ({ ...sessions, append: () => Promise.reject(new TypeError('secret inside')) }),
  });
  const answer = await post(endpoint, whole);
  expect([answer.statusCode, answer.json()]).toEqual([500, { error: 'Internal error' }]);
  expect(endpoint.log.join('')).toContain('TypeError: secret inside');
});

test("an agent that is not the key's is 403, after the body was understood", async () => {
  const { key, text } = keyWith(['upload'], ['other']);
  const endpoint = await openEndpoint({ keys: [key] });
  expect((await post(endpoint, whole, { 'x-functions-key': text })).statusCode).toBe(403);
  expect((await post(endpoint, { ...whole, agentId: 'other' }, { 'x-functions-key': text })).statusCode).toBe(
    200,
  );
  expect((await post(endpoint, {}, { 'x-functions-key': text })).statusCode).toBe(400);
});
