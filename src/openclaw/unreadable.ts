import { lstatSync, type Stats } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf, NexusError } from '../errors.ts';
import type { Unreadable } from './source.ts';

/** The error's code as Node gives it, such as `ENOENT`; `undefined` for what is no system error. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** `owned by uid 1000, mode 600`, of the path or of the nearest directory above it that can be looked at. */
export function ownerOf(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    const found = look(at);
    if (found !== undefined) {
      const owner = `owned by uid ${found.uid}, group ${found.gid}, mode ${(found.mode & 0o7777).toString(8)}`;
      return at === path ? owner : `below ${at}, which is ${owner}`;
    }
    if (dirname(at) === at) return 'owner unknown';
  }
}

/** One sentence and one command about a path that cannot be read. */
export function unreadable(agent: string | undefined, path: string, error: unknown): Unreadable {
  if (error instanceof NexusError) return { agent, path, reason: error.message, command: command(path) };
  return { agent, path, reason: `${path} ${why(error)} (${ownerOf(path)}).`, command: command(path) };
}

/** The NexusError for a file that could not be opened or read. */
export function readError(path: string, error: unknown): NexusError {
  if (error instanceof NexusError) return error;
  const code = codeOf(error);
  if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP')
    return new NexusError('changed', `${path} vanished while it was read.`, { cause: error });
  if (code === 'EACCES' || code === 'EPERM')
    return new NexusError('forbidden', `${path} cannot be read by uid ${uid()} (${ownerOf(path)}).`, {
      hint: `Run the job as its owner or as root; look with: ${command(path)}`,
      cause: error,
    });
  return new NexusError('unavailable', `${path} ${why(error)}.`, { cause: error });
}

const me = process.geteuid?.() ?? 0;

/** Whether this process may read a file of this owner and mode, access lists aside. */
export function mayRead(stat: Stats): boolean {
  if (me === 0) return true;
  if (stat.uid === me) return (stat.mode & 0o400) !== 0;
  if ((process.getgroups?.() ?? []).includes(stat.gid)) return (stat.mode & 0o040) !== 0;
  return (stat.mode & 0o004) !== 0;
}

function look(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    // A directory above is closed to us: its own owner is what matters then.
    if (codeOf(error) !== undefined) return undefined;
    throw error;
  }
}

function why(error: unknown): string {
  const code = codeOf(error);
  if (code === 'EACCES' || code === 'EPERM') return `cannot be read by uid ${uid()}`;
  return `cannot be read: ${messageOf(error)}`;
}

function uid(): number {
  return process.geteuid?.() ?? -1;
}

function command(path: string): string {
  return `ls -ld '${path.replaceAll("'", `'\\''`)}'`;
}
