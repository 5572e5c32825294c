import { mkdir, readFile, stat, symlink, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { badWayTo, type Fault } from '../http/faults.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Exposition, readExposition } from '../prometheus.ts';
import { type Machine, newMachine, type Started } from './nexus.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

const listening = /Listening on (http:\/\/127\.0\.0\.1:\d+), storing in (\S+)\.\n/;

async function serving(machine: Machine): Promise<Started & { url: string }> {
  const started = machine.start(['serve', '--port', '0']);
  const [, url = ''] = await started.shows(listening);
  return { ...started, url };
}

async function scrape(url: string): Promise<Exposition> {
  return readExposition(await (await fetch(`${url}/metrics`)).text());
}

const upload = { host: 'box', job: 'upload' };
const status = { host: 'box', job: 'status' };

let host: OpenClawMachine;
beforeEach(async () => {
  host = await newOpenClawMachine();
});

/** A place that no run ships and each is told of. */
async function spoil(name = ids.b): Promise<() => Promise<void>> {
  const file = path.join(host.openclaw.sessions(), `${name}.jsonl`);
  await symlink('/etc/hostname', file);
  return () => unlink(file);
}

test('an endpoint tells what it has stored, what is pending, and how the jobs of its hosts ended', async () => {
  const server = await newMachine();
  const { url } = await serving(server);
  const bytes = transcript(ids.a, 3);
  await host.openclaw.write(`${ids.a}.jsonl`, bytes);
  const env = { NEXUS_ENDPOINT: url };
  const began = Date.now() / 1000;
  expect((await host.nexus(['upload'], { env })).status).toBe(0);
  const body = '{"pending":true}';
  const headers = { 'content-type': 'application/json' };
  const sent = await fetch(`${url}/api/webhook/main?source=x`, { method: 'POST', body, headers });
  expect(sent.status).toBe(202);
  expect((await host.nexus(['status'], { env })).status).toBe(0);
  const seen = await scrape(url);
  expect(seen.value('nexus_transcripts_stored_total')).toBe(1);
  expect(seen.value('nexus_transcript_stored_bytes_total')).toBe(Buffer.byteLength(bytes));
  expect(seen.value('nexus_webhooks_received_total', { source: 'other', outcome: 'accepted' })).toBe(1);
  expect(seen.value('nexus_pending_items', { agent: 'main' })).toBe(1);
  expect(seen.value('nexus_pending_bytes', { agent: 'main' })).toBe(body.length);
  expect(seen.value('nexus_pending_oldest_age_seconds', { agent: 'main' })).toBeLessThan(30);
  expect(seen.value('nexus_store_up')).toBe(1);
  expect(seen.value('nexus_store_operation_duration_seconds_count', { operation: 'append' })).toBe(1);
  expect(seen.samples('nexus_build_info').map(({ labels }) => labels['store'])).toEqual(['local']);
  expect(seen.value('process_start_time_seconds')).toBeGreaterThan(began - 60);
  expect(seen.value('nexus_job_last_success_timestamp_seconds', upload)).toBeGreaterThan(began);
  expect(seen.value('nexus_job_consecutive_failures', upload)).toBe(0);
  expect(seen.value('nexus_job_consecutive_failures', status)).toBe(0);
  expect(seen.value('nexus_agent_unshipped_transcripts', { host: 'box', agent: 'main' })).toBe(0);
});

test('failures of a job are counted in a row, and its last success stays what it was', async () => {
  const server = await newMachine();
  const { url } = await serving(server);
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  const env = { NEXUS_ENDPOINT: url };
  await host.nexus(['upload'], { env });
  const first = (await scrape(url)).value('nexus_job_last_success_timestamp_seconds', upload);
  const mend = await spoil();
  // What was remembered is good for ten seconds: each endpoint is asked but once.
  for (let n = 0; n < 2; n++) expect((await host.nexus(['upload'], { env })).status).toBe(3);
  const again = await serving(server);
  const failing = await scrape(again.url);
  expect(failing.value('nexus_job_consecutive_failures', upload)).toBe(2);
  expect(failing.value('nexus_job_last_run_failed_items', upload)).toBe(1);
  expect(failing.value('nexus_job_last_success_timestamp_seconds', upload)).toBe(first);
  await mend();
  expect((await host.nexus(['upload'], { env })).status).toBe(0);
  const well = await scrape((await serving(server)).url);
  expect(well.value('nexus_job_consecutive_failures', upload)).toBe(0);
  expect(well.value('nexus_job_last_success_timestamp_seconds', upload)).toBeGreaterThan(first ?? 0);
});

test('without an endpoint the jobs tell their own store, which one that serves it shows', async () => {
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  expect((await host.nexus(['upload'])).status).toBe(0);
  const seen = await scrape((await serving(host)).url);
  expect(seen.value('nexus_job_consecutive_failures', upload)).toBe(0);
});

const notTold = /^warning: Nexus was not told how status ended: .+\n$/;

test.each<[string, Fault, RegExp]>([
  ['answers that there is no such route', { status: 404 }, /^$/],
  ['is out of order', { status: 500 }, notTold],
  ['hangs up', 'reset before', notTold],
  ['says nothing', 'stall', notTold],
])('an endpoint that %s when it is told fails no job and delays none', async (_, fault, stderr) => {
  const server = await newMachine();
  const { url } = await serving(server);
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  await host.nexus(['upload'], { env: { NEXUS_ENDPOINT: url } });
  const way = await badWayTo(url, ['pass', fault]);
  const began = performance.now();
  const ran = await host.nexus(['status'], { env: { NEXUS_ENDPOINT: way.url } });
  expect(performance.now() - began).toBeLessThan(8000);
  expect(ran).toMatchObject({ status: 0, stderr: expect.stringMatching(stderr) });
  expect(way.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'GET /api/store',
    'PUT /api/jobs/box',
  ]);
});

