import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ids, messageLines, transcript } from '../jobs/host.ts';
import { newMachine } from './nexus.ts';
import { archived, auditsOf, newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';
import { startProxy } from './proxy.ts';

/** Quick to give up, and in many small requests. */
const impatient = { retry: { tries: 3, baseMs: 10, maxMs: 50 }, chunkBytes: 16_384 };

/** A host whose jobs ship to another machine's endpoint, and what that machine holds. */
async function shipping(): Promise<{
  host: OpenClawMachine;
  endpoint: string;
  stored: () => ReturnType<typeof archived>;
}> {
  const server = await newMachine();
  const host = await newOpenClawMachine();
  await host.configure(impatient);
  const [, endpoint = ''] = await server.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  return { host, endpoint, stored: () => archived(server.dataDir) };
}

/** A gate that holds who comes until it is opened. */
function newGate(): { passed: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

test('a further run ships the new tail only, under the id that the configuration gives', async () => {
  const machine = await newOpenClawMachine();
  const { openclaw, json } = machine;
  await machine.configure({ agents: { main: { as: 'box-main' } } });
  const before = transcript(ids.a, 3);
  await openclaw.write(`${ids.a}.jsonl`, before);
  await openclaw.current([ids.a]);
  expect((await json(['upload'])).answer).toMatchObject({
    job: 'upload',
    ok: true,
    done: 1,
    bytes: before.length,
  });

  const tail = messageLines(2, 'more');
  await openclaw.append(`${ids.a}.jsonl`, tail);
  const { answer } = await json(['upload']);
  expect(answer).toMatchObject({ ok: true, done: 1, bytes: tail.length });
  expect(auditsOf(answer)['main']).toMatchObject({ as: 'box-main', found: 1, stored: 1 });
  expect((await json(['upload'])).answer).toMatchObject({ ok: true, done: 0, already: 1, bytes: 0 });
  expect(await archived(machine.dataDir)).toEqual(
    new Map([[`box-main/${ids.a}`, Buffer.from(before + tail)]]),
  );
});

test('what is still being written waits, and the report says for what', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { ageMs: 1000 });
  await machine.openclaw.current([ids.a]);
  const ran = await machine.nexus(['upload']);
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  expect(ran.stdout).toContain('skipped 1: active, waiting to be quiet\n');
  await machine.configure({ settleMinutes: 0 });
  expect((await machine.json(['upload'])).answer).toMatchObject({ done: 1 });
});

test('--dry-run on a fresh machine stores nothing and makes nothing', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
  expect((await machine.json(['upload', '--dry-run'])).answer).toMatchObject({
    ok: true,
    dryRun: true,
    done: 1,
  });
  expect(existsSync(machine.dataDir)).toBe(false);
});

describe('two at once', () => {
  test('one works, the other says who holds the agent and exits 75; after a kill -9 the next takes over', async () => {
    const { host, endpoint, stored } = await shipping();
    await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 500));
    const gate = newGate();
    const proxy = await startProxy(endpoint, {
      before: (method, n) => (method === 'PATCH' && n === 1 ? gate.passed : undefined),
    });
    const env = { NEXUS_ENDPOINT: proxy.url };
    const first = host.start(['upload'], { env });
    await proxy.arrived('PATCH', 1);

    const second = await host.json(['backfill'], { env });
    expect(second.status).toBe(75);
    const held = expect.stringMatching(/^Held by `nexus upload` \(pid \d+ on box, since \d{4}-\S+Z\)\.$/);
    expect(second.answer).toMatchObject({ ok: false, done: 0, busy: [{ item: 'agent main', reason: held }] });
    expect(second.stderr).toBe('');

    first.kill('SIGKILL');
    expect(await first.ended).toMatchObject({ signal: 'SIGKILL' });
    const third = await host.nexus(['upload'], { env });
    expect(third).toMatchObject({ status: 0, stderr: '' });
    gate.open();
    expect(await stored()).toEqual(new Map([[`main/${ids.a}`, Buffer.from(transcript(ids.a, 500))]]));
  });

  test('agents that nobody holds are shipped all the same', async () => {
    const { host, endpoint, stored } = await shipping();
    await host.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    await host.openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { agent: 'work' });
    const gate = newGate();
    const proxy = await startProxy(endpoint, {
      before: (method, n) => (method === 'PATCH' && n === 1 ? gate.passed : undefined),
    });
    const first = host.start(['upload', '--agent', 'main'], { env: { NEXUS_ENDPOINT: proxy.url } });
    await proxy.arrived('PATCH', 1);
    const second = await host.nexus(['upload'], { env: { NEXUS_ENDPOINT: endpoint } });
    expect(second.status).toBe(75);
    expect(second.stderr).toMatch(/^error: agent main: Held by `nexus upload` \(pid \d+ [^\n]*\n$/);
    expect(second.stdout).toMatch(/^upload: 1 transcript stored/m);
    gate.open();
    expect(await first.ended).toMatchObject({ status: 0, stderr: '' });
    expect([...(await stored()).keys()]).toEqual([`main/${ids.a}`, `work/${ids.b}`]);
  });
});

