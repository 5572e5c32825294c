import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openUsage, type Usage, type UsageOptions } from '../../src/usage.ts';
import { countedBy, rotAt, temporary, workersBegun } from './history.ts';

/** Threads are begun even for transcripts of which only the feed has said that they have changed. */
const always = -1;
const transcripts = 30;
const each = 200;

function lineOf(session: number, nth: number): string {
  // Every other session is a fork, which repeats the first half of the one before it.
  const of = session % 2 === 1 && nth < each / 2 ? session - 1 : session;
  const timestamp = new Date(Date.UTC(2026, 10, 1) + (of * each + nth) * 1000).toISOString();
  const usage = { input: 1 + nth, output: of, cost: { total: 0.001 } };
  const message = { role: 'assistant', text: 'x'.repeat(300), provider: 'p', model: 'm', usage };
  return `${JSON.stringify({ type: 'message', id: `${of}-${nth}`, parentId: null, timestamp, message })}\n`;
}

async function history() {
  const root = await temporary();
  const directory = path.join(root, 'store');
  const store = await openLocalStore(directory);
  onTestFinished(() => store.close());
  const nexus = openSessions(store);
  for (let session = 0; session < transcripts; session++) {
    const text = Array.from({ length: each }, (_, nth) => lineOf(session, nth)).join('');
    const facts = { complete: session % 3 === 0, about: { sessionKey: `agent:main:s${session}` } };
    await nexus.append('main', `s${session}`, 0, Buffer.from(text), facts);
  }
  let opened = 0;
  const open = async (options: Partial<UsageOptions> = {}): Promise<Usage> => {
    const file = path.join(root, `usage${opened++}`, 'index.sqlite');
    const usage = await openUsage({ store, file, directory, threadsFrom: always, ...options });
    onTestFinished(() => usage.close());
    return usage;
  };
  const fileOf = (transcript: string): string =>
    path.join(directory, 'blobs', 'sessions', 'inbox', 'main', `${transcript}.jsonl`);
  return { nexus, open, fileOf };
}

test('threads that read from the store, or are given what to read, count the same as none', async () => {
  const { open, nexus } = await history();
  const workers = workersBegun();
  const ways = [
    await open(),
    await open({ directory: undefined }),
    await open({ threadsFrom: Number.POSITIVE_INFINITY }),
  ];
  const counted: unknown[] = [];
  for (const usage of ways) {
    expect((await usage.catchUp()).complete).toBe(true);
    counted.push([await countedBy(usage), (await usage.query({ by: 'session' })).rows]);
  }
  expect(workers).toHaveLength(3);
  expect(counted[0]).toEqual(counted[2]);
  expect(counted[1]).toEqual(counted[2]);

  const more = Buffer.from(lineOf(transcripts, 0));
  await nexus.append('main', 's2', await lengthOf(nexus, 's2'), more, {
    complete: true,
    about: {},
  });
  for (const usage of ways) await usage.catchUp();
  const [one, , other] = await Promise.all(ways.map((usage) => countedBy(usage)));
  expect(one).toEqual(other);
  expect(workers).toHaveLength(6);
});

async function lengthOf(nexus: ReturnType<typeof openSessions>, transcript: string): Promise<number> {
  return (await nexus.stat('main', transcript))?.length ?? 0;
}

test('a transcript that rots is noted with its reason, and keeps no other from being counted', async () => {
  const { open, fileOf } = await history();
  await rotAt(fileOf('s4'), 1000);
  const usage = await open();
  const { complete, coverage } = await usage.catchUp();
  expect(complete).toBe(false);
  expect(coverage.unreadable.examples).toEqual([
    {
      agent: 'main',
      transcript: 's4',
      reason: `${fileOf('s4')} is not what was stored: its bytes have changed. Restore it from a backup.`,
    },
  ]);
  await rotAt(fileOf('s4'), 1000);
  expect(await usage.catchUp()).toMatchObject({ complete: true });
  const here = await open({ threadsFrom: Number.POSITIVE_INFINITY });
  await here.catchUp();
  expect(await countedBy(usage)).toEqual(await countedBy(here));
});

test('a thread that dies fails the catching up, which the next one ends', async () => {
  const { open } = await history();
  const usage = await open();
  const workers = workersBegun();
  let killed: Promise<unknown> | undefined;
  const failing = usage.catchUp({
    progress: ({ bytes }) => {
      if (bytes > 0) killed ??= workers[0]?.terminate();
    },
  });
  await expect(failing).rejects.toMatchObject({
    code: 'unavailable',
    message: 'The thread that reads transcripts has ended.',
  });
  await killed;
  // It was nobody's fault among the transcripts.
  expect((await usage.standing()).coverage.unreadable.count).toBe(0);
  expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { transcripts } });
});

test('a reading in threads that is stopped goes on from there', async () => {
  const { open } = await history();
  const usage = await open();
  const stop = new AbortController();
  const told: number[] = [];
  const stopped = await usage.catchUp({
    signal: stop.signal,
    progress: ({ bytes }) => {
      told.push(bytes);
      if (bytes > 500_000) stop.abort();
    },
  });
  expect(stopped.complete).toBe(false);
  let total = 0;
  const { complete } = await usage.catchUp({ progress: ({ bytes }) => (total = bytes) });
  expect(complete).toBe(true);
  expect(told).toEqual([...told].sort((one, other) => one - other));
  expect(total).toBeGreaterThan(0);
  const here = await open({ threadsFrom: Number.POSITIVE_INFINITY });
  await here.catchUp();
  expect(await countedBy(usage)).toEqual(await countedBy(here));
});
