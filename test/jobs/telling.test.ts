import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Batch, BatchChange } from '../../src/jobs/deliveries.ts';
import {
  afterSending,
  answered,
  beforeSending,
  type Door,
  givenUp,
  mayBeAnswered,
  mostAttempts,
  nextStep,
} from '../../src/jobs/telling.ts';
import type { Outcome } from '../../src/openclaw/outcome.ts';

const minute = 60_000;
const start = Date.parse('2026-11-23T10:00:00Z');
const admitted: Outcome = { state: 'admitted', reference: 'run-1' };
const refused: Outcome = { state: 'failed', reason: 'No gateway.', refused: true };
const broken: Outcome = { state: 'failed', reason: 'The run ended in an error.', refused: false };
const done: Outcome = { state: 'done' };

function fresh(): Batch {
  return { id: 'b', agent: 'main', createdAt: start, state: 'untold', attempts: 0 };
}

/** As the ledger of deliveries applies a change. */
function changed(batch: Batch, change: BatchChange): Batch {
  const { state = batch.state, attempts = batch.attempts, ...facts } = change;
  const kept: Batch = { ...batch, state, attempts };
  for (const [field, value] of Object.entries(facts))
    if (value === null) Reflect.deleteProperty(kept, field);
    else if (value !== undefined) Reflect.set(kept, field, value);
  return kept;
}

/** One pass at a time: what was done, and the batch afterwards. */
function pass(batch: Batch, outcome: Outcome, at: number, by: Door = 'hooks'): { did: string; batch: Batch } {
  const step = nextStep(batch, at, by);
  if (step.do === 'give up') return { did: step.do, batch: changed(batch, givenUp(batch)) };
  if (!('attempt' in step)) return { did: step.do, batch };
  const sending = changed(batch, beforeSending(batch, step.attempt, 'm', at));
  return {
    did: `${step.do} ${step.attempt}`,
    batch: changed(sending, afterSending(batch, step.attempt, outcome, at)),
  };
}

/** What a pass every minute does with one outcome for ever, with the minutes. */
function history(outcome: Outcome, minutes: number, by: Door = 'hooks'): string[] {
  let batch = fresh();
  const said: string[] = [];
  for (let at = 0; at <= minutes; at++) {
    const one = pass(batch, outcome, start + at * minute, by);
    batch = one.batch;
    if (one.did !== 'wait' && one.did !== 'nothing') said.push(`${at}: ${one.did}`);
  }
  return said;
}

test.each<Door>(['hooks', 'cli'])('what is done at once by %s is sent once', (by) => {
  expect(history(done, 600, by)).toEqual(['0: send 1']);
});

test.each([
  ['taken', admitted],
  ['failed after it was taken', broken],
])(
  'what was %s and never answered is repeated after 15, 30, 60 and 120 minutes, and then has failed',
  (_, outcome) => {
    expect(history(outcome, 1000)).toEqual([
      '0: send 1',
      '15: repeat 2',
      '45: repeat 3',
      '105: repeat 4',
      '225: repeat 5',
      '345: give up',
    ]);
  },
);

test('what is refused is sent again as the first, with pauses that double to a quarter of an hour', () => {
  expect(history(refused, 61)).toEqual([0, 1, 2, 4, 8, 16, 31, 46, 61].map((at) => `${at}: send 1`));
});

test('a refused repeat is repeated again and does not count', () => {
  const first = pass(fresh(), admitted, start).batch;
  const second = pass(first, refused, start + 15 * minute);
  expect(second.did).toBe('repeat 2');
  expect(second.batch).toMatchObject({ state: 'admitted', attempts: 1, lastError: 'No gateway.' });
  expect(pass(second.batch, done, start + 29 * minute).did).toBe('wait');
  const third = pass(second.batch, done, start + 30 * minute);
  expect(third).toMatchObject({ did: 'repeat 2', batch: { state: 'done' } });
});

test('what was given up says how often it was told and why', () => {
  const batch = changed(fresh(), { state: 'admitted', attempts: 5, lastError: 'The run ended in an error.' });
  expect(changed(batch, givenUp(batch))).toMatchObject({
    state: 'failed',
    lastError: 'The agent was told 5 times and has not answered. The last time: The run ended in an error.',
  });
});

test('what OpenClaw called the run is kept, also when the next attempt says nothing of it', () => {
  const first = pass(fresh(), admitted, start).batch;
  expect(first).toMatchObject({ reference: 'run-1', admittedAt: start });
  const second = pass(first, { state: 'admitted' }, start + 15 * minute).batch;
  expect(second).toMatchObject({ reference: 'run-1', admittedAt: start, attempts: 2 });
});