test('an endpoint that cannot be reached is not waited for twice', async () => {
  const env = { NEXUS_ENDPOINT: 'http://127.0.0.1:9' };
  await host.configure({ retry: { tries: 1, baseMs: 1, maxMs: 1 } });
  const ran = await host.nexus(['upload'], { env });
  expect(ran.status).toBe(69);
  expect(ran.stderr).not.toContain('was not told');
});

const textfile = () => path.join(host.dataDir, 'metrics', 'nexus.prom');

async function written(): Promise<Exposition> {
  return readExposition(await readFile(textfile(), 'utf8'));
}

test("a host's textfile has all of its jobs after each of them", async () => {
  await mkdir(path.dirname(textfile()), { recursive: true });
  await host.configure({ metrics: { textfile: textfile() } });
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  expect((await host.nexus(['status'])).status).toBe(3);
  const before = await written();
  expect(before.value('nexus_job_consecutive_failures', status)).toBe(1);
  expect(before.value('nexus_job_last_success_timestamp_seconds', status)).toBeUndefined();
  expect(before.value('nexus_agent_unshipped_transcripts', { host: 'box', agent: 'main' })).toBe(1);
  const lag = before.value('nexus_agent_oldest_unshipped_timestamp_seconds', { host: 'box', agent: 'main' });
  expect(lag).toBeLessThan(Date.now() / 1000);
  await host.nexus(['backfill']);
  const mend = await spoil();
  await host.nexus(['upload']);
  const failed = await written();
  expect(failed.value('nexus_job_consecutive_failures', upload)).toBe(1);
  expect(failed.value('nexus_job_last_run_failed_items', upload)).toBe(1);
  expect(failed.value('nexus_job_last_success_timestamp_seconds', upload)).toBeUndefined();
  expect(
    failed.value('nexus_job_last_success_timestamp_seconds', { host: 'box', job: 'backfill' }),
  ).toBeGreaterThan(0);
  expect(failed.value('nexus_job_consecutive_failures', status)).toBe(1);
  await mend();
  await host.nexus(['upload']);
  expect((await host.nexus(['status'])).status).toBe(0);
  const well = await written();
  expect(well.value('nexus_job_consecutive_failures', upload)).toBe(0);
  expect(well.value('nexus_job_consecutive_failures', status)).toBe(0);
  expect(well.value('nexus_agent_unshipped_transcripts', { host: 'box', agent: 'main' })).toBe(0);
  expect((await stat(textfile())).mode & 0o777).toBe(0o644);
});

test('a job that cannot begin is in the textfile too', async () => {
  await mkdir(path.dirname(textfile()), { recursive: true });
  await host.configure({ metrics: { textfile: textfile() }, retry: { tries: 1, baseMs: 1, maxMs: 1 } });
  const env = { NEXUS_ENDPOINT: 'http://127.0.0.1:9' };
  for (let n = 0; n < 2; n++) expect((await host.nexus(['upload'], { env })).status).toBe(69);
  expect((await written()).value('nexus_job_consecutive_failures', upload)).toBe(2);
});

test('a textfile that cannot be written is a warning and nothing more', async () => {
  await host.configure({ metrics: { textfile: '/proc/nowhere/nexus.prom' } });
  await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  const ran = await host.json(['upload']);
  expect(ran).toMatchObject({ status: 0, answer: { ok: true, done: 1 } });
  expect(ran.stderr).toContain('The metrics cannot be written to /proc/nowhere/nexus.prom (ENOENT)');
});

test('a dry run tells nobody', async () => {
  await mkdir(path.dirname(textfile()), { recursive: true });
  await host.configure({ metrics: { textfile: textfile() } });
  await host.nexus(['upload', '--dry-run']);
  await expect(written()).rejects.toThrow('ENOENT');
});

test.each(['nexus.prom', '/var/lib/nexus.txt'])('a textfile called %s is refused', async (file) => {
  await mkdir(path.dirname(host.configFile), { recursive: true });
  await writeFile(host.configFile, JSON.stringify({ metrics: { textfile: file } }), { mode: 0o600 });
  const ran = await host.nexus(['status']);
  expect(ran.status).toBe(78);
  expect(ran.stderr).toContain('metrics.textfile');
});
