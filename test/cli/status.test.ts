import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { mkdir, readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { newOpenClawMachine, plain } from './openclaw.ts';
import { closedPort } from './proxy.ts';

const upgraded = 'upgraded-2026.7.35-to-2026.9.6';
const hour = 3_600_000;

/** Records that were written so long ago. */
function records(ageMs: number, count = 1): string {
  const record = { type: 'message', id: 'a1b2c3d4', timestamp: new Date(Date.now() - ageMs).toISOString() };
  return `${JSON.stringify(record)}\n`.repeat(count);
}

test('a fresh machine: not well, says what to run, and makes no data directory', async () => {
  const machine = await newOpenClawMachine();
  const bytes = records(60_000, 3);
  await machine.openclaw.write(`${ids.a}.jsonl`, bytes, { ageMs: 60_000 });
  const before = await readdir(machine.openclaw.sessions());
  const ran = await machine.nexus(['status']);
  expect(ran).toMatchObject({ status: 3, stderr: '' });
  expect(plain(ran.stdout, machine)).toBe(
    [
      'not well: Nothing was archived from this host yet. Run `nexus backfill`.',
      '',
      'host      box',
      'openclaw  <openclaw>',
      'archive   <data>/store/blobs/sessions/inbox (embedded, reachable)',
      'backfill  never ran',
      'upload    never ran',
      '',
      'agent  era   found  shipped  not yet  bytes  waiting since  pruned',
      `main   file      1        0        1  ${bytes.length} B  1 min ago      in 29 d`,
      '',
    ].join('\n'),
  );
  expect(existsSync(machine.dataDir)).toBe(false);
  expect(await readdir(machine.openclaw.sessions())).toEqual(before);
});

test('after a backfill all is well, by agent and era', async () => {
  const machine = await newOpenClawMachine(upgraded);
  expect((await machine.nexus(['backfill'])).status).toBe(0);
  const ran = await machine.nexus(['status']);
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  expect(plain(ran.stdout, machine)).toBe(
    [
      'All is well.',
      '',
      'host      box',
      'openclaw  <openclaw>',
      'archive   <data>/store/blobs/sessions/inbox (embedded, reachable)',
      'backfill  well, now',
      'upload    never ran',
      '',
      'agent      era     found  shipped  not yet   bytes  waiting since  pruned',
      'flickclaw  sqlite     11       11        0  28 KiB  -              -',
      '           file       13       13        0  29 KiB',
      'main       sqlite     12       12        0  31 KiB  -              -',
      '           file       15       15        0  34 KiB',
      'research   sqlite     11       11        0  37 KiB  -              -',
      '           file       14       14        0  41 KiB',
      '',
    ].join('\n'),
  );
});

test('--json is one object that says the same', async () => {
  const machine = await newOpenClawMachine('files-2026.7.35');
  await machine.nexus(['backfill']);
  const { status, stderr, answer } = await machine.json(['status']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const standing = (found: number) => ({
    as: expect.any(String),
    eras: { file: { found, shipped: found, unshipped: 0, due: 0, bytes: expect.any(Number) } },
    oversized: [],
    refused: [],
    unreadable: [],
  });
  expect(answer).toEqual({
    schemaVersion: 1,
    command: 'status',
    ok: true,
    host: 'box',
    openclaw: { stateDir: machine.openclaw.stateDir, warnings: [] },
    nexus: {
      kind: 'embedded',
      where: `${machine.dataDir}/store/blobs/sessions/inbox`,
      reachable: true,
      store: expect.any(String),
    },
    agents: [
      { agent: 'flickclaw', ...standing(13) },
      { agent: 'main', ...standing(15) },
      { agent: 'research', ...standing(14) },
    ],
    jobs: {
      backfill: {
        startedAt: expect.any(String),
        endedAt: expect.any(String),
        ok: true,
        report: expect.objectContaining({ job: 'backfill', done: 42 }),
      },
      upload: null,
    },
    problems: [],
  });
});

test('a tail that waits is well for an hour, and not after it', async () => {
  const machine = await newOpenClawMachine();
  const { openclaw, nexus } = machine;
  const name = `${ids.a}.jsonl`;
  await openclaw.write(name, records(5 * hour));
  await openclaw.current([ids.a]);
  await nexus(['upload']);
  await openclaw.append(name, records(3 * hour), { ageMs: 3 * hour });
  const late = await nexus(['status']);
  expect(late.status).toBe(3);
  expect(late.stdout).toMatch(/^main +file +1 +0 +1 .* 3 h ago /m);
  expect(late.stdout).toMatch(
    /^not well: main: 1 transcript not shipped, the oldest event from 3 h ago\. Run `nexus upload`, or `nexus backfill` when it never ran\.\n\n/,
  );
  await nexus(['upload']);
  await openclaw.append(name, records(hour / 2), { ageMs: hour / 2 });
  const early = await nexus(['status']);
  expect(early.status).toBe(0);
  expect(early.stdout).toMatch(/^main +file +1 +0 +1 .* 30 min ago /m);
});

test('what OpenClaw deletes soon is said before it does', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { ageMs: 30 * 24 * hour - 2 * hour });
  const { status, stdout } = await machine.nexus(['status']);
  expect(status).toBe(3);
  expect(plain(stdout, machine)).toContain(
    `not well: main: <openclaw>/agents/main/sessions/${ids.a}.jsonl is not shipped, and OpenClaw may delete it in 1 h. ` +
      'Run `nexus backfill` now.\n',
  );
});

