import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { type Observe, timedStore } from '../../src/stores/timed.ts';
import { temporaryStore } from '../port/local.ts';
import { describeStore } from './contract.ts';
import { bytes, codeOf, collect, text } from './outcomes.ts';

describeStore('timed', async () => {
  const { store, directory, remove } = await temporaryStore();
  const opened = [store];
  return {
    store: timedStore(store, () => undefined),
    async reopen() {
      const again = await openLocalStore(`${directory}/store`);
      opened.push(again);
      return timedStore(again, () => undefined);
    },
    async cleanup() {
      for (const one of opened.slice(1)) await one.close();
      await remove();
    },
  };
});

async function observed() {
  const seen: { operation: string; seconds: number; failure: string | undefined }[] = [];
  const observe: Observe = (operation, seconds, failure) => void seen.push({ operation, seconds, failure });
  const { store, remove } = await temporaryStore();
  return { seen, under: store, store: timedStore(store, observe), remove };
}

const log = 'sessions/inbox/main/one.jsonl';

test('each operation is told once, and answers that say what is there are no failures', async () => {
  const { seen, store, remove } = await observed();
  await store.id();
  await store.append(log, 0, bytes('x'));
  expect(await codeOf(store.append(log, 0, bytes('y')))).toBe('conflict');
  expect(await codeOf(text(store.open('sessions/inbox/main/none.jsonl')))).toBe('not_found');
  await store.put('Marks', { partition: 'main', id: 'a' });
  expect(await collect(store.rows('Marks', 'main'))).toHaveLength(1);
  expect(seen.map(({ operation, failure }) => [operation, failure])).toEqual([
    ['id', undefined],
    ['append', undefined],
    ['append', undefined],
    ['open', undefined],
    ['put', undefined],
    ['rows', undefined],
  ]);
  await remove();
});

test('a failure is told by its code, a bug as internal', async () => {
  const { seen, under, store, remove } = await observed();
  under.stat = () => Promise.reject(new NexusError('unavailable', 'The disk is gone.'));
  under.put = () => Promise.reject(new TypeError('a bug'));
  under.rows = async function* () {
    yield { partition: 'main', id: 'a' };
    throw new NexusError('corrupt', 'It has changed.');
  };
  expect(await codeOf(store.stat(log))).toBe('unavailable');
  await expect(store.put('Marks', { partition: 'main', id: 'a' })).rejects.toThrow('a bug');
  expect(await codeOf(collect(store.rows('Marks', 'main')))).toBe('corrupt');
  expect(seen.map(({ failure }) => failure)).toEqual(['unavailable', 'internal', 'corrupt']);
  await remove();
});

test('a look that nobody waits for any more is no failure', async () => {
  const { seen, store, remove } = await observed();
  await expect(collect(store.damage(AbortSignal.abort()))).rejects.toThrow('aborted');
  expect(seen).toMatchObject([{ operation: 'damage', failure: undefined }]);
  await remove();
});

test('the time of who reads is not the time of the store', async () => {
  const { seen, store, remove } = await observed();
  for (const id of ['a', 'b']) await store.put('Marks', { partition: 'main', id });
  const began = performance.now();
  for await (const _ of store.rows('Marks', 'main')) await new Promise((resolve) => setTimeout(resolve, 300));
  const paused = (performance.now() - began) / 1000;
  expect(seen.at(-1)).toMatchObject({ operation: 'rows' });
  expect(seen.at(-1)?.seconds).toBeLessThan(paused - 0.5);
  for await (const _ of store.rows('Marks', 'main')) break;
  expect(seen.at(-1)).toMatchObject({ operation: 'rows', failure: undefined });
  expect(seen).toHaveLength(4);
  await remove();
});
