import { createHmac } from 'node:crypto';
import { expect, test, vi } from 'vitest';
import { keyWith, listeningEndpoint } from './endpoint.ts';
import { secret, sources } from './senders.ts';
import { connect } from './socket.ts';

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const megabyte = 1024 * 1024;

const head = (source: string, ...fields: string[]) =>
  [
    `POST /api/webhook/main?source=${source} HTTP/1.1`,
    'Host: 127.0.0.1',
    'Content-Type: application/octet-stream',
    ...fields,
    '',
    '',
  ].join('\r\n');
const chunk = (bytes: Buffer) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);

const known = sources({
  open: { verify: 'none' },
  small: { verify: 'none', maxBytes: 2 * megabyte },
  github: { verify: 'github', secret },
  mine: { verify: 'hmac', secret, hmac: { header: 'x-mine' } },
  putio: { verify: 'secret', secret },
});
const { key, text } = keyWith(['webhook']);

test('a chunked webhook is kept like any other', async () => {
  const { port, webhooks } = await listeningEndpoint({ mailboxes: known });
  const socket = await connect(port);
  socket.write(head('open', 'Transfer-Encoding: chunked'));
  socket.write(chunk(Buffer.from('one')));
  socket.write(chunk(Buffer.from('two')));
  socket.write('0\r\n\r\n');
  const id = /"id":"([^"]+)"/.exec(await socket.until(/^HTTP\/1.1 202 [^]*\}$/))?.[1] ?? '';
  expect((await webhooks.body(id)).body.toString()).toBe('onetwo');
});

test.each([
  ['small', 3],
  ['open', 26],
])(
  'a chunked webhook that grows over the limit of %s is 413 while it is coming, and is cut',
  async (source, n) => {
    const { port, webhooks } = await listeningEndpoint({ mailboxes: known, limits: { lingerMs: 100 } });
    const socket = await connect(port);
    socket.write(head(source, 'Transfer-Encoding: chunked'));
    for (let sent = 0; sent < n; sent++) socket.write(chunk(Buffer.alloc(megabyte)));
    expect(await socket.until(/\r\n\r\n\{.*\}/)).toMatch(/^HTTP\/1.1 413 /);
    await socket.closed;
    expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
  },
);

test('a Content-Length over the limit is 413 before a byte of the body was sent', async () => {
  const { port } = await listeningEndpoint({ mailboxes: known, limits: { lingerMs: 50 } });
  const socket = await connect(port);
  socket.write(head('open', `Content-Length: ${25 * megabyte + 1}`));
  expect(await socket.until(/\}$/)).toMatch(/^HTTP\/1.1 413 /);
  await socket.closed;
});

test.each([
  ['whose source is unknown', 'nobody', []],
  ['whose signature is missing', 'github', []],
  ['whose secret is wrong', 'putio', ['X-Webhook-Secret: wrong']],
  ['whose key is wrong', 'nobody', ['X-Functions-Key: wrong']],
])('of a sender %s not a byte of the body is read', async (_, source, fields) => {
  const { port } = await listeningEndpoint({ keys: [key], mailboxes: known, limits: { lingerMs: 50 } });
  // That a body is too long is said to anybody, so that it tells nothing of which sources there are.
  for (const [body, status] of [
    [`Content-Length: ${30 * megabyte}`, '413'],
    ['Content-Length: 1', '401'],
    ['Transfer-Encoding: chunked', '401'],
  ] as const) {
    const socket = await connect(port);
    socket.write(head(source, 'Expect: 100-continue', body, ...fields));
    const answer = await socket.until(/\}$/);
    expect(answer).toContain(`HTTP/1.1 ${status} `);
    expect(answer).not.toContain('100 Continue');
    await socket.closed;
  }
});

test('who may send on is told to, once the head is enough', async () => {
  const { port } = await listeningEndpoint({ keys: [key], mailboxes: known });
  const socket = await connect(port);
  const signature = createHmac('sha256', secret).update('body').digest('hex');
  socket.write(
    head('github', 'Content-Length: 4', 'Expect: 100-continue', `X-Hub-Signature-256: sha256=${signature}`),
  );
  await socket.until(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
  socket.write('body');
  expect(await socket.until(/202 Accepted[^]*\}$/)).toContain('"status":"accepted"');
});

test('a sender who goes away in the middle leaves nothing behind', async () => {
  const { port, webhooks, log } = await listeningEndpoint({ mailboxes: known });
  const socket = await connect(port);
  socket.write(head('open', 'Content-Length: 1000'));
  socket.write('half');
  await sleep(50);
  socket.destroy();
  await vi.waitUntil(() => log.join('').includes('/api/webhook/:agentId'));
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
  expect(log.join('')).not.toContain('internal error');
});

