import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openRateLimit } from '../../src/http/ratelimit.ts';

/** How many of these tries, each so many ms after the one before, were let through; and the last refusal. */
function tries(perMinute: number, pauses: number[]) {
  let time = 1_000_000;
  const rates = openRateLimit(() => new Date(time));
  let passed = 0;
  let refusal: NexusError | undefined;
  for (const pause of pauses) {
    time += pause;
    try {
      rates.take('main github', perMinute);
      passed += 1;
    } catch (error) {
      if (!(error instanceof NexusError)) throw error;
      refusal = error;
    }
  }
  return { passed, refusal };
}

test('ten seconds’ worth may come at once, and no more', () => {
  const { passed, refusal } = tries(60, Array<number>(50).fill(0));
  expect(passed).toBe(10);
  expect(refusal).toMatchObject({ code: 'limited', retryAfter: 1 });
});

test('one may come at once however low the rate', () => {
  const { passed, refusal } = tries(1, [0, 0]);
  expect(passed).toBe(1);
  expect(refusal).toMatchObject({ retryAfter: 60 });
});

test('whoever comes when it was told to come is let in', () => {
  expect(tries(7, [0, 0, 9000]).passed).toBe(2);
  expect(tries(1, [0, 0, 60_000]).passed).toBe(2);
});

test('0 is without limit', () => {
  expect(tries(0, Array<number>(1000).fill(0)).passed).toBe(1000);
});

test('each name has its own', () => {
  const rates = openRateLimit(() => new Date(0));
  rates.take('a', 1);
  rates.take('b', 1);
  expect(() => rates.take('a', 1)).toThrow(/More than 1 requests a minute/);
});

test('of names that strangers make up it remembers so many, and forgets who came longest ago', () => {
  const rates = openRateLimit(() => new Date(0), { names: 2 });
  rates.take('a', 1);
  rates.take('b', 1);
  expect(() => rates.take('a', 1)).toThrow(/More than/);
  rates.take('c', 1);
  expect([rates.spent('a', 1), rates.spent('b', 1), rates.spent('c', 1)]).toEqual([true, false, true]);
});

test('a whole minute’s may come at once where that is wanted', () => {
  const rates = openRateLimit(() => new Date(0), { atOnce: 1 });
  for (let n = 0; n < 60; n++) rates.take('a', 60);
  expect(rates.spent('a', 60)).toBe(true);
  expect(() => rates.take('a', 60)).toThrow(/More than 60/);
});

test('a clock that is set back lets nobody through more often', () => {
  expect(tries(1, [0, -3_600_000, 1000]).passed).toBe(1);
});

test('in any time no more come through than the rate allows, and ten seconds’ worth', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 200 }),
      (perMinute, pauses) => {
        const time = pauses.reduce((sum, pause) => sum + pause, 0);
        const most = Math.max(1, perMinute / 6) + (perMinute * time) / 60_000;
        expect(tries(perMinute, pauses).passed).toBeLessThanOrEqual(most + 1e-3);
      },
    ),
  );
});
