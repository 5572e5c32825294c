import { accessSync, constants as files, lstatSync, statSync } from 'node:fs';
import {
  constants,
  DatabaseSync,
  type SQLInputValue,
  type SQLOutputValue,
  type StatementSync,
} from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { messageOf, NexusError } from '../errors.ts';
import { codeOf, ownerOf, readError } from './unreadable.ts';

/** An agent's database, opened for reading and nothing else. */
export interface AgentDatabase {
  db: DatabaseSync;
  /**
   * Runs the queries on one snapshot, which is released before it returns, and answers only if that snapshot was a
   * true state of the database: else `changed`. `busy`, `corrupt`, `forbidden` by what SQLite says.
   */
  snapshot<T>(queries: () => T): T;
  /** The columns of a table; none when there is no such table. */
  columns(table: string): Set<string>;
  close(): void;
}

/**
 * Rows as numbers, text and blobs. An integer that JavaScript cannot hold is its nearest number: node:sqlite would throw,
 * and one such value would hide all that is beside it.
 */
export function rowsOf(statement: StatementSync, ...keys: SQLInputValue[]): Record<string, SqlValue>[] {
  statement.setReadBigInts(true);
  return statement.all(...keys).map(plainRow);
}

export type SqlValue = null | number | string | Uint8Array;

export function plainRow(row: Record<string, SQLOutputValue>): Record<string, SqlValue> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => [name, typeof value === 'bigint' ? Number(value) : value]),
  );
}

/** All that may be read. Credentials lie in the same file, so anything else is refused by SQLite itself. */
const readable = new Set([
  'transcript_events',
  'transcript_rewrite_watermarks',
  'session_nodes',
  'session_windows',
  'session_entries',
  'sessions',
  'session_transcript_archives',
  'session_transcript_cold_archives',
  'sqlite_master',
]);

/**
 * Opens the database at `path`, or answers `undefined` when there is none.
 *
 * Nothing is ever written, and no `-wal` or `-shm` appears where there was none, with one exception: what a killed
 * gateway left in a `-wal` without its `-shm` cannot be read otherwise. Where no `-wal` has anything in it the file
 * itself is read (`immutable`), and every snapshot is checked afterwards not to have had a writer.
 */
export function openAgentDatabase(path: string): AgentDatabase | undefined {
  const before = identity(path);
  if (before === undefined) return undefined;
  demandReadable(path);
  const wal = sizeOf(`${path}-wal`);
  const shm = sizeOf(`${path}-shm`);
  if (!wal && shm === undefined) return reader(path, before, true);
  if (wal) demandReadable(`${path}-wal`);
  try {
    return reader(path, before, false);
  } catch (error) {
    // Neither may the -shm be made nor is it readable: needless as long as there is nothing in the -wal.
    if (!isDenied(error)) throw error;
    if (!wal) return reader(path, before, true);
    const me = process.geteuid?.() ?? -1;
    throw new NexusError(
      'forbidden',
      `${path} has changes in its -wal that uid ${me} cannot read without write access to its directory (${ownerOf(path)}).`,
      {
        hint: `Run the job as its owner or as root, or start the gateway; look with: ls -la '${path}'*`,
        cause: error,
      },
    );
  }
}

function reader(path: string, before: string, immutable: boolean): AgentDatabase {
  const url = pathToFileURL(path);
  url.search = immutable ? '?mode=ro&immutable=1' : '?mode=ro';
  const db = translated(path, () => new DatabaseSync(url, { readOnly: true, timeout: 2000 }));
  const changed = (how: string) =>
    new NexusError('changed', `${path} ${how} while it was read.`, { hint: 'The next run takes it up.' });
  const opened = immutable ? contentMark(path) : undefined;

  const check = () => {
    if (identity(path) !== before) throw changed('was replaced');
    if (!immutable) return;
    if (sizeOf(`${path}-wal`) || contentMark(path) !== opened) throw changed('was opened by its gateway');
  };
  const database: AgentDatabase = {
    db,
    snapshot(queries) {
      return translated(path, () => {
        try {
          db.exec('BEGIN');
          const answer = queries();
          db.exec('COMMIT');
          check();
          return answer;
        } catch (error) {
          if (db.isTransaction) db.exec('ROLLBACK');
          // A torn page of a file that has a writer after all may look like anything.
          check();
          throw error;
        }
      });
    },
    columns(table) {
      return translated(path, () => {
        const rows = db.prepare(`PRAGMA table_info(${table})`).all();
        return new Set(rows.map((row) => String(row['name'])));
      });
    },
    close: () => db.close(),
  };
  try {
    db.setAuthorizer((action, name) =>
      action === constants.SQLITE_READ && name !== null && name !== '' && !readable.has(name)
        ? constants.SQLITE_DENY
        : constants.SQLITE_OK,
    );
    // The first read is what opens the files; a database that is none or not to be read says so here.
    translated(path, () => db.prepare('SELECT count(*) FROM sqlite_master').get());
    check();
    return database;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** SQLite's errors in our words. */
function translated<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const code = sqliteCode(error);
    if (code === undefined || code === 1) throw error;
    const owner = ownerOf(path);
    const facts = { cause: error };
    if (code === 5 || code === 6) throw new NexusError('busy', `${path} is locked; try again later.`, facts);
    if (code === 8 || code === 14 || code === 3 || code === 23)
      throw new NexusError(
        'forbidden',
        `${path} cannot be opened by uid ${process.geteuid?.() ?? -1} (${owner}).`,
        facts,
      );
    if (code === 11 || code === 26)
      throw new NexusError('corrupt', `${path} is damaged or no SQLite database (${owner}).`, {
        hint: 'Check it with: openclaw doctor',
        cause: error,
      });
    throw new NexusError('unavailable', `${path} cannot be read: ${messageOf(error)}.`, facts);
  }
}

function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number')
    return undefined;
  return error.errcode & 0xff;
}

function isDenied(error: unknown): boolean {
  return error instanceof NexusError && error.code === 'forbidden';
}

/** Which file it is; `undefined` when there is none. Links and what is no file are refused. */
function identity(path: string): string | undefined {
  try {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return undefined;
    if (!stat.isFile()) throw new NexusError('forbidden', `${path} is refused: it is not a regular file.`);
    return `${stat.dev}:${stat.ino}`;
  } catch (error) {
    if (codeOf(error) === 'ENOTDIR') return undefined;
    throw readError(path, error);
  }
}

/** Changes with every write to the file. */
function contentMark(path: string): string {
  try {
    const { size, mtimeNs, ctimeNs } = lstatSync(path, { bigint: true });
    return `${size}:${mtimeNs}:${ctimeNs}`;
  } catch (error) {
    throw readError(path, error);
  }
}

function sizeOf(path: string): number | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })?.size;
  } catch (error) {
    throw readError(path, error);
  }
}

function demandReadable(path: string): void {
  try {
    accessSync(path, files.R_OK);
  } catch (error) {
    throw readError(path, error);
  }
}
