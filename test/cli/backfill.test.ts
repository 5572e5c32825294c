import { existsSync } from 'node:fs';
import { cp, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { newMachine } from './nexus.ts';
import { archived, auditsOf, newOpenClawMachine, plain, transcriptFiles } from './openclaw.ts';

const files = 'files-2026.7.35';
const upgraded = 'upgraded-2026.7.35-to-2026.9.6';

test('one command on a fresh machine archives both eras, and its audit says so', async () => {
  const machine = await newOpenClawMachine(upgraded);
  const truth = JSON.parse(await readFile(path.join(machine.openclaw.stateDir, 'truth.json'), 'utf8'));
  const sessions = Object.entries<{ agent: string }>(truth.sessions);

  const first = await machine.nexus(['backfill']);
  expect(first).toMatchObject({ status: 0, stderr: '' });
  expect(plain(first.stdout, machine)).toBe(
    [
      'agent      found  stored now  already  skipped  failed  moved   bytes',
      'flickclaw     24          15        9        0       0      3  32 KiB',
      'main          27          17       10        0       0      4  37 KiB',
      'research      25          16        9        0       0      4  44 KiB',
      'backfill: 45 transcripts stored (112 KiB), 28 already there, 0 skipped, 0 failed, ' +
        '11 files moved to archive/, in <time>.',
      'archive: <data>/store/blobs/sessions/inbox',
      '',
    ].join('\n'),
  );
  const stored = await archived(machine.dataDir);
  expect([...stored.keys()].sort()).toEqual(sessions.map(([id, { agent }]) => `${agent}/${id}`).sort());

  const second = await machine.nexus(['backfill']);
  expect(second).toMatchObject({ status: 0, stderr: '' });
  expect(plain(second.stdout, machine)).toBe(
    [
      'agent      found  stored now  already  skipped  failed  moved  bytes',
      'flickclaw     24           0       24        0       0      0    0 B',
      'main          27           0       27        0       0      0    0 B',
      'research      25           0       25        0       0      0    0 B',
      'backfill: 0 transcripts stored (0 B), 76 already there, 0 skipped, 0 failed, in <time>.',
      '',
    ].join('\n'),
  );
  expect(await archived(machine.dataDir)).toEqual(stored);
});

test('without any setting, the state in the home directory goes to the data directory of the home', async () => {
  const { home, nexus, dataDir } = await newMachine();
  const fixture = path.join(import.meta.dirname, '..', 'fixtures', 'openclaw', files);
  await cp(fixture, path.join(home, '.openclaw'), { recursive: true });
  const originals = await transcriptFiles(path.join(home, '.openclaw'));
  expect(originals.size).toBeGreaterThan(30);
  expect(await nexus(['backfill'])).toMatchObject({ status: 0, stderr: '' });
  const stored = [...(await archived(dataDir)).values()];
  for (const [file, bytes] of originals)
    expect(
      stored.some((one) => one.equals(bytes)),
      file,
    ).toBe(true);
  expect(stored).toHaveLength(originals.size);
  expect(await readdir(home)).toEqual(expect.arrayContaining(['.local', '.openclaw']));
});

test('all that it makes is private: directories 700, files 600', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
  expect((await machine.nexus(['backfill'])).status).toBe(0);
  const entries = await readdir(machine.dataDir, { recursive: true });
  const open: string[] = [];
  for (const entry of ['.', ...entries]) {
    const found = await stat(path.join(machine.dataDir, entry));
    if ((found.mode & 0o777) !== (found.isDirectory() ? 0o700 : 0o600))
      open.push(`${entry} ${(found.mode & 0o777).toString(8)}`);
  }
  expect(open).toEqual([]);
});