test('an endpoint that does not answer is 69, whatever else is well', async () => {
  const machine = await newOpenClawMachine();
  const url = await closedPort();
  const ran = await machine.nexus(['status'], { env: { NEXUS_ENDPOINT: url } });
  expect(ran).toMatchObject({ status: 69, stderr: '' });
  expect(ran.stdout).toContain(`archive   ${url} (endpoint, not reachable)\n`);
  expect(ran.stdout).toMatch(/^not well: Nexus at \S+ does not answer: The endpoint .* after 2 tries /m);
  const { answer } = await machine.json(['status'], { env: { NEXUS_ENDPOINT: url } });
  expect(answer).toMatchObject({ ok: false, nexus: { kind: 'endpoint', reachable: false } });
});

test('an endpoint that hangs holds it for seconds, before its answer and after', async () => {
  const machine = await newOpenClawMachine();
  await machine.configure({ retry: { tries: 1 }, mailboxes: { main: {} } });
  let answers = false;
  const server = createServer((request, response) => {
    if (answers && request.url === '/api/store')
      response
        .writeHead(200, { 'nexus-store': 'an-id', 'content-type': 'application/json' })
        .end('{"id":"an-id"}');
  });
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const env = { NEXUS_ENDPOINT: `http://127.0.0.1:${port}` };
  for (const expected of [69, 3]) {
    const began = performance.now();
    expect((await machine.nexus(['status'], { env })).status).toBe(expected);
    expect(performance.now() - began).toBeLessThan(20_000);
    answers = true;
  }
});

test('a transcript over the limit is not well, and upload says 3 and names it', async () => {
  const machine = await newOpenClawMachine();
  const { openclaw, nexus } = machine;
  const large = await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 50));
  await openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 1));
  await machine.configure({ maxTranscriptBytes: 1000 });
  const ran = await nexus(['upload']);
  expect(ran.status).toBe(3);
  expect(ran.stdout).toContain('skipped 1: larger than maxTranscriptBytes\n');
  expect(ran.stderr).toMatch(new RegExp(`^error: ${large}: \\d+ bytes, larger than maxTranscriptBytes\\n$`));
  const status = await nexus(['status']);
  expect(status.status).toBe(3);
  expect(status.stdout).toContain(
    `not well: main: 1 transcript larger than maxTranscriptBytes: ${large}. Raise it with \`nexus config set maxTranscriptBytes BYTES\`, 0 for no limit.\n`,
  );
  expect(status.stdout).toContain('not well: The last upload did not end well.');
});

test('a job that did not end well is told until it does', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl.reset.2026-11-20T10-00-00.000Z.zst`, 'not zstd');
  const failed = await machine.nexus(['backfill']);
  expect(failed.status).toBe(3);
  const status = await machine.nexus(['status']);
  expect(status.status).toBe(3);
  expect(status.stdout).toMatch(/^backfill {2}not well, now$/m);
  expect(status.stdout).toContain(
    'The last backfill did not end well. Run `nexus backfill` and read what failed.\n',
  );
});

test('a later run of another agent does not hide that one did not end well', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl.reset.2026-11-20T10-00-00.000Z.zst`, 'not zstd');
  await mkdir(path.join(machine.openclaw.stateDir, 'agents', 'two', 'sessions'), { recursive: true });
  expect((await machine.nexus(['backfill'])).status).toBe(3);
  expect((await machine.nexus(['backfill', '--agent', 'two'])).status).toBe(0);
  const status = await machine.nexus(['status']);
  expect(status.status).toBe(3);
  expect(status.stdout).toContain('The last backfill of main did not end well.');
});

test('without OpenClaw it says what to set, and is not well', async () => {
  const machine = await newOpenClawMachine();
  const { status, stdout } = await machine.nexus(['status'], { env: { OPENCLAW_STATE_DIR: '/nonexistent' } });
  expect(status).toBe(3);
  expect(stdout).toContain('openclaw  not found\n');
  expect(stdout).toContain(
    'not well: No OpenClaw state directory at /nonexistent. Set OPENCLAW_STATE_DIR to',
  );
});

test('agents of which nothing is left, as before a disk is mounted, are a problem', async () => {
  const machine = await newOpenClawMachine('files-2026.7.35');
  await machine.nexus(['backfill']);
  await rename(machine.openclaw.stateDir, `${machine.openclaw.stateDir}.off`);
  await mkdir(machine.openclaw.stateDir);
  const { status, answer } = await machine.json(['status']);
  expect({ status, answer }).toMatchObject({
    status: 3,
    answer: {
      problems: [
        {
          problem: expect.stringMatching(
            /^No agent of OpenClaw is left in .*transcripts of .* were archived/,
          ),
          next: expect.stringContaining('Mount it'),
        },
      ],
    },
  });
});
