import { createHmac } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import { keyWith, openEndpoint } from './endpoint.ts';
import { pendingOf, post, secret, sources } from './senders.ts';

const open = sources({ open: { verify: 'none' } });
const { key: webhookKey, text: webhookText } = keyWith(['webhook'], ['main']);

const longNumbers = '{"n":12345678901234567890.10,"e":1e400}';

/** What was sent, as what, and the JSON of what arrives. */
const types: [string, string, string | undefined, string][] = [
  ['JSON', longNumbers, 'application/json; charset=utf-8', longNumbers],
  [
    'a form as put.io posts it',
    'id=7&file_id=9&name=A+film+%26+more.mkv&status=COMPLETED&is_private=False&finished_at=2026-11-23T10%3A00%3A00',
    'application/x-www-form-urlencoded',
    JSON.stringify({
      id: '7',
      file_id: '9',
      name: 'A film & more.mkv',
      status: 'COMPLETED',
      is_private: 'False',
      finished_at: '2026-11-23T10:00:00',
    }),
  ],
  ['text', 'naïve ☃\n', 'text/plain; charset=utf-8', '"naïve ☃\\n"'],
  ['XML', '<a>1</a>', 'application/xml', '"<a>1</a>"'],
  ['no Content-Type', 'plain', undefined, '"plain"'],
  ['an empty Content-Type', 'plain', '', '"plain"'],
  ['no body', '', 'application/json', 'null'],
  ['nothing at all', '', undefined, 'null'],
];

test.each(types)('%s arrives at the agent as it should', async (_, payload, type, expected) => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const { headers: _headers, ...rest } = post('open', payload);
  const request = type === undefined ? rest : { ...rest, headers: { 'content-type': type } };
  const answer = await app.inject(request);
  expect(answer.statusCode).toBe(202);
  const [item] = await pendingOf(webhooks);
  expect(item?.payloadText).toBe(expected);
  expect(item?.contentType).toBe(type ?? '');
  expect((await webhooks.body(item?.id ?? '')).body.equals(Buffer.from(payload))).toBe(true);
});

test('what was compressed is read, and however many come at once all are', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const body = gzipSync('{"n":1}');
  const answers = await Promise.all(
    Array.from({ length: 10 }, () => app.inject(post('open', body, { 'content-encoding': 'gzip' }))),
  );
  expect(answers.map(({ statusCode }) => statusCode)).toEqual(Array<number>(10).fill(202));
  for (const { id, payloadText } of await pendingOf(webhooks)) {
    expect(payloadText).toBe('{"n":1}');
    expect((await webhooks.body(id)).body.equals(body)).toBe(true);
  }
  const wrong = await app.inject(post('open', 'no gzip', { 'content-encoding': 'gzip' }));
  expect(wrong.statusCode).toBe(400);
});

test('what was compressed is base64 where nothing is kept that says so, and spoils no page', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const body = gzipSync('{"n":1}');
  const headers = {
    'x-pad': '"'.repeat(8185),
    'content-type': 'application/json; charset=iso-8859-1',
    'content-encoding': 'gzip',
  };
  expect((await app.inject(post('open', body, headers))).statusCode).toBe(202);
  await app.inject(post('open', '{"n":1.0}'));
  const items = await pendingOf(webhooks);
  expect(items[0]?.headers).not.toHaveProperty('content-encoding');
  expect(items.map(({ payloadText, encoding }) => [JSON.parse(payloadText), encoding])).toEqual([
    [body.toString('base64'), 'base64'],
    [{ n: 1 }, undefined],
  ]);
});

test('a form in parts arrives as an object, its file as base64', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const form = new FormData();
  form.set('subject', 'Hello');
  form.set('attachment', new File([new Uint8Array([0, 255])], 'a.bin', { type: 'application/octet-stream' }));
  const sent = new Response(form);
  const type = sent.headers.get('content-type') ?? '';
  const body = Buffer.from(await sent.arrayBuffer());
  expect((await app.inject(post('open', body, { 'content-type': type }))).statusCode).toBe(202);
  const [item] = await pendingOf(webhooks);
  expect(JSON.parse(item?.payloadText ?? '')).toEqual({
    subject: 'Hello',
    attachment: { filename: 'a.bin', contentType: 'application/octet-stream', size: 2, base64: 'AP8=' },
  });
});

test('bytes arrive as base64', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  const body = Buffer.from([0, 1, 254, 255]);
  await app.inject(post('open', body, { 'content-type': 'image/png' }));
  expect(await pendingOf(webhooks)).toMatchObject([
    { payloadText: `"${body.toString('base64')}"`, encoding: 'base64' },
  ]);
});

