import { expect, test } from 'vitest';
import { listeningEndpoint } from './endpoint.ts';
import { connect } from './socket.ts';

const ask = 'GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n';
const limits = { connections: 5 };

test('who holds all connections and asks nothing keeps nobody out', async () => {
  const { port, url } = await listeningEndpoint({ limits });
  for (let n = 0; n < 12; n++) await connect(port);
  for (let n = 0; n < 3; n++) expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('a head that is not whole is no request: its connection makes room too', async () => {
  const { port, url } = await listeningEndpoint({ limits });
  for (let n = 0; n < 12; n++) (await connect(port)).write('GET /healthz HTTP/1.1\r\nX-Slow: ');
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});

test('one that was used is kept before those on which nothing was ever asked', async () => {
  const { port } = await listeningEndpoint({ limits });
  const used = await connect(port);
  used.write(ask);
  await used.until(/"status":"ok"/);
  for (let n = 0; n < 12; n++) await connect(port);
  used.write(ask);
  expect(await used.until(/("status":"ok"[^]*){2}/)).toMatch(/^HTTP\/1.1 200 /);
});

test('a request that is under way is not cut for others', async () => {
  const { port, sessions } = await listeningEndpoint({ limits });
  const fields = 'Host: 127.0.0.1\r\nUpload-Offset: 0\r\nUpload-Complete: ?0\r\nContent-Length: 2';
  const type = 'Content-Type: application/partial-upload';
  const busy = await connect(port);
  busy.write(`PATCH /api/sessions/main/x HTTP/1.1\r\n${fields}\r\n${type}\r\n\r\n`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  for (let n = 0; n < 12; n++) await connect(port);
  busy.write('x\n');
  await busy.until(/^HTTP\/1.1 201 /);
  expect((await sessions.stat('main', 'x'))?.length).toBe(2);
});

test('where all are busy the new one is closed', async () => {
  const { port } = await listeningEndpoint({ limits: { connections: 1 } });
  const busy = await connect(port);
  busy.write('PATCH /api/sessions/main/x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpload-Offset: 0\r\n');
  busy.write('Upload-Complete: ?0\r\nContent-Length: 2\r\nContent-Type: application/partial-upload\r\n\r\n');
  await new Promise((resolve) => setTimeout(resolve, 50));
  const late = await connect(port);
  await late.closed;
  busy.write('x\n');
  expect(await busy.until(/\r\n\r\n/)).toMatch(/^HTTP\/1.1 201 /);
});
