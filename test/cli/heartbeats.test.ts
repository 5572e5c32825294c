import { mkdir, symlink, unlink } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { acquireLock } from '../../src/processlock.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;
let monitor: Receiver;

beforeEach(async () => {
  [machine, monitor] = await Promise.all([newOpenClawMachine(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2, 'very private words'));
});

const watched = (url: string) =>
  machine.configure({
    retry: { tries: 1, baseMs: 1, maxMs: 1 },
    heartbeats: { upload: url, backfill: url, status: url },
  });

const pings = () => monitor.received.map(({ method, path }) => `${method} ${path}`);

test('a job tells its monitor of start and success', async () => {
  await watched(`${monitor.url}/ping/s3cret`);
  expect((await machine.nexus(['upload'])).status).toBe(0);
  expect(pings()).toEqual(['POST /ping/s3cret/start', 'POST /ping/s3cret']);
  expect(monitor.received[1]?.body).toBe('upload: 1 done.');
  expect(monitor.received.map(({ body }) => body).join()).not.toContain('private');
});

test('a query stays behind what is put after the path', async () => {
  await watched(`${monitor.url}/ping/key/upload/?create=1`);
  await machine.nexus(['upload']);
  expect(pings()).toEqual(['POST /ping/key/upload/start?create=1', 'POST /ping/key/upload?create=1']);
});

test('a job that fails says so, and why', async () => {
  await watched(`${monitor.url}/ping`);
  await symlink('/etc/hostname', path.join(machine.openclaw.sessions(), `${ids.b}.jsonl`));
  await machine.nexus(['backfill']);
  expect(pings()).toEqual(['POST /ping/start', 'POST /ping/fail']);
  expect(monitor.received[1]?.body).toContain(`${ids.b}.jsonl: Not shipped: a symbolic link.`);
});

test('a job that cannot begin says so', async () => {
  await watched(`${monitor.url}/ping`);
  const env = { NEXUS_ENDPOINT: 'http://127.0.0.1:9', NEXUS_API_KEY: 'nxk_secret' };
  expect((await machine.nexus(['upload'], { env })).status).toBe(69);
  expect(pings()).toEqual(['POST /ping/fail']);
  expect(monitor.received[0]?.body).not.toContain('nxk_secret');
});

test('a dry run is nothing to a monitor', async () => {
  await watched(`${monitor.url}/ping`);
  await machine.nexus(['upload', '--dry-run']);
  expect(pings()).toEqual([]);
});

test.each([
  ['answers nothing', 0],
  ['is out of order', 503],
])('a monitor that %s fails no job and delays it by seconds at most', async (_, status) => {
  monitor.answer(status);
  await watched(`${monitor.url}/ping/s3cret`);
  const began = performance.now();
  const ran = await machine.nexus(['upload']);
  expect(ran.status).toBe(0);
  expect(performance.now() - began).toBeLessThan(8_000);
  expect(ran.stderr).toMatch(
    /The monitor of upload at 127\.0\.0\.1:\d+ (did not answer in time|answered 503)\./,
  );
  expect(ran.stderr).not.toContain('s3cret');
  expect(ran.stderr.split('\n')).toHaveLength(2);
});

test('a monitor whose URL cannot be read fails no job', async () => {
  await machine.configure({ heartbeats: { upload: { file: '/nonexistent/url' } } });
  const ran = await machine.nexus(['upload']);
  expect(ran).toMatchObject({
    status: 0,
    stderr: expect.stringContaining('/nonexistent/url cannot be read'),
  });
});

async function held(agent: string) {
  const file = path.join(machine.dataDir, 'host', 'locks', `${agent}.lock`);
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  return await acquireLock(file, { waitMs: 0, holder: 'another' });
}

test('a job that leaves all to another changes nothing of what its monitor knows, and says so', async () => {
  await watched(`${monitor.url}/ping`);
  const lock = await held('main');
  expect((await machine.nexus(['upload'])).status).toBe(75);
  await lock?.release();
  expect(pings()).toEqual(['POST /ping/log']);
  expect(monitor.received[0]?.body).toBe('upload: 0 done. agent main: Held by another.');
});

test('a job that leaves a part to another has begun, and has an end', async () => {
  await watched(`${monitor.url}/ping`);
  await machine.openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 2), { agent: 'second' });
  const lock = await held('second');
  expect((await machine.nexus(['upload'])).status).toBe(75);
  await lock?.release();
  expect(pings()).toEqual(['POST /ping/start', 'POST /ping']);
  expect(monitor.received[1]?.body).toBe('upload: 1 done. agent second: Held by another.');
});

test('status --alert tells that it looks, and what it has found or what kept it from looking', async () => {
  await machine.nexus(['upload']);
  await watched(`${monitor.url}/ping`);
  expect((await machine.nexus(['status', '--alert'])).status).toBe(0);
  expect(pings()).toEqual(['POST /ping/start', 'POST /ping']);
  const ledger = path.join(machine.dataDir, 'host', 'ledger.sqlite');
  await unlink(ledger);
  await mkdir(ledger);
  expect((await machine.nexus(['status', '--alert'])).status).toBe(69);
  expect(pings().slice(2)).toEqual(['POST /ping/start', 'POST /ping/fail']);
  expect(monitor.received[3]?.body).toMatch(/^status failed: .*ledger/);
});

test('--watch tells of its passes', async () => {
  await watched(`${monitor.url}/ping`);
  const watching = machine.start(['upload', '--watch']);
  await expect.poll(() => pings().length, { timeout: 10_000 }).toBe(2);
  watching.kill('SIGTERM');
  await watching.ended;
  expect(pings()).toEqual(['POST /ping/start', 'POST /ping']);
});
