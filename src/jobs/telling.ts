import type { Outcome } from '../openclaw/outcome.ts';
import type { Batch, BatchChange } from './deliveries.ts';

/** How often a batch is sent at most. */
export const mostAttempts = 5;

const minuteMs = 60_000;

/** How long after each attempt without an answer it is sent again; after the last one it has failed. */
const repeatAfterMs = [15, 30, 60, 120, 120].map((minutes) => minutes * minuteMs);

/** A key of hooks makes one run of what comes within five minutes; some are left for the way. */
const joinableMs = 4.5 * minuteMs;

/** What was refused is not sent again before, and not later than this. */
const refusedMs = { least: minuteMs, most: 15 * minuteMs };

/** What a batch needs at a time. */
export type Step =
  /** The message for the first time, or once more what may not have been sent in full: same message, same key. */
  | { do: 'send'; attempt: number }
  /** The message again, marked as a repeat. */
  | { do: 'repeat'; attempt: number }
  /** Nothing yet. */
  | { do: 'wait' }
  /** It was sent as often as it may be. */
  | { do: 'give up' }
  | { do: 'nothing' };

/** The door that a message goes by, or none that is open. */
export type Door = 'hooks' | 'cli' | 'nothing';

/** True for a batch that may have been answered: the agent's transcripts say so before anything else is done. */
export function mayBeAnswered({ state }: Batch): boolean {
  return state === 'admitted';
}

/** What to do with a batch that the agent's transcripts do not show to be answered. */
export function nextStep(batch: Batch, now: number, by: Door): Step {
  const { state, attempts, nextAt = 0 } = batch;
  if (state !== 'untold' && state !== 'admitted') return { do: 'nothing' };
  if (by === 'hooks' && isJoinable(batch, now)) return { do: 'send', attempt: attempts };
  // A clock that was wrong must not keep it for ever.
  const due = now >= nextAt || nextAt - now > Math.max(...repeatAfterMs) + minuteMs;
  if (!due) return { do: 'wait' };
  if (attempts === 0) return { do: 'send', attempt: 1 };
  return attempts < mostAttempts ? { do: 'repeat', attempt: attempts + 1 } : { do: 'give up' };
}

/**
 * Whether a process died while it sent the batch for the first time, and so short a while ago that the same key still
 * joins the run that may be under way: the gateway remembers it for five minutes.
 */
function isJoinable({ state, attempts, admittedAt, nextAt }: Batch, now: number): boolean {
  if (state !== 'admitted' || attempts !== 1 || admittedAt !== undefined || nextAt === undefined)
    return false;
  const since = now - (nextAt - repeatDelay(1));
  return since >= 0 && since < joinableMs;
}

/**
 * What is kept before a message is sent: it counts as admitted, and is not sent again before a repeat would be, so that
 * whatever is lost in between, nothing that was sent counts as not sent. `openclaw agent` has no key, and what it began
 * goes on without it; hooks have one, which for five minutes makes the same message, sent again, the same run, and after
 * that, or in another gateway process, another one.
 */
export function beforeSending(batch: Batch, attempt: number, message: string, now: number): BatchChange {
  const change: BatchChange = { state: 'admitted', attempts: attempt, message };
  // The same once more: the time of the first counts.
  if (attempt === batch.attempts) return change;
  const nextAt = now + repeatDelay(attempt);
  return attempt === 1
    ? { ...change, nextAt, lastError: null }
    : { ...change, nextAt, admittedAt: batch.admittedAt ?? now };
}

/** What is kept of an attempt's outcome; `before` is the batch as it was before that attempt. */
export function afterSending(before: Batch, attempt: number, outcome: Outcome, now: number): BatchChange {
  if (outcome.state === 'done') return answered();
  if (outcome.state === 'failed' && outcome.refused) {
    // It does not count, however often: that OpenClaw is down says nothing of the agent.
    const { state, attempts } = before;
    const nextAt = attempt === attempts ? before.nextAt : now + refusedDelay(before, now);
    return { state, attempts, lastError: outcome.reason, ...(nextAt === undefined ? {} : { nextAt }) };
  }
  return {
    state: 'admitted',
    admittedAt: before.admittedAt ?? now,
    nextAt: now + repeatDelay(attempt),
    lastError: outcome.state === 'failed' ? outcome.reason : null,
    reference: (outcome.state === 'admitted' ? outcome.reference : undefined) ?? before.reference ?? null,
  };
}

export function answered(): BatchChange {
  return { state: 'done', nextAt: null, lastError: null };
}

/** What is kept of a batch that is given up. */
export function givenUp(batch: Batch): BatchChange {
  const last = batch.lastError === undefined ? '' : ` The last time: ${batch.lastError}`;
  return {
    state: 'failed',
    nextAt: null,
    lastError: `The agent was told ${batch.attempts} times and has not answered.${last}`,
  };
}

function repeatDelay(attempt: number): number {
  return repeatAfterMs[Math.min(attempt, repeatAfterMs.length) - 1] ?? 15 * minuteMs;
}

/** As long as it has been tried already, so that the pauses double. */
function refusedDelay({ createdAt, admittedAt }: Batch, now: number): number {
  return Math.min(Math.max(now - (admittedAt ?? createdAt), refusedMs.least), refusedMs.most);
}
