import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { followSecrets } from '../src/commands/followed.ts';
import { pruneHourly } from '../src/commands/pruning.ts';

async function secretFile(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-secret-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return path.join(directory, 'secret');
}

test('a secret is read again after five seconds, and not before', async () => {
  let time = 0;
  const secretOf = followSecrets({}, () => time);
  const file = await secretFile();
  await writeFile(file, 'one');
  expect(await secretOf({ file })).toBe('one');
  await writeFile(file, 'two');
  time = 4999;
  expect(await secretOf({ file })).toBe('one');
  time = 5000;
  expect(await secretOf({ file })).toBe('two');
});

test('a secret that was not there is looked for again', async () => {
  let time = 0;
  const secretOf = followSecrets({}, () => time);
  const file = await secretFile();
  await expect(secretOf({ file })).rejects.toMatchObject({ code: 'config' });
  await writeFile(file, 'late');
  time = 5000;
  expect(await secretOf({ file })).toBe('late');
});

test('secrets of different places are kept apart', async () => {
  const secretOf = followSecrets({ A: 'a', B: 'b' });
  expect(await Promise.all([secretOf({ env: 'A' }), secretOf({ env: 'B' }), secretOf('A')])).toEqual([
    'a',
    'b',
    'A',
  ]);
});

/** Runs until so many waits are over; answers how long they were, and what was warned of. */
async function pruned(waits: number, prune: () => Promise<unknown>, random = 0.5) {
  const stop = new AbortController();
  const waited: number[] = [];
  const warnings: string[] = [];
  const nothing = { items: 0, deliveries: 0, blobs: 0 };
  await pruneHourly(
    { prune: () => prune().then(() => nothing) },
    {
      signal: stop.signal,
      warn: (sentence) => void warnings.push(sentence),
      random: () => random,
      async wait(ms) {
        waited.push(ms / 60_000);
        if (waited.length === waits) stop.abort();
      },
    },
  );
  return { waited, warnings };
}

test('old webhooks are removed some minutes after the start and then about every hour', async () => {
  let runs = 0;
  const { waited } = await pruned(4, async () => void runs++);
  expect([waited, runs]).toEqual([[5.5, 60, 60, 60], 3]);
  expect((await pruned(2, async () => undefined, 0)).waited).toEqual([3, 55]);
});

test('a run that failed is told, and the next one comes all the same', async () => {
  let runs = 0;
  const { warnings } = await pruned(3, async () => {
    runs++;
    throw new Error('the disk is gone');
  });
  expect([runs, warnings]).toEqual([
    2,
    Array<string>(2).fill('Old webhooks could not be removed: the disk is gone'),
  ]);
});

test('all delivery ids are looked through once a day, and again after a run that failed', async () => {
  const stop = new AbortController();
  const asked: unknown[] = [];
  let time = 0;
  await pruneHourly(
    {
      async prune(options) {
        asked.push(options?.deliveries);
        if (asked.length === 1) throw new Error('the disk is gone');
        return { items: 0, deliveries: 0, blobs: 0 };
      },
    },
    {
      signal: stop.signal,
      warn: () => undefined,
      random: () => 0.5,
      now: () => time,
      async wait(ms) {
        time += ms;
        if (asked.length === 27) stop.abort();
      },
    },
  );
  expect(asked.flatMap((deliveries, run) => (deliveries === true ? run : []))).toEqual([0, 1, 25]);
});

test('it ends with the signal, also in the middle of a run', async () => {
  const stop = new AbortController();
  await pruneHourly(
    {
      prune: (options) => {
        stop.abort();
        return Promise.reject(options?.signal?.reason);
      },
    },
    { signal: stop.signal, warn: () => expect.fail('nothing to tell'), wait: async () => undefined },
  );
  expect(stop.signal.aborted).toBe(true);
});

test('it ends with the signal, in the middle of a wait', async () => {
  const stop = new AbortController();
  const over = pruneHourly(
    { prune: () => expect.fail('not asked for') },
    { signal: stop.signal, warn: () => expect.fail('nothing to tell') },
  );
  stop.abort();
  await over;
});
