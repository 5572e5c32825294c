import { expect, test } from 'vitest';
import { keyWith, openEndpoint } from './endpoint.ts';
import { fromSlack, post, secret, sources } from './senders.ts';

const { key, text } = keyWith(['webhook'], ['main']);

test('Slack’s challenge is answered as text once its signature is right, and not kept', async () => {
  const { app, webhooks } = await openEndpoint({
    keys: [key],
    mailboxes: sources({ slack: { verify: 'slack', secret } }),
  });
  const asked = JSON.stringify({ token: 't', challenge: '3eZbrw1a<b>', type: 'url_verification' });
  const answer = await app.inject(fromSlack(asked));
  expect([answer.statusCode, answer.headers['content-type'], answer.body]).toEqual([
    200,
    'text/plain; charset=utf-8',
    '3eZbrw1a<b>',
  ]);
  expect(answer.headers['content-security-policy']).toContain('sandbox');
  expect((await app.inject(post('slack', asked))).statusCode).toBe(401);
  const forged = { ...fromSlack('{}'), payload: asked };
  expect((await app.inject(forged)).statusCode).toBe(401);
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
});

test('what only mentions a challenge is kept', async () => {
  const { app, webhooks } = await openEndpoint({
    mailboxes: sources({ slack: { verify: 'slack', secret }, other: { verify: 'none' } }),
  });
  const event = '{"type":"event_callback","event":{"text":"url_verification","challenge":"x"}}';
  expect((await app.inject(fromSlack(event))).statusCode).toBe(202);
  expect((await app.inject(post('other', '{"type":"url_verification","challenge":"x"}'))).statusCode).toBe(
    202,
  );
  expect((await webhooks.pending({ agents: '*' })).items).toHaveLength(2);
});

test.each(['{"type":"url_verification"}', `{"type":"url_verification","challenge":"${'x'.repeat(5000)}"}`])(
  'a challenge of Slack that is none is 400',
  async (asked) => {
    const { app } = await openEndpoint({ mailboxes: sources({ slack: { verify: 'slack', secret } }) });
    expect((await app.inject(fromSlack(asked))).statusCode).toBe(400);
  },
);

const graph = sources({ graph: { verify: 'secret', secret, challenge: 'microsoft-graph' } });
const graphUrl = (query: string) => ({
  method: 'POST' as const,
  url: `/api/webhook/main?source=graph&secret=${encodeURIComponent(secret)}&${query}`,
  headers: { 'content-type': 'text/plain; charset=utf-8' },
});

test('Microsoft Graph’s token is answered decoded, as text, and not kept', async () => {
  const { app, webhooks } = await openEndpoint({ keys: [key], mailboxes: graph });
  const answer = await app.inject(graphUrl('validationToken=Validation%3a+Testing+%C3%A9%2B%3Cb%3E'));
  expect([answer.statusCode, answer.headers['content-type'], answer.body]).toEqual([
    200,
    'text/plain; charset=utf-8',
    'Validation: Testing é+<b>',
  ]);
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
});

test('a token is not answered without the secret, nor one that is beyond all length, nor where it is not configured', async () => {
  const { app, webhooks } = await openEndpoint({
    keys: [key],
    mailboxes: sources({ ...graph['main']?.sources, open: { verify: 'none' } }),
  });
  const url = '/api/webhook/main?source=graph&validationToken=x';
  expect((await app.inject({ method: 'POST', url })).statusCode).toBe(401);
  expect((await app.inject(graphUrl(`validationToken=${'x'.repeat(5000)}`))).statusCode).toBe(400);
  expect((await app.inject(graphUrl('validationToken='))).statusCode).toBe(400);
  const plain = { method: 'POST' as const, url: '/api/webhook/main?source=open&validationToken=x' };
  expect((await app.inject(plain)).statusCode).toBe(202);
  expect((await webhooks.pending({ agents: '*' })).items).toHaveLength(1);
});

test('a token of Microsoft Graph may stand behind a key', async () => {
  const { app } = await openEndpoint({
    keys: [key],
    mailboxes: sources({ graph: { verify: 'key', challenge: 'microsoft-graph' } }),
  });
  const url = '/api/webhook/main?source=graph&validationToken=abc';
  expect((await app.inject({ method: 'POST', url })).statusCode).toBe(401);
  expect((await app.inject({ method: 'POST', url: `${url}&code=${text}` })).body).toBe('abc');
});

const meta = sources({
  meta: { verify: 'meta', secret, verifyToken: 'my token' },
  plain: { verify: 'none' },
});
const metaUrl = (query: string, source = 'meta') =>
  `/api/webhook/main?source=${source}&hub.mode=subscribe&hub.challenge=1158201444&${query}`;

test('Meta’s challenge is answered to who knows the token', async () => {
  const { app } = await openEndpoint({ keys: [key], mailboxes: meta });
  const answer = await app.inject({ url: metaUrl('hub.verify_token=my%20token') });
  expect([answer.statusCode, answer.headers['content-type'], answer.body]).toEqual([
    200,
    'text/plain; charset=utf-8',
    '1158201444',
  ]);
});

test.each([
  ['a wrong token', metaUrl('hub.verify_token=wrong')],
  ['no token', metaUrl('')],
  ['two tokens', metaUrl('hub.verify_token=my%20token&hub.verify_token=my%20token')],
  ['a source without a token', metaUrl('hub.verify_token=my%20token', 'plain')],
  ['an unknown source', metaUrl('hub.verify_token=my%20token', 'nobody')],
  ['an unknown agent', metaUrl('hub.verify_token=my%20token').replace('main', 'other')],
])('to %s Meta’s challenge is 401, the same for all', async (_, url) => {
  const { app } = await openEndpoint({ keys: [key], mailboxes: meta });
  const answer = await app.inject({ url });
  expect([answer.statusCode, answer.json<{ error: string }>().error]).toEqual([
    401,
    expect.stringMatching(/^This sender has not proved itself/),
  ]);
});

test('another mode, or a challenge that is none, is 400 to who knows the token', async () => {
  const { app } = await openEndpoint({ keys: [key], mailboxes: meta });
  const right = metaUrl('hub.verify_token=my%20token');
  expect((await app.inject({ url: right.replace('subscribe', 'other') })).statusCode).toBe(400);
  expect((await app.inject({ url: right.replace('1158201444', 'x'.repeat(5000)) })).statusCode).toBe(400);
});

test('without keys Meta’s challenge is answered to this machine alone', async () => {
  const { app } = await openEndpoint({ mailboxes: meta });
  const url = metaUrl('hub.verify_token=my%20token');
  expect((await app.inject({ url })).statusCode).toBe(200);
  expect((await app.inject({ url, headers: { 'x-forwarded-for': '203.0.113.9' } })).statusCode).toBe(403);
});

test('any other GET of a webhook’s URL is 405', async () => {
  const { app } = await openEndpoint({ keys: [key], mailboxes: meta });
  for (const url of ['/api/webhook/main?source=meta', '/api/webhook/nobody']) {
    const answer = await app.inject({ url });
    expect([answer.statusCode, answer.headers['allow']]).toEqual([405, 'POST']);
  }
});
