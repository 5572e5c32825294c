import { once } from 'node:events';
import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { noteDamage } from '../../src/jobs/damage.ts';
import type { Nexus } from '../../src/nexus.ts';
import type { FailedItem } from '../../src/report.ts';

async function noted(damage: Nexus['damage'], signal = new AbortController().signal) {
  const failed: FailedItem[] = [];
  const warned: string[] = [];
  await noteDamage(
    { damage },
    failed,
    signal,
    (message) => warned.push(message),
    (item) => failed.push(item),
  );
  return { failed, warned };
}

test('a look for damage ends with the job, and that is no failure', async () => {
  const stop = new AbortController();
  const ended = noted(async function* (signal) {
    yield { item: 'main/x', reason: 'It rotted.' };
    if (signal !== undefined) await once(signal, 'abort');
    signal?.throwIfAborted();
  }, stop.signal);
  setImmediate(() => stop.abort());
  expect(await ended).toEqual({ failed: [{ item: 'main/x', reason: 'It rotted.' }], warned: [] });
});

test('what is damaged is named once, and so is an endpoint that cannot look to its end', async () => {
  const { failed } = await noted(async function* () {
    yield { item: 'main/x', reason: 'It rotted.' };
    yield { item: 'Sessions main/x', reason: 'It rotted.' };
    yield await Promise.reject(new NexusError('unavailable', 'It is gone.'));
  });
  expect(failed).toEqual([
    { item: 'main/x', reason: 'It rotted.' },
    { item: 'all that is stored', reason: 'It is gone.' },
  ]);
});

test('an endpoint that is older is warned of', async () => {
  const { failed, warned } = await noted(async function* () {
    yield await Promise.reject(new NexusError('not_found', 'There is no such route.'));
  });
  expect([failed, warned]).toEqual([[], [expect.stringContaining('older')]]);
});
