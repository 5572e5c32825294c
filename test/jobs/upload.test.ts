import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openSessions } from '../../src/sessions.ts';
import { type Host, ids, makeHost, messageLines, testFiles, transcript } from './host.ts';

let host: Host;

beforeEach(async () => {
  host = await makeHost();
  await host.current([]);
});

afterEach(() => host.remove());

const reset = (id: string, at = '2026-11-20T11-00-00.000Z') => `${id}.jsonl.reset.${at}`;

describe('what is shipped', () => {
  test('a complete transcript is stored byte for byte', async () => {
    const text = transcript(ids.a, 3);
    await host.write(`${ids.a}.jsonl`, text);
    const report = await host.upload();
    expect(report).toMatchObject({ ok: true, done: 1, bytes: text.length, failed: [] });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(text);
    expect((await host.cards())[0]).toMatchObject({
      complete: true,
      host: 'box',
      era: 'file',
      firstEventAt: '2026-11-20T10:00:00.000Z',
      lastEventAt: '2026-11-20T10:00:02.000Z',
    });
  });

  test('an active transcript waits until it is quiet, then goes up to its last newline', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2), { ageMs: 1_000 });
    const waiting = await host.upload();
    expect(waiting).toMatchObject({ done: 0, skipped: 1, ok: true });
    expect(waiting.agents['main']?.skipped).toEqual({ 'active, waiting to be quiet': 1 });

    await host.append(`${ids.a}.jsonl`, '{"type":"message","id":"par');
    expect(await host.upload()).toMatchObject({ done: 1 });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 2));
    expect((await host.cards())[0]?.complete).toBe(false);
  });

  test('a partial last line is shipped when the transcript turns out to be complete', async () => {
    await host.current([ids.a]);
    const text = `${transcript(ids.a, 2)}{"type":"mess`;
    await host.write(`${ids.a}.jsonl`, text);
    await host.upload();
    await host.current([]);
    expect(await host.upload()).toMatchObject({ done: 1, bytes: '{"type":"mess'.length });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(text);
    expect((await host.cards())[0]?.complete).toBe(true);
  });

  test('an unreadable sessions.json leaves plain files active, not complete', async () => {
    await writeFile(path.join(host.sessions(), 'sessions.json'), '{"agent:main:x": {"sess');
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
    await host.upload();
    expect((await host.cards())[0]?.complete).toBe(false);
  });

  test('only the tail of a transcript that grew is sent', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
    await host.upload();
    const more = messageLines(4, 'more');
    await host.append(`${ids.a}.jsonl`, more);
    expect(await host.upload()).toMatchObject({ done: 1, bytes: more.length });
    expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 2) + more);
  });

  test('a rewritten transcript is stored as the next history and the first is left as it was', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.upload();
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 4, 'rewritten'), { ageMs: 1_700_000 });
    expect(await host.upload()).toMatchObject({ done: 1, ok: true });
    const stored = await host.stored();
    expect(stored.get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 3));
    expect(stored.get(`main/${ids.a}~2`)?.toString()).toBe(transcript(ids.a, 4, 'rewritten'));

    const more = messageLines(1, 'and more');
    await host.append(`${ids.a}.jsonl`, more, { ageMs: 1_600_000 });
    expect(await host.upload()).toMatchObject({ done: 1, bytes: more.length });
    expect((await host.stored()).get(`main/${ids.a}~2`)?.toString()).toBe(
      transcript(ids.a, 4, 'rewritten') + more,
    );
  });

  test('a reset transcript goes on where the plain file was shipped to', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
    await host.upload();
    const tail = messageLines(2, 'tail');
    await host.append(`${ids.a}.jsonl`, tail);
    await rename(path.join(host.sessions(), `${ids.a}.jsonl`), path.join(host.sessions(), reset(ids.a)));
    expect(await host.upload()).toMatchObject({ done: 1, bytes: tail.length, moved: 1 });
    const stored = await host.stored();
    expect([...stored.keys()]).toEqual([`main/${ids.a}`]);
    expect(stored.get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 2) + tail);
  });

  test('a session id used again for other content is another history', async () => {
    await host.write(reset(ids.a), transcript(ids.a, 2), { ageMs: 7_200_000 });
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2, 'again'));
    expect(await host.upload()).toMatchObject({ done: 2 });
    const stored = await host.stored();
    expect(stored.get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 2));
    expect(stored.get(`main/${ids.a}~2`)?.toString()).toBe(transcript(ids.a, 2, 'again'));
  });

  test('identical archives of one session are one transcript', async () => {
    const text = transcript(ids.a, 5);
    for (const minute of ['01', '02', '03'])
      await host.write(`${ids.a}.jsonl.deleted.2026-11-20T11-${minute}-00.000Z`, text);
    expect(await host.upload()).toMatchObject({ done: 1, already: 2, moved: 3 });
    expect([...(await host.stored()).keys()]).toEqual([`main/${ids.a}`]);
  });

  test('files that share their first 36 characters are two transcripts', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    await host.write(`${ids.a}-topic-1.jsonl`, transcript(ids.a, 1, 'topic'));
    await host.upload();
    expect([...(await host.stored()).keys()]).toEqual([`main/${ids.a}`, `main/${ids.a}-topic-1`]);
  });

  test('an empty transcript, one without a header, and bytes that are no text are archived as they are', async () => {
    const odd = Buffer.from([0xef, 0xbb, 0xbf, 0x00, 0xff, 0x0d, 0x0a, 0xed, 0xa0, 0x80, 0x0a]);
    await host.write(`${ids.a}.jsonl`, '');
    await host.write(`${ids.b}.jsonl`, odd);
    await host.write(`${ids.c}.jsonl`, `{"big":"${'x'.repeat(5_000_000)}"}\n`);
    expect(await host.upload()).toMatchObject({ done: 3, failed: [] });
    const stored = await host.stored();
    expect(stored.get(`main/${ids.a}`)?.length).toBe(0);
    expect(stored.get(`main/${ids.b}`)?.equals(odd)).toBe(true);
    expect(stored.get(`main/${ids.c}`)?.length).toBe(5_000_011);
  });

  test('a transcript over maxTranscriptBytes is left, named, and not well', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 50));
    const report = await host.upload({ config: { maxTranscriptBytes: 100 } });
    expect(report).toMatchObject({ ok: false, done: 0, skipped: 1, failed: [] });
    expect(report.oversized[0]?.item).toContain(ids.a);
    expect(await host.stored()).toEqual(new Map());
  });
});

