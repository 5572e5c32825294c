import { createHmac } from 'node:crypto';
import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import { peerOf } from '../../src/http/strangers.ts';
import { keyWith, openEndpoint } from './endpoint.ts';
import { fromGitHub, post, secret, sources } from './senders.ts';

const { key, text } = keyWith(['webhook']);
const known = sources({
  github: { verify: 'github', secret },
  meta: { verify: 'meta', secret, verifyToken: secret },
  open: { verify: 'none' },
});
const wrong = { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` };
const long = Buffer.alloc(100_000, ' ');
const longFromGitHub = () =>
  post('github', long, {
    'content-type': 'text/plain',
    'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(long).digest('hex')}`,
  });

async function endpoint() {
  let time = Date.parse('2026-11-23T10:00:00Z');
  const opened = await openEndpoint({ keys: [key], mailboxes: known, now: () => new Date(time) });
  const ask = async (request: InjectOptions, remoteAddress = '127.0.0.1') =>
    (await opened.app.inject({ ...request, remoteAddress })).statusCode;
  /** How many answers had which status. */
  async function fail(count: number, request: InjectOptions, remoteAddress?: string) {
    const statuses: Record<number, number> = {};
    for (let n = 0; n < count; n++) {
      const status = await ask(request, remoteAddress);
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    return statuses;
  }
  return { ...opened, ask, fail, wait: (ms: number) => void (time += ms) };
}

test.each([
  ['whose signature is wrong', post('github', '{}', wrong)],
  ['who signs nothing', post('github')],
  ['whose source is unknown', post('nobody')],
  ['whose agent is unknown', { ...post('x'), url: '/api/webhook/stranger?source=x' }],
  ['who does not know Meta’s token', { url: '/api/webhook/main?source=meta&hub.mode=subscribe' }],
])('after 60 failures in a minute those %s are 429 and told when to come back', async (_, request) => {
  const { app, fail, wait } = await endpoint();
  expect(await fail(70, request)).toEqual({ 401: 60, 429: 10 });
  const answer = await app.inject(request);
  expect([answer.statusCode, answer.headers['retry-after']]).toEqual([429, '1']);
  wait(1000);
  expect(await fail(2, request)).toEqual({ 401: 1, 429: 1 });
});

test('however many fail, who signs rightly is let in, from wherever', async () => {
  const { ask, fail } = await endpoint();
  await fail(100, post('github', '{}', wrong), '203.0.113.9');
  for (const address of ['127.0.0.1', '203.0.113.9', '203.0.113.10']) {
    expect(await ask(fromGitHub('{}'), address)).toBe(202);
    expect(await ask(longFromGitHub(), address)).toBe(202);
  }
  expect(await ask(post('other', '{}', { 'x-functions-key': text }), '203.0.113.9')).toBe(202);
});

test('failures under one name are not those of another', async () => {
  const { ask, fail } = await endpoint();
  await fail(100, post('github', '{}', wrong));
  expect(await ask(post('meta', '{}', wrong))).toBe(401);
});

test('a peer that fails under many names is 429 too, but not this machine, where a proxy may be', async () => {
  const { ask, fail } = await endpoint();
  const names = Array.from({ length: 61 }, (_, n) => post(`s${n}`));
  for (const request of names.slice(1)) await fail(1, request, '203.0.113.9');
  expect(await ask(post('s0'), '203.0.113.9')).toBe(429);
  expect(await ask(post('s0'), '203.0.113.10')).toBe(401);
  for (const request of names.slice(1)) await fail(1, request);
  expect(await ask(post('s0'))).toBe(401);
});

test('a long body from where many failed and nobody proved itself is refused unread', async () => {
  const { ask, fail, wait } = await endpoint();
  await fail(61, post('github', '{}', wrong), '203.0.113.9');
  // The open source proves nothing.
  expect(await ask(post('open'), '203.0.113.9')).toBe(202);
  expect(await ask(longFromGitHub(), '203.0.113.9')).toBe(429);
  expect(await ask(fromGitHub('{}'), '203.0.113.9')).toBe(202);
  expect(await ask(longFromGitHub(), '203.0.113.9')).toBe(202);
  wait(3_590_000);
  await fail(61, post('github', '{}', wrong), '203.0.113.9');
  expect(await ask(longFromGitHub(), '203.0.113.9')).toBe(202);
  wait(3_600_000);
  await fail(61, post('github', '{}', wrong), '203.0.113.9');
  expect(await ask(longFromGitHub(), '203.0.113.9')).toBe(429);
  wait(1000);
  expect(await ask(longFromGitHub(), '203.0.113.9')).toBe(202);
});

test('the log tells why those were refused who were too many', async () => {
  const { fail, log } = await endpoint();
  await fail(61, post('github'));
  expect(JSON.parse(log.at(-1) ?? '')).toMatchObject({
    facts: { status: 429, reason: expect.stringContaining('x-hub-signature-256') },
  });
});

test('addresses of one network of IPv6 are one peer, and IPv4 is the same however it is written', () => {
  expect(peerOf('2001:db8::1')).toBe(peerOf('2001:db8:0:0:ffff:1:2:3'));
  expect(peerOf('2001:db8:0:1::1')).not.toBe(peerOf('2001:db8::1'));
  expect(peerOf('fe80::1%eth0')).toBe('fe80:0:0:0');
  expect([peerOf('::ffff:203.0.113.9'), peerOf('203.0.113.9')]).toEqual(['203.0.113.9', '203.0.113.9']);
  expect([peerOf('::1'), peerOf('127.0.0.1'), peerOf('::ffff:127.0.0.1'), peerOf(undefined)]).toEqual(
    Array(4).fill(undefined),
  );
});
