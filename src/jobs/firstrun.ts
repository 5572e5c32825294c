import { statSync } from 'node:fs';
import type { Config } from '../config.ts';
import { errnoOf } from '../diskerrors.ts';
import { holdersIn } from './agentlock.ts';
import { type Ledger, ledgerFile } from './ledger.ts';
import { streakOf } from './streak.ts';

/** The time between the install of this host and the end of its first backfill, which may take hours. */
export interface FirstRun {
  /** A backfill is at work. */
  underWay: boolean;
  /** When it last archived something, else when it began, else when this host was first looked at; ms since 1970. */
  progressAt: number;
  /** Nothing was archived for so long that it is told. */
  stalled: boolean;
}

export const stalledMs = 3 * 3_600_000;

/** `undefined` once a backfill has ended well or not, or where uploads did and no backfill is at work. */
export async function firstRunOf(config: Config, ledger: Ledger, now: number): Promise<FirstRun | undefined> {
  if (hasEnded(ledger, 'backfill')) return undefined;
  const beganAt = await backfillSince(config);
  if (beganAt === undefined && hasEnded(ledger, 'upload')) return undefined;
  const progressAt = Math.max(beganAt ?? firstSeen(ledgerFile(config)), ledger.lastShippedAt() ?? 0);
  // A clock that was wrong must not silence it for longer.
  const stalled = Math.abs(now - progressAt) >= stalledMs;
  return { underWay: beganAt !== undefined, progressAt, stalled };
}

/** What was stopped, or left to another, has not ended. */
function hasEnded(ledger: Ledger, job: string): boolean {
  return streakOf(ledger, job).verdict !== 'neither';
}

/** Not every file system knows it: then it was long ago. */
function firstSeen(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.birthtimeMs ?? 0;
}

/** Since when a backfill that lives holds an agent. */
async function backfillSince(config: Config): Promise<number | undefined> {
  const since = (await holdersIn(config))
    .filter(({ job, pid }) => job === 'backfill' && isAlive(pid))
    .map((holder) => holder.since.getTime());
  return since.length === 0 ? undefined : Math.min(...since);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