test('with --json it says one object, with these fields', async () => {
  const machine = await newOpenClawMachine(files);
  const originals = await transcriptFiles(machine.openclaw.stateDir);
  const { status, stderr, answer } = await machine.json(['backfill', '--concurrency', '1']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const audit = {
    stored: expect.any(Number),
    transcripts: expect.any(Number),
    already: 0,
    skipped: {},
    failed: 0,
  };
  expect(answer).toEqual({
    schemaVersion: 1,
    job: 'backfill',
    ok: true,
    startedAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    durationMs: expect.any(Number),
    done: originals.size,
    already: 0,
    skipped: 0,
    failed: [],
    oversized: [],
    warnings: [],
    bytes: [...originals.values()].reduce((sum, { length }) => sum + length, 0),
    moved: 11,
    agents: {
      flickclaw: { ...audit, found: 13, bytes: expect.any(Number), moved: 3 },
      main: { ...audit, found: 15, bytes: expect.any(Number), moved: 4 },
      research: { ...audit, found: 14, bytes: expect.any(Number), moved: 4 },
    },
  });
});

test('--agent leaves the others alone', async () => {
  const machine = await newOpenClawMachine(files);
  const { answer } = await machine.json(['backfill', '--agent', 'main', '--agent', 'research']);
  expect(Object.keys(auditsOf(answer))).toEqual(['main', 'research']);
  const agents = [...(await archived(machine.dataDir)).keys()].map((name) => name.split('/')[0]);
  expect([...new Set(agents)]).toEqual(['main', 'research']);
});

test('--since and --until take what changed between them, and count the others by reason', async () => {
  const machine = await newOpenClawMachine();
  const { openclaw, json } = machine;
  const day = 86_400_000;
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { ageMs: 10 * day });
  await openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { ageMs: 5 * day });
  await openclaw.write(`${ids.c}.jsonl`, transcript(ids.c, 1), { ageMs: day });
  const at = (age: number) => new Date(Date.now() - age).toISOString();
  const { answer } = await json(['backfill', '--since', at(6 * day), '--until', at(2 * day)]);
  expect(auditsOf(answer)['main']).toMatchObject({
    found: 3,
    stored: 1,
    skipped: { 'before --since': 1, 'not before --until': 1 },
  });
  expect([...(await archived(machine.dataDir)).keys()]).toEqual([`main/${ids.b}`]);
});

test('--dry-run says what would be stored, and leaves nothing behind', async () => {
  const machine = await newOpenClawMachine(files);
  const before = await transcriptFiles(machine.openclaw.stateDir);
  const ran = await machine.nexus(['backfill', '--dry-run']);
  expect(ran).toMatchObject({ status: 0, stderr: '' });
  expect(plain(ran.stdout, machine)).toBe(
    [
      'agent      found  to store  already  skipped  failed  moved   bytes',
      'flickclaw     13        13        0        0       0      0  29 KiB',
      'main          15        15        0        0       0      0  34 KiB',
      'research      14        14        0        0       0      0  41 KiB',
      'backfill: would store 42 transcripts (104 KiB), 0 already there, 0 skipped, 0 failed, in <time>.',
      '',
    ].join('\n'),
  );
  expect(existsSync(machine.dataDir)).toBe(false);
  expect(await transcriptFiles(machine.openclaw.stateDir)).toEqual(before);
  expect((await machine.json(['backfill', '--dry-run'])).answer).toMatchObject({ dryRun: true, done: 42 });
});

describe('--verify', () => {
  test('reads everything again and says how many were equal', async () => {
    const machine = await newOpenClawMachine(upgraded);
    expect((await machine.nexus(['backfill'])).status).toBe(0);
    const ran = await machine.nexus(['backfill', '--verify']);
    expect(ran.status).toBe(0);
    expect(plain(ran.stdout, machine)).toMatch(
      /^agent +found +stored now +already +skipped +failed +moved +verified +bytes\nflickclaw +24 +0 +24 +0 +0 +0 +24 +0 B\n/,
    );
  });

  test('finds the one stored byte that is not what was stored, and names the transcript', async () => {
    const machine = await newOpenClawMachine();
    for (const id of [ids.a, ids.b]) await machine.openclaw.write(`${id}.jsonl`, transcript(id, 3));
    expect((await machine.nexus(['backfill'])).status).toBe(0);
    const blob = path.join(machine.dataDir, 'store/blobs/sessions/inbox/main', `${ids.b}.jsonl`);
    const bytes = await readFile(blob);
    bytes[40] = 35;
    await writeFile(blob, bytes);
    const { status, answer } = await machine.json(['backfill', '--verify']);
    expect(status).toBe(3);
    expect(answer).toMatchObject({ ok: false, failed: [{ item: expect.stringContaining(ids.b) }] });
    expect(auditsOf(answer)['main']).toMatchObject({ failed: 1, verified: 1 });
  });
});

test('--all takes the copies too, which are else skipped with a reason', async () => {
  const machine = await newOpenClawMachine();
  const { openclaw, nexus, json } = machine;
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await openclaw.write(`${ids.a}.checkpoint.${ids.b}.jsonl`, transcript(ids.a, 1, 'before'));
  await openclaw.write(`${ids.a}.jsonl.bak-12-1790000000000`, transcript(ids.a, 2, 'longer'));
  const without = await nexus(['backfill']);
  expect(without.status).toBe(0);
  expect(without.stdout).toContain('skipped 2: copy of a transcript (shipped with --all)\n');
  expect((await archived(machine.dataDir)).size).toBe(1);
  expect((await json(['backfill', '--all'])).answer).toMatchObject({
    ok: true,
    done: 2,
    already: 1,
    skipped: 0,
  });
  expect((await archived(machine.dataDir)).size).toBe(3);
});
