import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { acquireLock } from '../../src/processlock.ts';
import { type Host, ids, makeHost, messageLines, testFiles, transcript } from './host.ts';

let host: Host;

beforeEach(async () => {
  host = await makeHost();
  await host.current([]);
});

afterEach(() => host.remove());

const copies = [
  `${ids.a}.checkpoint.${ids.b}.jsonl`,
  `${ids.a}.jsonl.bak.2026-11-20T10-00-00.000Z`,
  `${ids.a}.jsonl.bak-123-1795000000000`,
  `${ids.a}.jsonl.corrupt-2026-11-20T10-00-00.000Z-ab12cd34.jsonl`,
];

describe('what is taken', () => {
  test('copies are counted and left, and shipped with --all where they hold what nothing else does', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 4));
    for (const [n, name] of copies.entries())
      await host.write(name, transcript(ids.a, n, n === 2 ? 'only here' : 'hello'));
    const some = await host.backfill();
    expect(some).toMatchObject({ done: 1, skipped: 4, ok: true });
    const all = await host.backfill({ all: true });
    expect(all).toMatchObject({ done: 1, already: 4, skipped: 0 });
    const stored = await host.stored();
    expect([...stored.keys()]).toEqual([`main/${ids.a}`, `main/${ids.a}~2`]);
    expect(stored.get(`main/${ids.a}~2`)?.toString()).toBe(transcript(ids.a, 2, 'only here'));
  });

  test('traces, locks and indexes are not transcripts', async () => {
    await host.write(`${ids.a}.trajectory.jsonl`, '{"trace":1}\n');
    await host.write(`${ids.a}.trajectory-path.json`, '{}');
    await host.write('.usage-cost-cache.json', '{}');
    await host.write(`${ids.a}.jsonl.lock`, '{}');
    expect(await host.backfill({ all: true })).toMatchObject({ done: 0, failed: [], ok: true });
  });

  test('active transcripts are archived as they are, whatever their age', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2), { ageMs: 0 });
    expect(await host.backfill()).toMatchObject({ done: 1, skipped: 0 });
    expect((await host.cards())[0]?.complete).toBe(false);
  });

  test('--since and --until choose by the last change', async () => {
    const day = 86_400_000;
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { ageMs: 10 * day });
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { ageMs: 5 * day });
    await host.write(`${ids.c}.jsonl`, transcript(ids.c, 1), { ageMs: day });
    const report = await host.backfill({ since: Date.now() - 7 * day, until: Date.now() - 2 * day });
    expect(report.agents['main']).toMatchObject({ found: 3, stored: 1 });
    expect([...(await host.stored()).keys()]).toEqual([`main/${ids.b}`]);
  });

  test('what leads out of the agent’s directory is refused and named', async () => {
    const secret = path.join(host.root, 'secret.jsonl');
    await writeFile(secret, 'secret\n');
    await symlink(secret, path.join(host.sessions(), `${ids.a}.jsonl`));
    const report = await host.backfill();
    expect(report.done).toBe(0);
    expect(JSON.stringify(report)).toContain(ids.a);
    expect(await host.stored()).toEqual(new Map());
  });
});

describe('a dry run', () => {
  test('says what it would do and leaves nothing behind on a fresh machine', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    expect(await host.backfill({ dryRun: true })).toMatchObject({ dryRun: true, done: 1, ok: true });
    expect(existsSync(host.dataDir)).toBe(false);
  });

  testFiles('moves nothing and ships nothing where there is a store', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    await host.backfill();
    const closed = await host.write(`${ids.b}.jsonl.reset.2026-11-20T11-00-00.000Z`, transcript(ids.b, 1));
    expect(await host.backfill({ dryRun: true })).toMatchObject({ done: 1, already: 1, moved: 0 });
    expect(existsSync(closed)).toBe(true);
    expect((await host.stored()).size).toBe(1);
  });
});

describe('--verify', () => {
  const blob = (id: string) =>
    path.join(host.dataDir, 'store', 'blobs', 'sessions', 'inbox', 'main', `${id}.jsonl`);

  beforeEach(async () => {
    for (const id of [ids.a, ids.b]) await host.write(`${id}.jsonl`, transcript(id, 10));
    await host.backfill();
  });

  test('compares every stored byte with what is here', async () => {
    const report = await host.backfill({ verify: true });
    expect(report).toMatchObject({ ok: true, done: 0, already: 2 });
    expect(report.agents['main']?.verified).toBe(2);
  });

  testFiles('finds one flipped bit and names the transcript', async () => {
    const bytes = await readFile(blob(ids.a));
    bytes[300] = (bytes[300] ?? 0) ^ 4;
    await writeFile(blob(ids.a), bytes);
    const report = await host.backfill({ verify: true });
    expect(report).toMatchObject({ ok: false, already: 1 });
    expect(report.failed).toHaveLength(1);
    expect(report.failed[0]?.item).toContain(ids.a);
  });

  for (const how of ['cut short', 'taken away'])
    testFiles(`finds a stored file that was ${how}`, async () => {
      if (how === 'cut short') await truncate(blob(ids.a), 100);
      else await rm(blob(ids.a));
      const report = await host.backfill({ verify: true });
      expect(report.ok).toBe(false);
      expect(report.failed[0]?.item).toContain(ids.a);
    });
});

