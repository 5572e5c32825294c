import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { keyWith, openEndpoint } from './endpoint.ts';
import { fromGitHub, pendingOf, post, secret, sources } from './senders.ts';

const github = sources({ github: { verify: 'github', secret } });
const open = sources({ open: { verify: 'none' } });
const { key: webhookKey } = keyWith(['webhook'], ['main']);

test('a webhook that was signed is stored before it is answered, with 202 and its id', async () => {
  const { app, webhooks } = await openEndpoint({ keys: [webhookKey], mailboxes: github });
  const answer = await app.inject(fromGitHub('{"n":1}', { 'x-github-event': 'push' }));
  expect([answer.statusCode, answer.json()]).toEqual([
    202,
    { status: 'accepted', id: expect.stringMatching(/^main\.[0-9a-z]{9,32}$/) },
  ]);
  expect(await pendingOf(webhooks)).toEqual([
    {
      id: answer.json<{ id: string }>().id,
      source: 'github',
      receivedAt: expect.any(String),
      contentType: 'application/json',
      headers: expect.objectContaining({ 'x-github-event': 'push' }),
      payloadText: '{"n":1}',
    },
  ]);
});

test('the same delivery again is 200, with the id that it had', async () => {
  const { app, webhooks } = await openEndpoint({ keys: [webhookKey], mailboxes: github });
  const delivery = { 'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958' };
  const first = await app.inject(fromGitHub('{"n":1}', delivery));
  const again = await app.inject(fromGitHub('{"n":1}', delivery));
  expect([again.statusCode, again.json()]).toEqual([
    200,
    { status: 'duplicate', id: first.json<{ id: string }>().id },
  ]);
  expect(await pendingOf(webhooks)).toHaveLength(1);
});

test('a delivery stays a duplicate once its item was acknowledged', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: github });
  const delivery = { 'x-github-delivery': 'd-1' };
  const { id } = (await app.inject(fromGitHub('{}', delivery))).json<{ id: string }>();
  await webhooks.acknowledge([id], 'box');
  const again = await app.inject(fromGitHub('{}', delivery));
  expect([again.statusCode, again.json()]).toEqual([200, { status: 'duplicate', id }]);
  expect(await pendingOf(webhooks)).toEqual([]);
});

test('a body over the limit is 413, and its limit is the source’s', async () => {
  const { app, webhooks } = await openEndpoint({
    mailboxes: sources({ small: { verify: 'none', maxBytes: 10 }, empty: { verify: 'none', maxBytes: 0 } }),
  });
  expect((await app.inject(post('small', '"12345678"'))).statusCode).toBe(202);
  const over = await app.inject(post('small', '"123456789"'));
  expect([over.statusCode, over.json()]).toEqual([413, { error: 'The body exceeds the limit of 10 bytes.' }]);
  expect((await app.inject(post('empty', ''))).statusCode).toBe(202);
  expect((await app.inject(post('empty', '1'))).statusCode).toBe(413);
  expect(await pendingOf(webhooks)).toHaveLength(2);
});

test('a body of 25 MiB is kept, and one byte more is 413', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const body = Buffer.alloc(25 * 1024 * 1024, 'x');
  const headers = { 'content-type': 'application/octet-stream' };
  const taken = await app.inject(post('open', body, headers));
  expect(taken.statusCode).toBe(202);
  expect((await webhooks.body(taken.json<{ id: string }>().id)).body.equals(body)).toBe(true);
  expect((await app.inject(post('open', Buffer.concat([body, Buffer.of(1)]), headers))).statusCode).toBe(413);
});

test.each([
  ['JSON that is none', '{"a":', 'application/json', 400],
  ['a form in parts without its boundary', '--x', 'multipart/form-data', 400],
  ['a Content-Type that is none', 'x', 'nonsense', 415],
])('%s is refused', async (_, payload, type, status) => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const answer = await app.inject(post('open', payload, { 'content-type': type }));
  expect([answer.statusCode, Object.keys(answer.json<object>())]).toEqual([status, ['error']]);
  expect(await pendingOf(webhooks)).toEqual([]);
});

test('a Content-Encoding that is never understood is 415', async () => {
  const { app } = await openEndpoint({ mailboxes: open });
  expect((await app.inject(post('open', 'x', { 'content-encoding': 'snappy' }))).statusCode).toBe(415);
});

test('over the rate of its source a sender is 429 and told when to come back', async () => {
  let time = Date.parse('2026-11-23T10:00:00Z');
  const { app } = await openEndpoint({
    mailboxes: sources({
      slow: { verify: 'none', perMinute: 6 },
      signed: { verify: 'github', secret, perMinute: 6 },
    }),
    now: () => new Date(time),
  });
  expect((await app.inject(post('slow'))).statusCode).toBe(202);
  const over = await app.inject(post('slow'));
  expect([over.statusCode, over.headers['retry-after']]).toEqual([429, '10']);
  time += 10_000;
  expect((await app.inject(post('slow'))).statusCode).toBe(202);
  // Strangers do not use up what is the sender's.
  const url = '/api/webhook/main?source=signed';
  for (let n = 0; n < 5; n++) expect((await app.inject(post('signed'))).statusCode).toBe(401);
  expect((await app.inject({ ...fromGitHub('{}'), url })).statusCode).toBe(202);
  expect((await app.inject({ ...fromGitHub('{}'), url })).statusCode).toBe(429);
});

test('a store that cannot take it now is 503 with Retry-After, and why is in the log alone', async () => {
  const { app, log } = await openEndpoint({
    mailboxes: open,
    overWebhooks: (webhooks) => ({
      ...webhooks,
      receive: () =>
        Promise.reject(
          new NexusError('unavailable', 'Cannot use /srv/nexus/store: the disk is full.', { retryAfter: 30 }),
        ),
    }),
  });
  const answer = await app.inject(post('open'));
  expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '30']);
  expect(answer.body).not.toContain('/srv');
  expect(log.join('')).toContain('Cannot use /srv/nexus/store: the disk is full.');
});

test('a mailbox that has as many items as it may is 503 with Retry-After', async () => {
  const { app } = await openEndpoint({
    mailboxes: { main: { maxItems: 1, sources: { open: { verify: 'none' } } } },
  });
  expect((await app.inject(post('open'))).statusCode).toBe(202);
  const full = await app.inject(post('open'));
  expect([full.statusCode, Number(full.headers['retry-after']) > 0]).toEqual([503, true]);
});
