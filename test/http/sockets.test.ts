import { expect, test } from 'vitest';
import type { Nexus } from '../../src/nexus.ts';
import { aSession, keyWith, listeningEndpoint } from './endpoint.ts';
import { connect } from './socket.ts';

const limit = 10 * 1024 * 1024;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const head = (method: string, path: string, ...fields: string[]) =>
  [`${method} ${path} HTTP/1.1`, 'Host: 127.0.0.1', ...fields, '', ''].join('\r\n');
const patchHead = (...fields: string[]) =>
  head(
    'PATCH',
    '/api/sessions/main/x',
    'Upload-Offset: 0',
    'Upload-Complete: ?0',
    'Content-Type: application/partial-upload',
    ...fields,
  );
const chunk = (bytes: Buffer) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
/** The sentence in an answer's body. */
const error = (text: string) => /"error":"([^"]*)"/.exec(text)?.[1];

/** Counts how many readers of a transcript are open. */
function counting(sessions: Nexus, open: { readers: number }): Nexus {
  return {
    ...sessions,
    async *read(...range) {
      open.readers += 1;
      try {
        yield* sessions.read(...range);
      } finally {
        open.readers -= 1;
      }
    },
  };
}

test('a chunked body is taken like any other', async () => {
  const { port, sessions } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write(patchHead('Transfer-Encoding: chunked'));
  socket.write(chunk(Buffer.from('one\n')));
  socket.write(chunk(Buffer.from('two\n')));
  socket.write('0\r\n\r\n');
  expect(await socket.until(/\r\n\r\n/)).toMatch(/^HTTP\/1.1 201 /);
  expect((await sessions.stat('main', 'x'))?.length).toBe(8);
});