describe('who is in the way', () => {
  test('an agent that another job works on is left to it, and who that is is said', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { agent: 'other' });
    const file = path.join(host.dataDir, 'host', 'locks', 'main.lock');
    await mkdir(path.dirname(file), { recursive: true });
    const lock = await acquireLock(file, { waitMs: 0, holder: '`nexus backfill` (pid 7)' });
    const report = await host.upload();
    expect(report).toMatchObject({ ok: false, done: 1, busy: [{ item: 'agent main' }] });
    expect(report.busy?.[0]?.reason).toContain('`nexus backfill` (pid 7)');
    await lock?.release();
    expect(await host.upload()).toMatchObject({ ok: true, done: 1 });
  });

  test('two runs at once ship each transcript once', async () => {
    for (let n = 0; n < 40; n++)
      await host.write(
        `${String(n).padStart(8, '0')}-aaaa-4aaa-8aaa-aaaaaaaaaaaa.jsonl`,
        transcript(ids.a, 3),
      );
    const [one, two] = await Promise.all([host.upload(), host.upload()]);
    expect([one.done, two.done].sort((a, b) => a - b)).toEqual([0, 40]);
    expect((await host.stored()).size).toBe(40);
  });
});

describe('what changes under the reader', () => {
  test('a transcript that vanishes is reported and nothing of it is stored', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 1));
    const report = await host.upload({
      concurrency: 1,
      through: (nexus) => ({
        ...nexus,
        async setMark(...given) {
          // After the listing, before anything is read.
          await rm(path.join(host.sessions(), `${ids.a}.jsonl`), { force: true });
          await nexus.setMark(...given);
        },
      }),
    });
    expect(report).toMatchObject({ done: 1, skipped: 1, failed: [] });
    expect(report.warnings.join()).toContain(ids.a);
    expect([...(await host.stored()).keys()]).toEqual([`main/${ids.b}`]);
  });

  test('a transcript rewritten between two chunks leaves a true prefix, never a mixture', async () => {
    const before = transcript(ids.a, 3_000, 'before');
    const after = transcript(ids.a, 3_000, 'after!');
    const file = await host.write(`${ids.a}.jsonl`, before);
    let appends = 0;
    const report = await host.upload({
      through: (nexus) => ({
        ...nexus,
        async append(...given) {
          if (++appends === 2) await writeFile(file, after);
          return await nexus.append(...given);
        },
      }),
    });
    expect(report.agents['main']?.stored).toBe(0);
    const begun = (await host.stored()).get(`main/${ids.a}`)?.toString() ?? '';
    expect(begun.length).toBeGreaterThan(0);
    expect(before.startsWith(begun)).toBe(true);

    await host.write(`${ids.a}.jsonl`, after);
    expect(await host.upload()).toMatchObject({ done: 1, ok: true });
    const stored = await host.stored();
    expect(stored.get(`main/${ids.a}`)?.toString()).toBe(begun);
    expect(stored.get(`main/${ids.a}~2`)?.toString()).toBe(after);
  });

  test('a transcript that grows while it is read is shipped to where it stood and goes on next time', async () => {
    await host.current([ids.a]);
    const text = transcript(ids.a, 3_000);
    const more = messageLines(3, 'more');
    await host.write(`${ids.a}.jsonl`, text);
    let appends = 0;
    const report = await host.backfill({
      through: (nexus) => ({
        ...nexus,
        async append(...given) {
          if (++appends === 2) await host.append(`${ids.a}.jsonl`, more);
          return await nexus.append(...given);
        },
      }),
    });
    expect(report).toMatchObject({ ok: true, done: 1, bytes: text.length });
    expect(await host.backfill()).toMatchObject({ ok: true, done: 1, bytes: more.length });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(text + more);
  });
});

test('an upgrade of OpenClaw between two runs stores nothing twice and loses nothing', async () => {
  const upgraded = await makeHost('files-2026.7.35');
  const first = await upgraded.backfill();
  expect(first).toMatchObject({ ok: true, done: 42 });
  const before = await upgraded.stored();
  const newer = path.join(
    import.meta.dirname,
    '..',
    'fixtures',
    'openclaw',
    'upgraded-2026.7.35-to-2026.9.6',
  );
  await rm(upgraded.stateDir, { recursive: true });
  await cp(newer, upgraded.stateDir, { recursive: true });
  expect(await upgraded.upload({ config: { settleMinutes: 0 } })).toMatchObject({ ok: true });
  expect(await upgraded.backfill()).toMatchObject({ ok: true });
  const after = await upgraded.stored();
  expect([...after.keys()].filter((name) => name.includes('~'))).toEqual([]);
  for (const [name, bytes] of before)
    expect(after.get(name)?.subarray(0, bytes.length).equals(bytes), name).toBe(true);
  expect(after.size).toBe(45);
  await upgraded.remove();
});
