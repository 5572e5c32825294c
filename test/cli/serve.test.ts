import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { type Machine, newMachine, type Started } from './nexus.ts';
import { archived, newOpenClawMachine } from './openclaw.ts';

const listening = /Listening on (http:\/\/127\.0\.0\.1:(\d+)), storing in (\S+)\.\n/;

async function serving(machine: Machine, port = 0): Promise<Started & { url: string; port: number }> {
  const started = machine.start(['serve', '--port', String(port)]);
  const [, url = '', chosen] = await started.shows(listening);
  return { ...started, url, port: Number(chosen) };
}

/** Appends so small that a transcript takes hundreds of requests, each on disk before it is answered. */
const small = { chunkBytes: 4096, concurrency: 2 };

/** Resolves when so many bytes of the transcript are on the endpoint's disk. */
async function arrived({ dataDir }: Machine, id: string, bytes: number): Promise<void> {
  const blob = `${dataDir}/store/blobs/sessions/inbox/main/${id}.jsonl`;
  const size = async () => (await stat(blob, { throwIfNoEntry: false }))?.size ?? 0;
  await expect.poll(size, { interval: 5, timeout: 10_000 }).toBeGreaterThan(bytes);
}

test('it says where it listens and where it stores, and logs each request on stderr', async () => {
  const machine = await newMachine();
  const endpoint = await serving(machine);
  const [, , , directory] = await endpoint.shows(listening);
  expect(directory).toBe(`${machine.dataDir}/store`);
  expect((await fetch(`${endpoint.url}/healthz`)).status).toBe(200);
  expect((await fetch(`${endpoint.url}/api/sessions?code=secret-in-a-query`)).status).toBe(200);
  endpoint.kill('SIGTERM');
  const { status, stdout, stderr } = await endpoint.ended;
  expect({ status, stdout }).toEqual({ status: 143, stdout: '' });
  expect(stderr.replace(/[\d:.]+ (GET .* 200) \d+ ms/g, '$1')).toBe(
    `Listening on ${endpoint.url}, storing in ${machine.dataDir}/store.\nGET /api/sessions 200\nStopping.\n`,
  );
});

test('told to stop, it takes no new connection, answers what has begun, and is gone at once', async () => {
  const machine = await newMachine();
  const endpoint = await serving(machine);
  const bytes = transcript(ids.a, 1);
  const body = JSON.stringify({ agentId: 'main', sessionId: ids.a, transcript: bytes });
  const socket = connect(endpoint.port, '127.0.0.1');
  let answer = '';
  socket.on('data', (part) => (answer += part.toString()));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n');
  socket.write(`Content-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`);
  await expect.poll(() => answer, { interval: 10 }).toContain('100 Continue');

  endpoint.kill('SIGTERM');
  await endpoint.shows(/Stopping/);
  await expect
    .poll(() => fetch(`${endpoint.url}/healthz`).then(String, () => 'refused'), { interval: 10 })
    .toBe('refused');
  const began = performance.now();
  socket.write(body);
  await closed;
  expect(answer).toContain('HTTP/1.1 200 OK');
  expect(await endpoint.ended).toMatchObject({ status: 143, signal: undefined });
  expect(performance.now() - began).toBeLessThan(5000);
  expect(await archived(machine.dataDir)).toEqual(new Map([[`main/${ids.a}`, Buffer.from(bytes)]]));
});

test('killed in the middle of an upload and started again: the upload goes on by itself, nothing is lost or twice', async () => {
  const server = await newMachine();
  const host = await newOpenClawMachine('files-2026.7.35');
  const large = transcript(ids.a, 8000, 'x'.repeat(60));
  await host.openclaw.write(`${ids.a}.jsonl`, large);
  await host.configure({ ...small, retry: { tries: 40, baseMs: 50, maxMs: 200 } });
  const first = await serving(server);
  const env = { NEXUS_ENDPOINT: first.url };
  const running = host.start(['upload', '--json'], { env });
  await arrived(server, ids.a, 200_000);
  first.kill('SIGKILL');
  await first.ended;
  const second = await serving(server, first.port);

  const ended = await running.ended;
  expect(ended).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(ended.stdout)).toMatchObject({ ok: true, done: 43, failed: [] });
  const { stdout } = await host.nexus(['backfill', '--verify'], { env });
  expect(stdout).toMatch(/^backfill: 0 transcripts stored \(0 B\), 43 already there, 0 skipped, 0 failed/m);
  second.kill('SIGTERM');
  await second.ended;
  const stored = await archived(server.dataDir);
  expect(stored.size).toBe(43);
  expect(stored.get(`main/${ids.a}`)?.equals(Buffer.from(large))).toBe(true);
});