describe('a process that dies while it sends', () => {
  const dead = changed(fresh(), beforeSending(fresh(), 1, 'm', start));

  test('the first message leaves it to be looked for', () => {
    expect(mayBeAnswered(dead)).toBe(true);
  });

  test('the first message by hooks leaves it to be sent with the same key while that joins the same run', () => {
    expect(nextStep(dead, start, 'hooks')).toEqual({ do: 'send', attempt: 1 });
    expect(nextStep(dead, start + 4 * minute, 'hooks')).toEqual({ do: 'send', attempt: 1 });
    expect(nextStep(dead, start + 5 * minute, 'hooks')).toEqual({ do: 'wait' });
    expect(nextStep(dead, start + 15 * minute, 'hooks')).toEqual({ do: 'repeat', attempt: 2 });
  });

  test('the first message by the command line leaves it to be waited for and then repeated', () => {
    expect(nextStep(dead, start, 'cli')).toEqual({ do: 'wait' });
    expect(nextStep(dead, start + 15 * minute, 'cli')).toEqual({ do: 'repeat', attempt: 2 });
  });

  test('the first message again and again gains no time for joining its run', () => {
    const again = changed(dead, beforeSending(dead, 1, 'm', start + 4 * minute));
    expect(nextStep(again, start + 6 * minute, 'hooks')).toEqual({ do: 'wait' });
    expect(nextStep(again, start + 15 * minute, 'hooks')).toEqual({ do: 'repeat', attempt: 2 });
  });

  test('the first message leaves it counted when it is refused the second time', () => {
    const refusedThen = pass(dead, refused, start + minute).batch;
    expect(refusedThen).toMatchObject({ state: 'admitted', attempts: 1, lastError: 'No gateway.' });
    expect(nextStep(refusedThen, start + 15 * minute, 'hooks')).toEqual({ do: 'repeat', attempt: 2 });
  });

  test('the first message after others were refused is no reason for a problem', () => {
    const waiting = pass(fresh(), refused, start).batch;
    expect(waiting).toMatchObject({ state: 'untold', attempts: 0, lastError: 'No gateway.' });
    expect(changed(waiting, beforeSending(waiting, 1, 'm', start + minute))).not.toHaveProperty('lastError');
  });

  test('a repeat leaves it counted and waited for', () => {
    const first = pass(fresh(), admitted, start).batch;
    const at = start + 15 * minute;
    const dead = changed(first, beforeSending(first, 2, 'm', at));
    expect(nextStep(dead, at, 'hooks')).toEqual({ do: 'wait' });
    expect(nextStep(dead, at + 30 * minute, 'hooks')).toEqual({ do: 'repeat', attempt: 3 });
  });
});

test('nothing is looked for that was never sent', () => {
  expect(mayBeAnswered(fresh())).toBe(false);
  expect(mayBeAnswered(pass(fresh(), refused, start).batch)).toBe(false);
});

test('a clock that was wrong delays nothing for longer than a repeat', () => {
  const batch = changed(pass(fresh(), admitted, start + 400 * 86_400_000).batch, {});
  expect(nextStep(batch, start, 'hooks')).toEqual({ do: 'repeat', attempt: 2 });
});

test.each(['open', 'done', 'failed', 'none'] as const)('a batch that is %s is left alone', (state) => {
  expect(nextStep({ ...fresh(), state }, start, 'hooks')).toEqual({ do: 'nothing' });
});

test('an answer ends it', () => {
  const batch = changed(pass(fresh(), broken, start).batch, answered());
  expect(batch).toEqual(
    expect.not.objectContaining({ lastError: expect.anything(), nextAt: expect.anything() }),
  );
  expect(nextStep(batch, start + 1e9, 'hooks')).toEqual({ do: 'nothing' });
});

test('whatever comes, it is never taken more than five times, never again after an end, and always ends', () => {
  const outcomes = fc.array(fc.constantFrom(admitted, refused, broken, done), { maxLength: 40 });
  const pauses = fc.array(fc.integer({ min: 0, max: 200 }), { minLength: 40, maxLength: 40 });
  fc.assert(
    fc.property(outcomes, pauses, (given, waits) => {
      let batch = fresh();
      let at = start;
      let taken = 0;
      for (const [index, outcome] of given.entries()) {
        at += (waits[index] ?? 0) * minute;
        const ended = batch.state === 'done' || batch.state === 'failed';
        const one = pass(batch, outcome, at);
        const sent = /^(send|repeat)/.test(one.did);
        expect(sent && ended).toBe(false);
        if (sent && outcome !== refused) taken++;
        // Only the first message is unmarked, and only until it was taken.
        expect(one.did.startsWith('send') && taken > (outcome === refused ? 0 : 1)).toBe(false);
        ({ batch } = one);
        expect(batch.attempts).toBe(taken);
      }
      expect(taken).toBeLessThanOrEqual(mostAttempts);
    }),
  );
});