describe('what is not done twice', () => {
  test('a second run ships nothing', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.write(reset(ids.b), transcript(ids.b, 3));
    await host.upload({ config: { afterUpload: 'keep' } });
    const again = await host.upload({ config: { afterUpload: 'keep' } });
    expect(again).toMatchObject({ done: 0, already: 2, bytes: 0, ok: true });
  });

  test('a deleted ledger is settled from the truth', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 200));
    await host.upload();
    await rm(path.join(host.dataDir, 'host'), { recursive: true });
    const before = await host.stored();
    expect(await host.upload()).toMatchObject({ done: 0, already: 2, bytes: 0 });
    expect(await host.stored()).toEqual(before);
  });

  testFiles('an emptied store gets everything again', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.upload();
    await rm(path.join(host.dataDir, 'store'), { recursive: true });
    expect(await host.upload()).toMatchObject({ done: 1 });
    expect((await host.stored()).size).toBe(1);
  });

  testFiles(
    'a store set back to an earlier state gets what it has lost, even under the same id',
    async () => {
      await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
      await host.upload();
      const store = path.join(host.dataDir, 'store', 'store.sqlite');
      await host.cards();
      const earlier = await readFile(store);
      await host.write(`${ids.b}.jsonl`, transcript(ids.b, 3));
      await host.upload();
      await host.cards();
      for (const suffix of ['-wal', '-shm']) await rm(store + suffix, { force: true });
      // The same inode, so that the store keeps its id, as after the rollback of a snapshot.
      await writeFile(store, earlier);
      expect([...(await host.stored()).keys()]).toEqual([`main/${ids.a}`]);
      expect(await host.upload()).toMatchObject({ done: 1, already: 1 });
      expect((await host.stored()).get(`main/${ids.b}`)?.toString()).toBe(transcript(ids.b, 3));
    },
  );

  test('two hosts that ship other content under one id do not disturb each other', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
    await host.upload({ config: { host: 'one' } });
    await rm(path.join(host.dataDir, 'host'), { recursive: true });
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 3, 'other'));
    await host.upload({ config: { host: 'two' } });
    const stored = await host.stored();
    expect(stored.get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 3));
    expect(stored.get(`main/${ids.a}~2`)?.toString()).toBe(transcript(ids.a, 3, 'other'));
  });

  test('an agent ships under the id that the configuration gives it', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
    const report = await host.upload({ config: { agents: { main: { as: 'box-main' } } } });
    expect(report.agents['main']).toMatchObject({ as: 'box-main', stored: 1 });
    expect([...(await host.stored()).keys()]).toEqual([`box-main/${ids.a}`]);
  });
});