test('a webhook that trickles is cut', async () => {
  const { port, webhooks } = await listeningEndpoint({
    mailboxes: known,
    limits: { headersMs: 200, requestMs: 400 },
  });
  const socket = await connect(port);
  socket.write(head('open', 'Content-Length: 1000'));
  const trickle = setInterval(() => socket.write('x'), 50);
  await socket.closed;
  clearInterval(trickle);
  expect(socket.received()).toMatch(/^HTTP\/1.1 408 /);
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
});

test('long bodies beyond what memory is for are asked to come later, short ones are taken', async () => {
  const { port, url } = await listeningEndpoint({
    mailboxes: known,
    limits: { webhookBytes: 8 * megabyte },
  });
  const slow = await connect(port);
  slow.write(head('open', `Content-Length: ${2 * megabyte}`));
  slow.write(Buffer.alloc(2 * megabyte - 1));
  await sleep(100);
  const send = (bytes: number) =>
    fetch(`${url}/api/webhook/main?source=open`, { method: 'POST', body: new Uint8Array(bytes) });
  const late = await send(megabyte);
  expect([late.status, late.headers.has('retry-after')]).toEqual([503, true]);
  expect((await send(1000)).status).toBe(202);
  slow.write('x');
  await slow.until(/202 Accepted/);
  expect((await send(megabyte)).status).toBe(202);
});

test('a body that was refused is no longer counted', async () => {
  const { url } = await listeningEndpoint({ mailboxes: known, limits: { webhookBytes: 4 * megabyte } });
  const send = (source: string, bytes: number, headers = {}) =>
    fetch(`${url}/api/webhook/main?source=${source}`, {
      method: 'POST',
      body: new Uint8Array(bytes),
      headers,
    });
  const signature = { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` };
  for (let n = 0; n < 4; n++) expect((await send('github', megabyte, signature)).status).toBe(401);
  expect((await send('open', megabyte)).status).toBe(202);
});

test('bodies that anybody may send leave room for those of senders who prove themselves', async () => {
  const { port, url } = await listeningEndpoint({
    keys: [key],
    mailboxes: known,
    limits: { webhookBytes: 4 * megabyte },
  });
  const strangers = await Promise.all(Array.from({ length: 8 }, () => connect(port)));
  for (const stranger of strangers) {
    stranger.write(head('open', `Content-Length: ${2 * megabyte}`));
    stranger.write(Buffer.alloc(megabyte / 2));
  }
  await vi.waitUntil(() => strangers.filter((one) => one.received().includes(' 503 ')).length >= 6);
  const headers = { 'x-webhook-secret': secret };
  const body = new Uint8Array(megabyte);
  expect(
    (await fetch(`${url}/api/webhook/main?source=putio`, { method: 'POST', body, headers })).status,
  ).toBe(202);
  for (const stranger of strangers) stranger.destroy();
});

test('strangers who trickle long bodies under one name leave room for the bodies of other senders', async () => {
  const { port, url } = await listeningEndpoint({
    mailboxes: known,
    limits: { webhookBytes: 8 * megabyte, lingerMs: 50 },
  });
  const wrong = `X-Hub-Signature-256: sha256=${'0'.repeat(64)}`;
  const strangers = await Promise.all(Array.from({ length: 11 }, () => connect(port)));
  for (const stranger of strangers) {
    stranger.write(head('github', `Content-Length: ${25 * megabyte}`, wrong));
    stranger.write(Buffer.alloc(megabyte));
  }
  await vi.waitUntil(() => strangers.filter((one) => one.received().includes(' 503 ')).length >= 9);
  const body = Buffer.alloc(megabyte);
  const signature = createHmac('sha256', secret).update(body).digest('hex');
  const send = (source: string, headers: Record<string, string>) =>
    fetch(`${url}/api/webhook/main?source=${source}`, { method: 'POST', body, headers });
  expect((await send('mine', { 'x-mine': signature })).status).toBe(202);
  expect((await send('open', {})).status).toBe(202);
  expect((await send('github', { 'x-hub-signature-256': `sha256=${signature}` })).status).toBe(503);
  for (const stranger of strangers) stranger.destroy();
});

test('a webhook under way is kept after the signal, and its sender answered', async () => {
  const { port, webhooks, stop, closed } = await listeningEndpoint({
    keys: [key],
    mailboxes: known,
    drainMs: 5000,
  });
  const socket = await connect(port);
  socket.write(head('x', 'Content-Length: 8', `X-Functions-Key: ${text}`));
  socket.write('half');
  await sleep(50);
  stop();
  await sleep(50);
  socket.write('half');
  await socket.until(/202 Accepted/);
  expect((await webhooks.pending({ agents: '*' })).items).toHaveLength(1);
  await closed;
});
