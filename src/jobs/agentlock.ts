import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Config } from '../config.ts';
import { diskError, isAbsent } from '../diskerrors.ts';
import { acquireLock, holderOf } from '../processlock.ts';

/** Who holds an agent's lock. */
export interface Holder {
  job: string;
  pid: number;
  host: string;
  since: Date;
}

/** As people read it, in the sentence of who finds the lock held, and as `readHolder` does. */
export function holderText({ job, pid, host, since }: Holder): string {
  return `\`nexus ${job}\` (pid ${pid} on ${host}, since ${since.toISOString()})`;
}

/** `undefined` for what another program, or another version, wrote. */
export function readHolder(text: string): Holder | undefined {
  const [, job, pid, host, began = ''] =
    /^`nexus (\S+)` \(pid (\d+) on (.*), since (\S+)\)$/.exec(text) ?? [];
  const since = new Date(began);
  if (job === undefined || host === undefined || Number.isNaN(since.getTime())) return undefined;
  return { job, pid: Number(pid), host, since };
}

/** Who holds a lock of this host's agents, or held one when they died. No lock is tried, which would be in the way. */
export async function holdersIn({ dataDir }: Config): Promise<Holder[]> {
  const directory = path.join(dataDir, 'host', 'locks');
  const locks = (await namesIn(directory)).filter((name) => name.endsWith('.lock'));
  const said = await Promise.all(locks.map((name) => holderOf(path.join(directory, name))));
  return said.flatMap((text) => readHolder(text ?? '') ?? []);
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw diskError(error, directory);
  }
}

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
  const holder = holderText({ job, pid: process.pid, host: config.host, since: new Date() });
  await makeDirectory(path.dirname(file));
  const lock = await acquireLock(file, { waitMs: 0, holder });
  if (lock === undefined) return `Held by ${(await holderOf(file)) ?? 'another job'}.`;
  try {
    await work();
  } finally {
    await lock.release();
  }
  return undefined;
}