const dedupes: [string, string, NonNullable<ReturnType<typeof sources>['main']>['sources'], InjectOptions][] =
  [
    ['GitHub', 'github', { github: { verify: 'none' } }, post('github', '{}', { 'x-github-delivery': 'a' })],
    ['Stripe', 'stripe', { stripe: { verify: 'none' } }, post('stripe', '{"id":"evt_1"}')],
    ['Slack', 'slack', { slack: { verify: 'none' } }, post('slack', '{"event_id":"Ev1"}')],
    [
      'Standard Webhooks',
      'svix',
      { svix: { verify: 'none' } },
      post('svix', '{}', { 'webhook-id': 'msg_1', 'webhook-signature': 'v1,x' }),
    ],
    [
      'Svix',
      'svix',
      { svix: { verify: 'none' } },
      post('svix', '{}', { 'svix-id': 'msg_1', 'svix-signature': 'v1,x' }),
    ],
    [
      'Shopify',
      'shopify',
      { shopify: { verify: 'none' } },
      post('shopify', '{}', { 'x-shopify-webhook-id': 'b5' }),
    ],
    ['Linear', 'linear', { linear: { verify: 'none' } }, post('linear', '{}', { 'linear-delivery': 'l1' })],
    ['GitLab', 'gitlab', { gitlab: { verify: 'none' } }, post('gitlab', '{}', { 'idempotency-key': 'g1' })],
    ['Telegram', 'telegram', { telegram: { verify: 'none' } }, post('telegram', '{"update_id":10}')],
    [
      'a header of one’s own',
      'own',
      { own: { verify: 'none', delivery: { header: 'X-Request-Nr' } } },
      post('own', '{}', { 'x-request-nr': '7' }),
    ],
    [
      'a place in the JSON',
      'own',
      { own: { verify: 'none', delivery: { json: 'meta.id' } } },
      post('own', '{"meta":{"id":12345678901234567890}}'),
    ],
  ];

test.each(dedupes)('a delivery of %s is known again by its id', async (_, _name, known, request) => {
  const { app, webhooks } = await openEndpoint({ mailboxes: sources(known) });
  const answers = await Promise.all(Array.from({ length: 5 }, () => app.inject(request)));
  expect(answers.map(({ statusCode }) => statusCode).toSorted((a, b) => a - b)).toEqual([
    200, 200, 200, 200, 202,
  ]);
  expect(new Set(answers.map((answer) => answer.json<{ id: string }>().id)).size).toBe(1);
  expect(await pendingOf(webhooks)).toHaveLength(1);
});

test('what has no delivery id is never taken for a duplicate', async () => {
  const { app, webhooks } = await openEndpoint({ mailboxes: open });
  for (let n = 0; n < 3; n++) expect((await app.inject(post('open', '{"a":1}'))).statusCode).toBe(202);
  expect(await pendingOf(webhooks)).toHaveLength(3);
});

test('an item has the sender’s headers and none of its credentials', async () => {
  const { app, webhooks } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ own: { verify: 'hmac', secret, hmac: { header: 'X-Proof', encoding: 'hex' } } }),
  });
  const proof = createHmac('sha256', secret).update('{}').digest('hex');
  const headers = {
    'x-proof': proof,
    authorization: 'Bearer top-secret',
    cookie: 'top-secret',
    'x-functions-key': 'top-secret',
    'x-forwarded-for': '203.0.113.9',
    'user-agent': 'Sender/1',
    'x-event': 'made',
  };
  expect((await app.inject(post('own', '{}', headers))).statusCode).toBe(202);
  const [item] = await pendingOf(webhooks);
  expect(item?.headers).toEqual({ 'user-agent': 'Sender/1', 'x-event': 'made' });
});

test('the log has source and item of what came, and nothing of its payload, its query or a secret', async () => {
  const mailboxes = sources({ putio: { verify: 'secret', secret } });
  const { app, log } = await openEndpoint({ keys: [webhookKey], mailboxes });
  const url = `/api/webhook/main?source=putio&secret=${encodeURIComponent(secret)}`;
  const answer = await app.inject({ ...post('putio', '{"private":"content"}'), url });
  const { id } = answer.json<{ id: string }>();
  await app.inject({ ...post('putio', '{"private":'), url });
  await app.inject({ ...post('putio'), url: `${url}x` });
  await app.inject({ ...post('x'), url: `/api/webhook/main?source=x&code=${webhookText}` });
  expect(JSON.parse(log[0] ?? '')).toMatchObject({
    facts: { route: '/api/webhook/:agentId', agent: 'main', source: 'putio', item: id },
  });
  expect(JSON.parse(log.at(-1) ?? '')).toMatchObject({ facts: { key: 'webhook-key', source: 'x' } });
  for (const hidden of ['private', 'Secret', 'nxk_', 'source=']) expect(log.join('')).not.toContain(hidden);
});
