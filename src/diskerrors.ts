import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { NexusError } from './errors.ts';

const remedies: Record<string, string> = {
  ENOSPC: 'Free space on its file system.',
  EDQUOT: 'Free space within the quota, or raise it.',
  EACCES: 'Run nexus as the user who owns it.',
  EPERM: 'Run nexus as the user who owns it.',
  EROFS: 'Mount its file system writable.',
  EIO: 'Look at the disk, for example with dmesg.',
  EMFILE: 'Raise the limit on open files.',
  ENFILE: 'Raise the limit on open files.',
};

// Primary result codes of SQLite (sqlite.org/rescode.html), as the errno that says the same.
const sqliteCodes: Record<number, string> = {
  3: 'EACCES', // PERM
  7: 'ENOMEM', // NOMEM
  8: 'EROFS', // READONLY
  10: 'EIO', // IOERR
  13: 'ENOSPC', // FULL
  14: 'EACCES', // CANTOPEN
  23: 'EACCES', // AUTH
};

/** The primary result code of an error from SQLite, or `undefined` when it is none. */
function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number')
    return undefined;
  return error.errcode & 0xff;
}

/** SQLITE_BUSY or SQLITE_LOCKED: another connection is in the way, and a moment later may not be. */
export function isBusy(error: unknown): boolean {
  const code = sqliteCode(error);
  return code === 5 || code === 6;
}

/** The errno of a failed system call (`ENOENT`, `EEXIST`, …), or `undefined` when it was none. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined;
  return 'errno' in error ? error.code : undefined;
}

/** Nothing is there, which no other failure says. */
export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** Refuses a directory of another user, who could not use what this one would write there. */
export function checkOwner(directory: string, uid: number): void {
  const own = process.geteuid?.();
  if (own === undefined || uid === own) return;
  throw new NexusError(
    'forbidden',
    `${directory} belongs to the user with uid ${uid}, and nexus runs with uid ${own}.`,
    { hint: 'Run nexus as that user, or set `endpoint` to the nexus serve that works on it.' },
  );
}

/** As `diskError`, for a directory's first use: one that is closed to this user is `forbidden`, no outage. */
export function openingError(error: unknown, directory: string): unknown {
  const errno = errnoOf(error);
  if (!(error instanceof Error) || (errno !== 'EACCES' && errno !== 'EPERM'))
    return diskError(error, directory);
  return new NexusError(
    'forbidden',
    `${directory} is closed to uid ${process.geteuid?.() ?? 'unknown'} (${error.message}).`,
    { hint: 'Run nexus as the user who owns it, or set another data directory.', cause: error },
  );
}

/** SQLite's shared memory on a full disk is an I/O error to it, and no open file a missing right. */
function isFull(sqlite: number, path: string): boolean {
  if (sqlite === 13) return true;
  return (sqlite === 10 || sqlite === 14) && hasNoSpace(path);
}

/** The file system of this path, or of where it would be, takes no page more. Of what cannot be asked it is not said. */
function hasNoSpace(path: string): boolean {
  for (const at of [path, dirname(path)])
    try {
      const { bavail, bsize } = statfsSync(at);
      return bavail * bsize < 65_536;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
    }
  return false;
}

/** Our statements fit our tables: where they do not, what describes these has rotted. */
function isOtherSchema(error: unknown, sqlite: number | undefined): boolean {
  if (sqlite !== 1 || !(error instanceof Error)) return false;
  return /^no such (?:table|column|index)|no column named|has \d+ columns/.test(error.message);
}

/**
 * What the disk or SQLite said, as a NexusError that names `path`: `corrupt` when the bytes are not a database,
 * `unavailable` for everything a later try or a person may cure. A NexusError, or a bug, comes back unchanged.
 */
export function diskError(error: unknown, path: string): unknown {
  if (error instanceof NexusError) return error;
  const sqlite = sqliteCode(error);
  if (sqlite === 11 || sqlite === 26 || isOtherSchema(error, sqlite))
    return new NexusError('corrupt', `${path} is damaged or is not a database.`, {
      hint: 'Restore it from a backup.',
      cause: error,
    });
  if (isBusy(error))
    return new NexusError('unavailable', `Another process keeps ${path} busy.`, {
      hint: 'Try again, or look for a nexus process that is stopped.',
      retryAfter: 5,
      cause: error,
    });
  const code = sqlite === undefined ? errnoOf(error) : isFull(sqlite, path) ? 'ENOSPC' : sqliteCodes[sqlite];
  if (code === undefined) return error;
  const hint = remedies[code];
  const detail = error instanceof Error ? error.message : String(error);
  const why = code === 'ENOSPC' && sqlite !== undefined ? `no space is left (${detail})` : detail;
  return new NexusError('unavailable', `Cannot use ${path}: ${why}.`, {
    ...(hint === undefined ? {} : { hint }),
    retryAfter: 30,
    cause: error,
  });
}