describe('a signal in the middle of a large transcript', () => {
  test('SIGTERM drops the request in hand, reports, and ends with 143; the next run completes it', async () => {
    const { host, endpoint, stored } = await shipping();
    const large = transcript(ids.a, 2000, 'x'.repeat(100));
    await host.openclaw.write(`${ids.a}.jsonl`, large);
    const gate = newGate();
    const proxy = await startProxy(endpoint, {
      before: (method, n) => (method === 'PATCH' && n === 4 ? gate.passed : undefined),
    });
    const env = { NEXUS_ENDPOINT: proxy.url };
    const running = host.start(['upload', '--json'], { env });
    await proxy.arrived('PATCH', 4);
    running.kill('SIGTERM');
    const ended = await running.ended;
    expect(ended).toMatchObject({ status: 143, stderr: 'Stopping.\n' });
    expect(JSON.parse(ended.stdout)).toMatchObject({
      job: 'upload',
      ok: false,
      interrupted: 'SIGTERM',
      failed: [],
      bytes: 3 * impatient.chunkBytes,
    });
    gate.open();

    const next = await host.json(['upload'], { env });
    expect(next).toMatchObject({ status: 0, answer: { ok: true, done: 1, failed: [] } });
    expect(await stored()).toEqual(new Map([[`main/${ids.a}`, Buffer.from(large)]]));
  });

  test('Ctrl-C ends with 130 and says so, on the embedded store too; the next run completes it', async () => {
    const machine = await newOpenClawMachine();
    await machine.configure({ chunkBytes: 1024 });
    const large = transcript(ids.a, 20_000, 'x'.repeat(100));
    await machine.openclaw.write(`${ids.a}.jsonl`, large);
    const blob = path.join(machine.dataDir, 'store/blobs/sessions/inbox/main', `${ids.a}.jsonl`);
    const running = machine.start(['backfill']);
    await expect.poll(() => existsSync(blob), { interval: 10, timeout: 5000 }).toBe(true);
    running.kill('SIGINT');
    const ended = await running.ended;
    expect(ended.status).toBe(130);
    expect(ended.stderr).toBe('Stopping; Ctrl-C again stops at once.\n');
    expect(ended.stdout).toMatch(/, stopped by SIGINT\./);
    expect(ended.stdout).not.toContain('1 transcript stored');

    await machine.configure({});
    expect(await machine.nexus(['backfill'])).toMatchObject({ status: 0, stderr: '' });
    expect(await archived(machine.dataDir)).toEqual(new Map([[`main/${ids.a}`, Buffer.from(large)]]));
  });
});

describe('an answer that is lost after the request arrived', () => {
  test('is settled by asking, and every byte is stored once', async () => {
    const { host, endpoint, stored } = await shipping();
    const large = transcript(ids.a, 1000, 'x'.repeat(60));
    await host.openclaw.write(`${ids.a}.jsonl`, large);
    await host.openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 1));
    const proxy = await startProxy(endpoint, {
      loseAnswer: (method, n) => (method === 'PATCH' && n % 3 === 1) || (method === 'PUT' && n === 1),
    });
    const { status, answer } = await host.json(['upload'], { env: { NEXUS_ENDPOINT: proxy.url } });
    expect(status).toBe(0);
    expect(answer).toMatchObject({ ok: true, done: 2, failed: [] });
    expect(proxy.count('PATCH')).toBeGreaterThan(9);
    expect(await stored()).toEqual(
      new Map([
        [`main/${ids.a}`, Buffer.from(large)],
        [`main/${ids.b}`, Buffer.from(transcript(ids.b, 1))],
      ]),
    );
  });
});