test('a chunked body that grows too large is 413 while it is still coming, and is cut', async () => {
  const { port, sessions } = await listeningEndpoint({ limits: { lingerMs: 100 } });
  const socket = await connect(port);
  socket.write(patchHead('Transfer-Encoding: chunked'));
  const megabyte = chunk(Buffer.alloc(1024 * 1024));
  for (let n = 0; n < 11; n++) socket.write(megabyte);
  expect(await socket.until(/\r\n\r\n\{.*\}/)).toMatch(/^HTTP\/1.1 413 /);
  await socket.closed;
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('a chunked JSON body that grows too large is 413 with the sentence of the contract', async () => {
  const { port } = await listeningEndpoint({ limits: { lingerMs: 100 } });
  const socket = await connect(port);
  socket.write(head('POST', '/api/sessions', 'Content-Type: application/json', 'Transfer-Encoding: chunked'));
  const megabyte = chunk(Buffer.alloc(1024 * 1024, 'x'));
  for (let n = 0; n < 61; n++) socket.write(megabyte);
  const answer = await socket.until(/\r\n\r\n\{.*\}/);
  expect(answer).toMatch(/^HTTP\/1.1 413 /);
  expect(error(answer)).toBe('Transcript exceeds 10 MB limit');
});

test.each([
  ['PATCH', patchHead(`Content-Length: ${limit + 1024 * 1024}`)],
  ['POST', head('POST', '/api/sessions', 'Content-Type: application/json', `Content-Length: ${7 * limit}`)],
])('a %s whose Content-Length is too much is 413 before a byte of it was sent, and cut', async (_, text) => {
  const { port } = await listeningEndpoint({ limits: { lingerMs: 50 } });
  const socket = await connect(port);
  socket.write(text);
  expect(await socket.until(/\}$/)).toMatch(/^HTTP\/1.1 413 /);
  await socket.closed;
});

test('whoever waits for 100 Continue is told to go on', async () => {
  const { port, sessions } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 4', 'Expect: 100-continue'));
  await socket.until(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
  socket.write('one\n');
  expect(await socket.until(/201 Created[^]*\r\n\r\n/)).toContain('upload-offset: 4');
  expect((await sessions.stat('main', 'x'))?.length).toBe(4);
});

test('whoever waits for 100 Continue without a key is refused and need not send', async () => {
  const { port } = await listeningEndpoint({ keys: [keyWith(['upload']).key] });
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 4', 'Expect: 100-continue'));
  const answer = await socket.until(/\}$/);
  expect(answer).toMatch(/^HTTP\/1.1 401 /);
  expect(answer).toMatch(/connection: close/i);
  await socket.closed;
});

test('a sender who goes away in the middle leaves nothing behind', async () => {
  const { port, sessions, log } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 1000'));
  socket.write('half');
  await sleep(50);
  socket.destroy();
  await expect.poll(() => log.join('')).toContain('/api/sessions/:agentId/:transcript');
  expect(await sessions.stat('main', 'x')).toBeUndefined();
  expect(log.join('')).not.toContain('internal error');
});

test('a head that does not come to its end is cut with 408', async () => {
  const { port } = await listeningEndpoint({ limits: { headersMs: 200 } });
  const socket = await connect(port);
  socket.write('GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ');
  await socket.closed;
  expect(socket.received()).toMatch(/^HTTP\/1.1 408 /);
  expect(error(socket.received())).toBe('The request did not arrive in time.');
});

test('a connection on which nothing is ever said is cut', async () => {
  const { port } = await listeningEndpoint({ limits: { headersMs: 200 } });
  const began = Date.now();
  const socket = await connect(port);
  await socket.closed;
  expect(Date.now() - began).toBeLessThan(3000);
});

test('a body that trickles is cut', async () => {
  const { port, sessions } = await listeningEndpoint({ limits: { headersMs: 200, requestMs: 400 } });
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 1000'));
  const trickle = setInterval(() => socket.write('x'), 50);
  await socket.closed;
  clearInterval(trickle);
  expect(socket.received()).toMatch(/^HTTP\/1.1 408 /);
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('what is no HTTP is 400 with a sentence', async () => {
  const { port } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write('hello there\r\n\r\n');
  await socket.closed;
  expect(error(socket.received())).toBe('This is not an HTTP request.');
});

test('headers beyond all length are 431', async () => {
  const { port } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write(head('GET', '/healthz', `X-Long: ${'x'.repeat(20_000)}`));
  await socket.closed;
  expect(socket.received()).toMatch(/^HTTP\/1.1 431 /);
});

test('without keys a request that names no host is 403', async () => {
  const { port } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write('GET /api/store HTTP/1.0\r\n\r\n');
  expect(await socket.until(/\}$/)).toMatch(/^HTTP\/1.1 403 /);
});

test('without keys a host that a web page has bent to this address is 403', async () => {
  const { port } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write('GET /api/store HTTP/1.1\r\nHost: evil.example\r\n\r\n');
  expect(await socket.until(/\}$/)).toMatch(/^HTTP\/1.1 403 /);
});

test('a reader who goes away has its file closed', async () => {
  const open = { readers: 0 };
  const { port, sessions } = await listeningEndpoint({ over: (sessions) => counting(sessions, open) });
  for (let offset = 0; offset < 3 * limit; offset += limit)
    await sessions.append('main', 'x', offset, Buffer.alloc(limit), { complete: false, about: {} });
  const socket = await connect(port);
  socket.write(head('GET', '/api/sessions/main/x'));
  await socket.until(/200 OK/);
  expect(open.readers).toBe(1);
  socket.destroy();
  await expect.poll(() => open.readers).toBe(0);
});

test('bytes that fail half-way end the connection, so that nobody takes them for all', async () => {
  const { url, log, sessions } = await listeningEndpoint({
    over: (sessions) => ({
      ...sessions,
      async *read() {
        yield Buffer.from('01234');
        await sleep(20);
        throw new Error('the disk is gone');
      },
    }),
  });
  await sessions.append('main', 'x', 0, Buffer.from('0123456789'), { complete: false, about: {} });
  const answer = await fetch(`${url}/api/sessions/main/x`);
  await expect(answer.arrayBuffer()).rejects.toThrow('terminated');
  expect(log.join('')).toContain('the disk is gone');
});

test('a request under way is finished after the signal, and no new one taken', async () => {
  const { port, url, stop, closed, sessions } = await listeningEndpoint({ drainMs: 5000 });
  const idle = await connect(port);
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 8'));
  socket.write('one\n');
  await sleep(50);
  stop();
  await idle.closed;
  await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed');
  socket.write('two\n');
  expect(await socket.until(/\r\n\r\n/)).toMatch(/^HTTP\/1.1 201 /);
  await closed;
  expect((await sessions.stat('main', 'x'))?.length).toBe(8);
});

test('a download whose answer had begun is finished after the signal, and its connection closed', async () => {
  const { url, stop, closed, sessions } = await listeningEndpoint({ drainMs: 5000 });
  await sessions.append('main', 'x', 0, Buffer.alloc(limit, 'x'), { complete: false, about: {} });
  const answer = await fetch(`${url}/api/sessions/main/x`);
  stop();
  expect((await answer.arrayBuffer()).byteLength).toBe(limit);
  const began = Date.now();
  await closed;
  expect(Date.now() - began).toBeLessThan(2000);
});

test('what does not end is cut after the time for it', async () => {
  const { port, stop, closed, sessions } = await listeningEndpoint({ drainMs: 200 });
  const socket = await connect(port);
  socket.write(patchHead('Content-Length: 8'));
  await sleep(50);
  stop();
  await closed;
  await socket.closed;
  expect(await sessions.stat('main', 'x')).toBeUndefined();
});

test('a connection is used for many requests', async () => {
  const { port } = await listeningEndpoint();
  const socket = await connect(port);
  socket.write(
    head('GET', '/healthz') + head('GET', `/api/sessions/main/${aSession}`) + head('GET', '/api/store'),
  );
  const answers = await socket.until(/(HTTP\/1.1[^]*){3}"version":"1.2.3"\}$/);
  expect(answers.match(/HTTP\/1.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 404', 'HTTP/1.1 200']);
});
