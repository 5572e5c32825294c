import { createHmac } from 'node:crypto';
import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import { hashKey, type Key, scopes } from '../../src/keys.ts';
import { keyWith, openEndpoint } from './endpoint.ts';
import { fromGitHub, fromSlack, pendingOf, post, secret, sources } from './senders.ts';

const github = sources({ github: { verify: 'github', secret } });
const open = sources({ open: { verify: 'none' } });
const { key: webhookKey, text: webhookText } = keyWith(['webhook'], ['main']);
const keyed = { 'x-functions-key': webhookText };

const noKey = sources({
  github: { verify: 'github', secret },
  stripe: { verify: 'stripe', secret },
  slack: { verify: 'slack', secret },
  clerk: { verify: 'standard', secret },
  gitlab: { verify: 'gitlab', secret },
  shopify: { verify: 'shopify', secret },
  linear: { verify: 'linear', secret },
  telegram: { verify: 'telegram', secret },
  twilio: { verify: 'twilio', secret },
  meta: { verify: 'meta', secret },
  own: { verify: 'hmac', secret, hmac: { header: 'x-mine' } },
  putio: { verify: 'secret', secret },
  ours: { verify: 'key' },
});
const strangers: [string, InjectOptions][] = [
  ...Object.keys(noKey['main']?.sources ?? {}).map((name): [string, InjectOptions] => [name, post(name)]),
  ['an unknown source', post('nobody')],
  ['no source at all', { ...post('x'), url: '/api/webhook/main' }],
  ['two sources', { ...post('x'), url: '/api/webhook/main?source=github&source=open' }],
  ['an agent that is not known', { ...post('x'), url: '/api/webhook/stranger?source=github' }],
  ['what cannot be an agent', { ...post('x'), url: '/api/webhook/..%2fmain?source=github' }],
  ['a record field of JavaScript', { ...post('x'), url: '/api/webhook/constructor?source=constructor' }],
  ['a wrong key', post('ours', '{}', { 'x-functions-key': 'wrong' })],
  ['a wrong signature', post('github', '{}', { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` })],
  ['a signature of another body', { ...fromGitHub('{"a":1}'), payload: '{"a":2}' }],
  ['a wrong secret', post('putio', '{}', { 'x-webhook-secret': 'wrong' })],
  ['an old time', fromSlack('{}', new Date(Date.now() - 3_600_000))],
];

test.each(strangers)(
  '%s is 401, nothing is stored, and the answer is the same for all',
  async (_, request) => {
    const { app, webhooks } = await openEndpoint({ keys: [webhookKey], mailboxes: noKey });
    const answer = await app.inject(request);
    expect([answer.statusCode, answer.json()]).toEqual([
      401,
      {
        error:
          'This sender has not proved itself: it must sign as its source is configured, or send a key for webhooks.',
      },
    ]);
    expect(await pendingOf(webhooks)).toEqual([]);
  },
);

test('the log tells why a sender was refused', async () => {
  const { app, log } = await openEndpoint({ keys: [webhookKey], mailboxes: noKey });
  await app.inject(post('github'));
  expect(log.map((line): unknown => JSON.parse(line))).toMatchObject([
    { facts: { status: 401, reason: expect.stringContaining('x-hub-signature-256') } },
  ]);
});

test('a source that is not configured needs a key for webhooks of that agent', async () => {
  const { app, webhooks } = await openEndpoint({ keys: [webhookKey] });
  expect((await app.inject(post('anything', '{}', keyed))).statusCode).toBe(202);
  const inQuery = { ...post('x'), url: `/api/webhook/main?source=x&code=${webhookText}` };
  expect((await app.inject(inQuery)).statusCode).toBe(202);
  expect((await pendingOf(webhooks)).map(({ source }) => source)).toEqual(['anything', 'x']);
});

test('a key without the scope, or for other agents, is 403', async () => {
  const reader = keyWith(['read', 'pull', 'upload']);
  const { app } = await openEndpoint({ keys: [webhookKey, reader.key] });
  const wrongScope = await app.inject(post('x', '{}', { 'x-functions-key': reader.text }));
  expect([wrongScope.statusCode, wrongScope.json<{ error: string }>().error]).toEqual([
    403,
    expect.stringContaining('lacks the scope "webhook"'),
  ]);
  const wrongAgent = { ...post('x', '{}', keyed), url: '/api/webhook/other?source=x' };
  expect((await app.inject(wrongAgent)).statusCode).toBe(403);
});

test('a key does not stand in for the signature of a source that signs', async () => {
  const { app } = await openEndpoint({ keys: [webhookKey], mailboxes: github });
  expect((await app.inject(post('github', '{}', keyed))).statusCode).toBe(401);
});

test('an agent needs no registration: a key that is good for it will do', async () => {
  const { key, text } = keyWith(['webhook']);
  const { app } = await openEndpoint({ keys: [key] });
  const request = { ...post('x', '{}', { 'x-functions-key': text }), url: '/api/webhook/new-1?source=x' };
  expect((await app.inject(request)).json<{ id: string }>().id).toMatch(/^new-1\./);
});

test('what cannot be an agent is 400 to who has a key, and so is a source without a name', async () => {
  const { key, text } = keyWith(['webhook']);
  const { app } = await openEndpoint({ keys: [key] });
  const headers = { 'x-functions-key': text };
  for (const url of [
    '/api/webhook/..%2fmain?source=x',
    '/api/webhook/a.b?source=x',
    '/api/webhook/main',
    '/api/webhook/main?source=',
    '/api/webhook/main?source=a&source=b',
    `/api/webhook/main?source=${'x'.repeat(101)}`,
    '/api/webhook/main?source=a%0ab',
    '/api/webhook/main?source=a%1bb',
  ])
    expect([url, (await app.inject({ ...post('', '{}', headers), url })).statusCode]).toEqual([url, 400]);
});

test('with verify none anybody may, and only there', async () => {
  const { app } = await openEndpoint({ keys: [webhookKey], mailboxes: open });
  expect((await app.inject(post('open'))).statusCode).toBe(202);
  expect((await app.inject(post('Open'))).statusCode).toBe(401);
});

test('a secret in the URL will do for senders that cannot set a header', async () => {
  const { app } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ putio: { verify: 'secret', secret: 's3cret/+&' } }),
  });
  const asked = (query: string) =>
    app.inject({ ...post('x'), url: `/api/webhook/main?source=putio${query}` });
  expect((await asked(`&secret=${encodeURIComponent('s3cret/+&')}`)).statusCode).toBe(202);
  expect((await asked('&secret=wrong')).statusCode).toBe(401);
});

/** How what Twilio signed for a URL is answered, behind so many proxies, with what they say. */
async function twilioAsked(
  proxies: number,
  called: string,
  headers: Record<string, string>,
): Promise<number> {
  const { app } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ twilio: { verify: 'twilio', secret } }),
    proxies,
  });
  const signature = createHmac('sha1', secret).update(`${called}Bodyhi`).digest('base64');
  const form = {
    'content-type': 'application/x-www-form-urlencoded',
    'x-twilio-signature': signature,
    ...headers,
  };
  return (await app.inject(post('twilio', 'Body=hi', form))).statusCode;
}
const calledAt = (origin: string) => `${origin}/api/webhook/main?source=twilio`;
const proxied = { host: 'inside', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'nexus.example' };

test.each([
  ['behind a trusted proxy that tells what was called', 1, 'https://nexus.example', proxied, 202],
  [
    'behind one that leaves the host as it is',
    1,
    'https://nexus.example',
    { host: 'nexus.example', 'x-forwarded-proto': 'https' },
    202,
  ],
  ['as it was called where nothing is before it', 0, 'http://nexus.example', { host: 'nexus.example' }, 202],
  ['not as headers say that no proxy wrote', 0, 'https://nexus.example', proxied, 401],
  ['as it was called, whatever such headers say', 0, 'http://inside', proxied, 202],
  [
    'not as the sender wrote before what the proxy added',
    1,
    'https://other.example',
    { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'other.example, nexus.example' },
    401,
  ],
])('Twilio’s signature of its URL holds %s', async (_, proxies, origin, headers, status) => {
  expect(await twilioAsked(proxies, calledAt(origin), headers)).toBe(status);
});

test('while a secret is being changed either will do', async () => {
  const { app } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ github: { verify: 'github', secret: ['new one', secret] } }),
  });
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(202);
});

test('a key of all scopes in the URL of a webhook is 403 and told what to use', async () => {
  const all = keyWith([...scopes]);
  const { app, webhooks } = await openEndpoint({ keys: [all.key], mailboxes: open });
  for (const source of ['anything', 'open']) {
    const answer = await app.inject({
      ...post(source),
      url: `/api/webhook/main?source=${source}&code=${all.text}`,
    });
    expect([answer.statusCode, answer.json<{ error: string }>().error]).toEqual([
      403,
      expect.stringContaining('nexus webhooks url'),
    ]);
  }
  expect((await app.inject(post('anything', '{}', { 'x-functions-key': all.text }))).statusCode).toBe(202);
  expect(await pendingOf(webhooks)).toHaveLength(1);
});

test('without any key this machine may deliver, and a source that is configured is verified all the same', async () => {
  const { app } = await openEndpoint({ mailboxes: github });
  expect((await app.inject(post('anything'))).statusCode).toBe(202);
  expect((await app.inject(post('github'))).statusCode).toBe(401);
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(202);
});

test.each([
  ['forwarded', { 'x-forwarded-for': '203.0.113.9' }],
  ['for another host', { host: 'nexus.example' }],
  ['of a web page', { origin: 'https://evil.example' }],
])('without any key a webhook that is %s is 403 though it is signed', async (_, headers) => {
  const { app } = await openEndpoint({ mailboxes: github });
  expect((await app.inject(fromGitHub('{}', headers))).statusCode).toBe(403);
});

test('a secret that is not where it should be is the endpoint’s trouble: 503, and the log names the place', async () => {
  const { app, log } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ github: { verify: 'github', secret: { env: 'NO_SUCH_SECRET_HERE' } } }),
  });
  const answer = await app.inject(fromGitHub('{}'));
  expect([answer.statusCode, answer.body.includes('NO_SUCH')]).toEqual([503, false]);
  expect(answer.headers['retry-after']).toBeDefined();
  expect(log.join('')).toContain('NO_SUCH_SECRET_HERE');
});

test('of two secrets the one that is there is enough', async () => {
  const { app } = await openEndpoint({
    keys: [webhookKey],
    mailboxes: sources({ github: { verify: 'github', secret: [{ env: 'NO_SUCH_SECRET_HERE' }, secret] } }),
  });
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(202);
});

test('what is configured may change while it runs', async () => {
  let known = sources({});
  const { app } = await openEndpoint({ keys: [webhookKey], mailboxes: () => known });
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(401);
  known = github;
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(202);
  known = sources({ github: { verify: 'github', secret: 'another' } });
  expect((await app.inject(fromGitHub('{}'))).statusCode).toBe(401);
});

test('the hash of a key lets nobody deliver', async () => {
  const key: Key = { name: 'k', hash: hashKey('text'), agents: '*', scopes: ['webhook'] };
  const { app } = await openEndpoint({ keys: [key] });
  expect((await app.inject(post('x', '{}', { 'x-functions-key': key.hash }))).statusCode).toBe(401);
});
