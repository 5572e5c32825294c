import { expect, test } from 'vitest';
import { slots } from '../src/slots.ts';

test('so many run at once, the others in their order, and one that fails makes room too', async () => {
  const inSlot = slots(2);
  const begun: number[] = [];
  let running = 0;
  let most = 0;
  const work = (n: number) =>
    inSlot(async () => {
      begun.push(n);
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
      if (n % 2 === 0) throw new Error(`${n} failed`);
      return n;
    });
  const ended = await Promise.allSettled([0, 1, 2, 3, 4, 5].map(work));
  expect(begun).toEqual([0, 1, 2, 3, 4, 5]);
  await Promise.allSettled([6, 7, 8].map(work));
  expect(most).toBe(2);
  expect(ended.map(({ status }) => status === 'fulfilled')).toEqual([false, true, false, true, false, true]);
});