test('a transcript goes on after the longest stored history that is its prefix', async () => {
  const histories = [transcript(ids.a, 1), transcript(ids.a, 5), transcript(ids.a, 3)];
  const store = await host.openStore();
  const sessions = openSessions(store);
  for (const [n, text] of histories.entries())
    await sessions.append('main', n === 0 ? ids.a : `${ids.a}~${n + 1}`, 0, Buffer.from(text), {
      complete: false,
      about: {},
    });
  await store.close();
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 8));
  expect(await host.upload()).toMatchObject({ done: 1, ok: true });
  expect([...(await host.stored()).values()].map(String)).toEqual([
    transcript(ids.a, 1),
    transcript(ids.a, 8),
    transcript(ids.a, 3),
  ]);
});

describe('what is moved', () => {
  const archive = () => path.join(host.sessions(), 'archive');

  test('reset and deleted files are moved at once, with their times, and plain ones after a day', async () => {
    const closed = await host.write(reset(ids.a), transcript(ids.a, 1));
    const { mtimeMs } = await stat(closed);
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { ageMs: 2 * 3_600_000 });
    await host.write(`${ids.c}.jsonl`, transcript(ids.c, 1), { ageMs: 25 * 3_600_000 });
    expect(await host.upload()).toMatchObject({ done: 3, moved: 2 });
    expect((await readdir(archive())).sort()).toEqual([reset(ids.a), `${ids.c}.jsonl`].sort());
    expect((await stat(path.join(archive(), reset(ids.a)))).mtimeMs).toBe(mtimeMs);
    expect(existsSync(path.join(host.sessions(), `${ids.b}.jsonl`))).toBe(true);
    const again = await host.backfill({
      through: (nexus) => ({ ...nexus, stat: () => expect.fail('settled anew') }),
    });
    expect(again).toMatchObject({ done: 0, already: 3, failed: [] });
  });

  test('a second file of a name does not replace the first', async () => {
    await host.write(reset(ids.a), transcript(ids.a, 1));
    await host.upload();
    await host.write(reset(ids.a), transcript(ids.a, 1, 'other'));
    expect(await host.upload()).toMatchObject({ done: 1, moved: 1 });
    expect(await readdir(archive())).toHaveLength(2);
    expect(await host.backfill()).toMatchObject({ done: 0, already: 2, failed: [] });
    expect((await host.stored()).size).toBe(2);
  });

  test('nothing is moved with afterUpload: keep', async () => {
    await host.write(reset(ids.a), transcript(ids.a, 1));
    expect(await host.upload({ config: { afterUpload: 'keep' } })).toMatchObject({ done: 1, moved: 0 });
    expect(existsSync(path.join(host.sessions(), reset(ids.a)))).toBe(true);
  });

  testFiles('nothing is moved whose stored bytes have rotted', async () => {
    await host.write(reset(ids.a), transcript(ids.a, 1));
    await host.upload({ config: { afterUpload: 'keep' } });
    const blob = path.join(host.dataDir, 'store', 'blobs', 'sessions', 'inbox', 'main', `${ids.a}.jsonl`);
    const bytes = await readFile(blob);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    await writeFile(blob, bytes);
    const report = await host.upload();
    expect(report).toMatchObject({ ok: false, moved: 0 });
    expect(report.failed[0]?.reason).toMatch(/stored/);
    expect(existsSync(path.join(host.sessions(), reset(ids.a)))).toBe(true);
  });

  test('nothing is moved whose stored bytes are others', async () => {
    await host.write(reset(ids.a), transcript(ids.a, 1));
    await host.upload({ config: { afterUpload: 'keep' } });
    await replaceStored(ids.a, transcript(ids.a, 1, 'other'));
    expect(await host.upload()).toMatchObject({ moved: 0 });
    expect(existsSync(path.join(host.sessions(), reset(ids.a)))).toBe(true);
  });

  async function replaceStored(id: string, text: string): Promise<void> {
    const store = await host.openStore();
    await store.remove(`sessions/inbox/main/${id}.jsonl`);
    await store.removeRows('Sessions', 'main', [id]);
    await openSessions(store).append('main', id, 0, Buffer.from(text), { complete: true, about: {} });
    await store.close();
  }
});

