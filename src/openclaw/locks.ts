import { existsSync, readFileSync, statSync } from 'node:fs';
import { isObject } from './configfile.ts';
import { readRegular } from './entries.ts';
import { codeOf } from './unreadable.ts';

/** OpenClaw's own limit: a lock of this age is a leftover. */
const staleMs = 30 * 60_000;

/**
 * Whether somebody holds the lock file, as far as can be told. A fresh one counts as held unless its process is
 * known to be gone, which can only be known where OpenClaw's pids are this machine's (`samePids`).
 */
export function isHeld(path: string, now: number, samePids: boolean): boolean {
  let text: string | undefined;
  let createdAt: number;
  try {
    text = readRegular(path);
    if (text === undefined) return false;
    createdAt = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now;
  } catch (error) {
    // A lock that cannot be read is still a lock; its age cannot be told.
    if (codeOf(error) !== undefined) return true;
    throw error;
  }
  const lock = parse(text);
  const written = typeof lock['createdAt'] === 'string' ? Date.parse(lock['createdAt']) : lock['createdAt'];
  if (typeof written === 'number' && Number.isFinite(written)) createdAt = written;
  if (now - createdAt > staleMs) return false;
  const pid = lock['pid'];
  if (!samePids || typeof pid !== 'number' || !Number.isInteger(pid) || pid <= 0) return true;
  return isAlive(pid, lock['starttime']);
}

/** True in a container, whose pids are its own. */
export function inContainer(): boolean {
  return existsSync('/.dockerenv') || existsSync('/run/.containerenv');
}

function parse(text: string): Record<string, unknown> {
  try {
    const lock: unknown = JSON.parse(text);
    return isObject(lock) ? lock : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function isAlive(pid: number, startTime: unknown): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return false;
    if (codeOf(error) !== 'EPERM') throw error;
  }
  if (typeof startTime !== 'number') return true;
  // Another process may have the number by now; field 22 is its start, in clock ticks since boot.
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]) === startTime;
  } catch (error) {
    if (codeOf(error) !== undefined) return true;
    throw error;
  }
}
