import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject } from './configfile.ts';
import type { Unreadable } from './source.ts';
import { codeOf, unreadable } from './unreadable.ts';

/** Who is active, by the `sessions.json` files of one agent. */
export interface Entries {
  /** False: at least one of them could not be read, so that nothing is known to be complete. */
  known: boolean;
  /** Session ids that are some entry's current one. */
  active: Set<string>;
  /** Base names of the files that entries point at. Their directories may be those of a container. */
  files: Set<string>;
  /** The session key of each id, past ids included. */
  keys: Map<string, string>;
  /** Directories of those files, as OpenClaw sees them. */
  directories: Set<string>;
}

/**
 * Reads the indexes of an agent; one that does not exist has no entries. A half-written one is read again shortly
 * after, and then means that nothing is known.
 */
export async function readEntries(
  agent: string,
  paths: readonly string[],
): Promise<Entries & { unreadable: Unreadable[] }> {
  const entries = { known: true, active: new Set<string>(), files: new Set<string>() };
  const found = {
    ...entries,
    keys: new Map<string, string>(),
    directories: new Set<string>(),
    unreadable: [] as Unreadable[],
  };
  const past: [string, string][] = [];
  for (const path of paths) {
    try {
      for (const [key, entry] of Object.entries(await readIndex(path))) {
        if (!isObject(entry)) continue;
        const id = entry['sessionId'];
        if (typeof id === 'string') {
          found.active.add(id);
          found.keys.set(id, key);
        }
        const file = entry['sessionFile'];
        if (typeof file === 'string' && file !== '' && !file.startsWith('sqlite:')) {
          found.files.add(basename(file));
          found.directories.add(dirname(file));
        }
        const family: unknown = entry['usageFamilySessionIds'];
        if (Array.isArray(family)) for (const id of family) if (typeof id === 'string') past.push([id, key]);
      }
    } catch (error) {
      found.known = false;
      found.unreadable.push(unreadable(agent, path, error));
    }
  }
  for (const [id, key] of past) if (!found.keys.has(id)) found.keys.set(id, key);
  return found;
}

async function readIndex(path: string): Promise<Record<string, unknown>> {
  for (let attempt = 1; ; attempt++) {
    const text = readRegular(path);
    if (text === undefined) return {};
    try {
      const parsed: unknown = JSON.parse(text);
      if (!isObject(parsed)) throw new Error('it is not a JSON object');
      return parsed;
    } catch (error) {
      if (attempt === 3) throw error;
      await sleep(30);
    }
  }
}

/** The text of a regular file that is no link; `undefined` when it does not exist. Never waits on a FIFO. */
export function readRegular(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
  try {
    if (!fstatSync(fd).isFile()) throw new Error('it is not a regular file');
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