test('a session key too long for any header does not keep a transcript from the archive', async () => {
  const key = `agent:main:${'é'.repeat(600)}`;
  await writeFile(
    path.join(host.sessions(), 'sessions.json'),
    JSON.stringify({ [key]: { sessionId: ids.a } }),
  );
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
  expect(await host.upload()).toMatchObject({ ok: true, done: 1 });
  expect((await host.cards())[0]).not.toHaveProperty('sessionKey');
});

describe('a header alone', () => {
  const header = (cwd: string) =>
    `${JSON.stringify({ type: 'session', version: 3, id: ids.a, timestamp: '2026-11-20T10:00:00.000Z', cwd })}\n`;

  test('waits while it is active, so that the conversation gets the name when OpenClaw has written it anew', async () => {
    await host.current([ids.a]);
    await host.write(`${ids.a}.jsonl`, header('/'));
    for (let run = 0; run < 2; run++) {
      const report = await host.upload();
      expect(report).toMatchObject({ ok: true, done: 0, already: 0, skipped: 1 });
      expect(report.agents['main']?.skipped).toEqual({ 'active, nothing but a header is finished yet': 1 });
    }
    await host.write(`${ids.a}.jsonl`, header('/workspace') + messageLines(1, 'hello'), { ageMs: 1_700_000 });
    expect(await host.upload()).toMatchObject({ done: 1 });
    expect([...(await host.stored())].map(([name, bytes]) => [name, String(bytes)])).toEqual([
      [`main/${ids.a}`, header('/workspace') + messageLines(1, 'hello')],
    ]);
  });

  test('is shipped when it is complete, and by a backfill in any case', async () => {
    await host.current([ids.b]);
    await host.write(`${ids.a}.jsonl`, header('/'));
    await host.write(`${ids.b}.jsonl`, header('/b'));
    expect(await host.upload()).toMatchObject({ done: 1, skipped: 1 });
    expect(await host.backfill()).toMatchObject({ done: 1, already: 1 });
  });
});

describe('what OpenClaw does meanwhile', () => {
  test('a session that is used again after it was listed is not moved away', async () => {
    await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2), { ageMs: 30 * 3_600_000 });
    const more = messageLines(2, 'again');
    const report = await host.upload({
      through: (nexus) => ({
        ...nexus,
        async append(...given) {
          const length = await nexus.append(...given);
          await host.current([ids.a]);
          await host.append(`${ids.a}.jsonl`, more, { ageMs: 0 });
          return length;
        },
      }),
    });
    expect(report.moved).toBe(0);
    expect(existsSync(path.join(host.sessions(), `${ids.a}.jsonl`))).toBe(true);
    expect(await host.backfill()).toMatchObject({ ok: true });
    expect(String((await host.stored()).get(`main/${ids.a}`))).toBe(transcript(ids.a, 2) + more);
  });

  test('an archive that cannot be made costs no transcript and no second reading', async () => {
    await host.write(`${ids.c}.jsonl`, transcript(ids.c, 1));
    await host.upload();
    for (const id of [ids.a, ids.b]) await host.write(reset(id), transcript(id, 1));
    await writeFile(path.join(host.sessions(), 'archive'), 'not a directory');
    const report = await host.upload();
    expect(report).toMatchObject({ ok: true, done: 2, moved: 0 });
    expect(report.agents['main']?.notMoved).toBe(2);
    expect(report.warnings).toHaveLength(1);
    const stat = () => expect.fail('asked the archive again');
    expect(await host.upload({ through: (nexus) => ({ ...nexus, stat }) })).toMatchObject({ already: 3 });
  });
});

test('a chat that is never quiet is shipped all the same after an hour', async () => {
  await host.current([ids.a]);
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await host.upload();
  await host.append(`${ids.a}.jsonl`, messageLines(1, 'more'), { ageMs: 1_000 });
  expect(await host.upload()).toMatchObject({ done: 0, skipped: 1 });
  const database = new DatabaseSync(path.join(host.dataDir, 'host', 'ledger.sqlite'));
  database.exec('UPDATE shipped SET at = at - 3700000');
  database.close();
  expect(await host.upload()).toMatchObject({ done: 1 });
});

