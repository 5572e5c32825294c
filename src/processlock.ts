import { closeSync, fchmodSync, openSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { diskError, errnoOf, isBusy } from './diskerrors.ts';

/** Held by this process until released, or until the process dies in whatever way. */
export interface Lock {
  /** Frees it; a second time does nothing. */
  release(): Promise<void>;
}

/** A lock file kept open for locking it again and again. */
export interface LockFile {
  /** Takes turns within this process and competes with others; `undefined` when others still hold it after `waitMs`. */
  acquire(waitMs: number): Promise<Lock | undefined>;
  close(): void;
}

// A process that locks the same file without a break steps aside after this long, for longer than others sleep.
const longestStreakMs = 250;
const longestSleepMs = 4;

/**
 * Makes the file if absent. Its lock is SQLite's (fcntl), because Node has no flock: the kernel frees it when the
 * process ends. The file stays empty. Never open it otherwise: closing any descriptor of it drops the lock.
 */
export function openLockFile(file: string): LockFile {
  createPrivateFile(file);
  const database = openEmpty(file);
  let turn: Promise<unknown> = Promise.resolve();
  let journalless = false;
  let streakBegan = 0;
  let released = 0;

  function tryNow(): boolean {
    try {
      // The journal of a transaction that is always rolled back belongs in memory, so that none is left behind.
      if (!journalless) database.exec('PRAGMA journal_mode = MEMORY');
      journalless = true;
      database.exec('BEGIN EXCLUSIVE');
      return true;
    } catch (error) {
      if (isBusy(error)) return false;
      throw diskError(error, file);
    }
  }

  async function take(waitMs: number): Promise<boolean> {
    const began = performance.now();
    if (began - released > 1) streakBegan = began;
    if (began - streakBegan > longestStreakMs) {
      await sleep(longestSleepMs + 2);
      streakBegan = performance.now();
    }
    for (let pause = 1; !tryNow(); pause = Math.min(pause * 2, longestSleepMs)) {
      if (performance.now() - began >= waitMs) return false;
      await sleep(pause * (0.5 + Math.random() / 2));
      streakBegan = performance.now();
    }
    return true;
  }

  async function acquire(waitMs: number): Promise<Lock | undefined> {
    const before = turn;
    const { promise, resolve: next } = Promise.withResolvers<void>();
    turn = promise;
    await before;
    let held = false;
    try {
      held = await take(waitMs);
    } finally {
      if (!held) next();
    }
    if (!held) return undefined;
    return {
      async release() {
        if (!held) return;
        held = false;
        released = performance.now();
        try {
          database.exec('ROLLBACK');
        } finally {
          next();
        }
      },
    };
  }

  return { acquire, close: () => database.close() };
}

function openEmpty(file: string): DatabaseSync {
  try {
    return new DatabaseSync(file, { timeout: 0 });
  } catch (error) {
    throw diskError(error, file);
  }
}

export interface LockOptions {
  /** How long to wait while others hold it, ms; 0 tries once. */
  waitMs: number;
  /** Who takes it, for others to read with `holderOf`. */
  holder?: string;
}

/** Locks a file (made if absent) against every process and everybody else in this one. `undefined`: still held. */
export async function acquireLock(file: string, options: LockOptions): Promise<Lock | undefined> {
  const lockFile = openLockFile(file);
  let lock: Lock | undefined;
  try {
    lock = await lockFile.acquire(options.waitMs);
    if (lock !== undefined) await nameHolder(file, options.holder);
  } catch (error) {
    lockFile.close();
    throw diskError(error, file);
  }
  if (lock === undefined) {
    lockFile.close();
    return undefined;
  }
  const held = lock;
  let open = true;
  return {
    async release() {
      if (!open) return;
      open = false;
      try {
        await rm(`${file}.holder`, { force: true });
      } catch (error) {
        throw diskError(error, `${file}.holder`);
      } finally {
        await held.release();
        lockFile.close();
      }
    },
  };
}

/** What the holder of a lock said of itself. Best effort: a dead one's words stay until somebody else takes it. */
export async function holderOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(`${file}.holder`, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw diskError(error, `${file}.holder`);
  }
}

async function nameHolder(file: string, holder: string | undefined): Promise<void> {
  const named = `${file}.holder`;
  if (holder === undefined) return await rm(named, { force: true });
  await writeFile(`${named}.new`, holder, { mode: 0o600 });
  await rename(`${named}.new`, named);
}

/**
 * Makes an empty file with mode 600 unless it exists. For files that SQLite locks: synchronous, and opening only
 * what is new, because closing a descriptor drops the locks that this process has on the file.
 */
export function createPrivateFile(file: string): void {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'wx', 0o600);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    throw diskError(error, file);
  }
  try {
    fchmodSync(descriptor, 0o600);
  } catch (error) {
    throw diskError(error, file);
  } finally {
    closeSync(descriptor);
  }
}