test('gone for longer than the retries: the upload names what failed, and the next run completes it', async () => {
  const server = await newMachine();
  const host = await newOpenClawMachine();
  const large = transcript(ids.a, 8000, 'x'.repeat(60));
  await host.openclaw.write(`${ids.a}.jsonl`, large);
  await host.configure({ ...small, retry: { tries: 2, baseMs: 10, maxMs: 20 } });
  const first = await serving(server);
  const env = { NEXUS_ENDPOINT: first.url };
  const running = host.start(['upload', '--json'], { env });
  await arrived(server, ids.a, 100_000);
  first.kill('SIGKILL');

  const ended = await running.ended;
  expect(ended).toMatchObject({ status: 69, stderr: '' });
  const report: unknown = JSON.parse(ended.stdout);
  const unreachable = expect.stringMatching(/^The endpoint \S+ cannot be reached after 2 tries/);
  expect(report).toMatchObject({
    ok: false,
    done: 0,
    // The agent too: the mark that ends its run could not be left.
    failed: [
      { item: expect.stringContaining(`${ids.a}.jsonl`), reason: unreachable },
      { item: 'agent main' },
    ],
  });
  expect(Object(report).bytes).toBeGreaterThan(0);

  await serving(server, first.port);
  const next = await host.json(['upload'], { env });
  expect(next).toMatchObject({ status: 0, answer: { ok: true, done: 1, failed: [] } });
  // It went on where it had stopped.
  expect(Number(next.answer['bytes'])).toBeLessThan(large.length);
  expect(await archived(server.dataDir)).toEqual(new Map([[`main/${ids.a}`, Buffer.from(large)]]));
});

test('a key that is added while it runs closes it to those without, and opens it to its bearer', async () => {
  const server = await newMachine();
  const host = await newOpenClawMachine();
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
  const { url } = await serving(server);
  const key = (await server.nexus(['keys', 'add', 'box', '--agents', 'main', '--scopes', 'upload'])).stdout;
  expect(await host.nexus(['upload'], { env: { NEXUS_ENDPOINT: url } })).toMatchObject({
    status: 77,
    stderr: 'error: This endpoint needs a key: send it as the header x-functions-key.\n',
  });
  const env = { NEXUS_ENDPOINT: url, NEXUS_API_KEY: key.trim() };
  expect(await host.nexus(['upload'], { env })).toMatchObject({ status: 0, stderr: '' });
});

test('what it has is listed, shown and fetched with a key that may read, and with no other', async () => {
  const server = await newMachine();
  const host = await newOpenClawMachine();
  const bytes = `${transcript(ids.a, 2)}\u0000 no newline at its end`;
  await host.openclaw.write(`${ids.a}.jsonl.reset.2026-11-20T10-00-00.000Z`, bytes);
  const [reader, sender, stranger] = await Promise.all(
    ['read', 'upload', 'webhook'].map(async (scope) =>
      (await server.nexus(['keys', 'add', scope, '--scopes', scope])).stdout.trim(),
    ),
  );
  const { url } = await serving(server);
  const as = (key = '') => ({ env: { NEXUS_ENDPOINT: url, NEXUS_API_KEY: key } });
  expect((await host.nexus(['upload'], as(sender))).status).toBe(0);

  const name = `main/${ids.a}`;
  const list = await host.nexus(['sessions', 'list'], as(reader));
  expect(list).toMatchObject({ status: 0, stderr: `1 transcript, ${Buffer.byteLength(bytes)} B.\n` });
  expect(list.stdout).toMatch(new RegExp(`^main +${ids.a} +\\d+ B +complete +box +now$`, 'm'));
  expect((await host.json(['sessions', 'show', name], as(reader))).answer['session']).toMatchObject({
    agent: 'main',
    transcript: ids.a,
    era: 'file',
    host: 'box',
    length: Buffer.byteLength(bytes),
    digest: createHash('sha256').update(bytes).digest('hex'),
  });
  expect((await host.nexus(['sessions', 'get', name], as(reader))).stdout).toBe(bytes);
  for (const args of [['list'], ['get', name]])
    expect(await host.nexus(['sessions', ...args], as(stranger))).toMatchObject({
      status: 77,
      stdout: '',
      stderr: expect.stringMatching(/key.*lacks the scope/),
    });
});