test('two agents may not be one in Nexus', async () => {
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { agent: 'other' });
  const upload = host.upload({ config: { agents: { main: { as: 'other' } } } });
  await expect(upload).rejects.toMatchObject({ code: 'config' });
});

testFiles('an upload to an emptied store ships what was moved away, too', async () => {
  await host.write(reset(ids.a), transcript(ids.a, 1));
  expect(await host.upload()).toMatchObject({ done: 1, moved: 1 });
  await rm(path.join(host.dataDir, 'store'), { recursive: true });
  expect(await host.upload()).toMatchObject({ done: 1 });
  expect((await host.stored()).size).toBe(1);
});

test('a time in the future, from a clock that was wrong, keeps nothing from the archive', async () => {
  await host.current([ids.a]);
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1), { ageMs: -30 * 86_400_000 });
  expect(await host.upload()).toMatchObject({ done: 1 });
});

test('an active transcript whose last line is not finished is not told to be stored', async () => {
  await host.current([ids.a]);
  await host.write(`${ids.a}.jsonl`, `${transcript(ids.a, 1)}{"type":`);
  await host.upload();
  const again = await host.upload();
  expect(again).toMatchObject({ done: 0, already: 0, skipped: 1 });
  expect(again.agents['main']?.skipped).toEqual({ 'active, its last line is not finished': 1 });
});

test('a transcript whose blob takes no more appends goes on, whole, under the next name', async () => {
  await host.current([ids.a]);
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await host.upload();
  const through: Parameters<Host['upload']>[0] = {
    through: (nexus) => ({
      ...nexus,
      async append(...given) {
        if (given[1] === ids.a && given[3].length > 0)
          throw new NexusError('full', 'No more.', { length: given[2] });
        return await nexus.append(...given);
      },
    }),
  };
  const more = messageLines(2, 'more');
  await host.append(`${ids.a}.jsonl`, more);
  expect(await host.upload(through)).toMatchObject({ ok: true, done: 1 });
  await host.append(`${ids.a}.jsonl`, more, { ageMs: 1_700_000 });
  expect(await host.upload(through)).toMatchObject({ ok: true, done: 1, bytes: more.length });
  const stored = await host.stored();
  expect(String(stored.get(`main/${ids.a}`))).toBe(transcript(ids.a, 2));
  expect(String(stored.get(`main/${ids.a}~2`))).toBe(transcript(ids.a, 2) + more + more);
});

describe('when Nexus cannot be reached', () => {
  test('the rest is not tried, and that is told of every item', async () => {
    for (let n = 0; n < 12; n++)
      await host.write(
        `${String(n).padStart(8, '0')}-aaaa-4aaa-8aaa-aaaaaaaaaaaa.jsonl`,
        transcript(ids.a, 1),
      );
    let tried = 0;
    const report = await host.upload({
      concurrency: 1,
      through: (nexus) => ({
        ...nexus,
        append: () => {
          tried++;
          return Promise.reject(new NexusError('unavailable', 'Out of reach.'));
        },
      }),
    });
    expect(tried).toBe(3);
    expect(report).toMatchObject({ ok: false, done: 0 });
    expect(report.agents['main']).toMatchObject({ found: 12, failed: 12 });
  });

  test('files that cannot be read are no outage: the others go on', async () => {
    for (const [n, id] of [ids.a, ids.b, ids.c].entries())
      await host.write(`${id}.jsonl.deleted.2026-11-20T11-00-0${n}.000Z.zst`, 'no zstd at all');
    await host.write(`dddddddd-${ids.a.slice(9)}.jsonl`, transcript(ids.a, 1));
    expect(await host.upload({ concurrency: 1 })).toMatchObject({ done: 1, failed: { length: 3 } });
  });
});

test('an active transcript without a finished line is not told to be stored', async () => {
  await host.current([ids.a, ids.b]);
  await host.write(`${ids.a}.jsonl`, '{"type":"sess');
  await host.write(`${ids.b}.jsonl`, '');
  expect(await host.backfill()).toMatchObject({ done: 0, already: 0, skipped: 2 });
});

test('what a first upload finds in archive/ and refuses is named', async () => {
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 1));
  await mkdir(path.join(host.sessions(), 'archive'), { recursive: true });
  await symlink('/etc/hostname', path.join(host.sessions(), 'archive', `${ids.c}.jsonl`));
  const report = await host.upload();
  expect(report.ok).toBe(false);
  expect(report.failed.map(({ item }) => path.basename(item))).toEqual([`${ids.c}.jsonl`]);
});
