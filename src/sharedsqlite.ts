import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isBusy } from './diskerrors.ts';

// What SQLite files need that several processes have open, by connections that wait for nothing themselves.

/** Runs `attempt` until no other connection is in the way, without blocking the event loop; after `waitMs` that is thrown. */
export async function whenFree<T>(waitMs: number, attempt: () => T): Promise<T> {
  const began = performance.now();
  for (let pause = 1; ; pause = Math.min(pause * 2, 4)) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error) || performance.now() - began >= waitMs) throw error;
    }
    await sleep(pause * (0.5 + Math.random() / 2));
  }
}

/**
 * What tells a file from its copies: inode and time of birth, which no copy keeps. The device only stands in where
 * the file system tells no time of birth, because its number may be another after each mount. `undefined` for none.
 */
export function identityOf(file: string): string | undefined {
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  return stat.birthtimeNs > 0n ? `${stat.ino}@${stat.birthtimeNs}` : `${stat.dev}:${stat.ino}`;
}
