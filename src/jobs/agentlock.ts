import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Config } from '../config.ts';
import { acquireLock, holderOf } from '../processlock.ts';

/**
 * Does the work under the lock of that name: one job at a time works on an agent, and the kernel frees the lock of one
 * that died. Where somebody else holds it nothing is done, and it resolves with a sentence that says who.
 */
export async function underLock(
  config: Config,
  name: string,
  job: string,
  work: () => Promise<void>,
): Promise<string | undefined> {
  const file = path.join(config.dataDir, 'host', 'locks', `${name}.lock`);
  const since = new Date().toISOString();
  const holder = `\`nexus ${job}\` (pid ${process.pid} on ${config.host}, since ${since})`;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const lock = await acquireLock(file, { waitMs: 0, holder });
  if (lock === undefined) return `Held by ${(await holderOf(file)) ?? 'another job'}.`;
  try {
    await work();
  } finally {
    await lock.release();
  }
  return undefined;
}
