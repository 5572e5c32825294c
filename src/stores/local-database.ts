import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { diskError } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { createPrivateFile } from '../processlock.ts';
import { identityOf, whenFree } from '../sharedsqlite.ts';
import { checkWal } from '../walcheck.ts';

/** The SQLite file of a local store: WAL, a sync at every commit, many processes at once. */
export interface Database {
  /** For preparing statements; run them within `read` or `commit` only. */
  sqlite: DatabaseSync;
  /** Every row and length has a sum, so that one without it has rotted: of no database that an older release began. */
  summed: boolean;
  /**
   * Begins a look through all of it, which gives what lacks a sum one. What it resolves with is to be called when the
   * look has seen everything. The second such look refuses older releases that have the file open still, and after it
   * the next opening has it `summed`.
   */
  beginLook(): Promise<() => Promise<void>>;
  /** The store's id. Throws `unavailable` when the file was replaced since it was opened. */
  id(): string;
  /** Runs a query, again when other processes are in the way. */
  read<T>(query: () => T): Promise<T>;
  /**
   * Runs a mutation; resolves when it is on stable storage. Mutations of one event-loop turn share one transaction
   * and its sync. One that throws is rejected alone, and what its statements did before stays: a mutation is one
   * statement, or several of which the first may stand without the others. When the transaction fails, all of them
   * are rejected.
   */
  commit(mutation: () => void): Promise<void>;
  /** After everything handed to `commit` is settled. */
  close(): Promise<void>;
}

interface Waiting {
  mutation: () => void;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** The longest that a mutation waits for others to share a transaction with. */
const gatherMs = 4;

const schemaVersion = 2;
// Rows have a rowid: most have a kilobyte or more, and in a tree by key each of those would take two pages to itself.
const schema = `
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE blobs (name TEXT PRIMARY KEY, length INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE rows (
    tbl TEXT NOT NULL, partition TEXT NOT NULL, id TEXT NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (tbl, partition, id)
  );`;

/** A sum may be the one before of another length; the CRC and the sum are not. */
const lengthAlone = 'NEW.sum IS OLD.sum AND NEW.crc IS OLD.crc';

/**
 * What version 1 had not. What is there keeps no sum until it is written again or looked through: to write all of a
 * large store anew would keep everybody out for that long, and need as much space again. An older release that has the
 * file open goes on until `sumsRequired`: its rows have no sum, and a length that it changes loses the one it had.
 */
const sums = `
  ALTER TABLE blobs ADD COLUMN crc INTEGER;
  ALTER TABLE blobs ADD COLUMN sum INTEGER;
  ALTER TABLE rows ADD COLUMN sum INTEGER;
  CREATE TRIGGER length_without_sum AFTER UPDATE OF length ON blobs WHEN ${lengthAlone} BEGIN
    UPDATE blobs SET crc = NULL, sum = NULL WHERE name = NEW.name;
  END;
  PRAGMA user_version = ${schemaVersion};`;

/**
 * What an older release writes from then on would be taken for rot when all have their sums: it fails before it is
 * acknowledged.
 */
const refusal =
  "BEGIN SELECT RAISE(ABORT, 'a newer nexus keeps sums of this store: start this one again'); END";
const sumsRequired = `
  CREATE TRIGGER IF NOT EXISTS row_with_sum BEFORE INSERT ON rows WHEN NEW.sum IS NULL ${refusal};
  CREATE TRIGGER IF NOT EXISTS blob_with_sum BEFORE INSERT ON blobs WHEN NEW.sum IS NULL ${refusal};
  CREATE TRIGGER IF NOT EXISTS length_with_sum BEFORE UPDATE OF length ON blobs WHEN ${lengthAlone} ${refusal};
  DROP TRIGGER IF EXISTS length_without_sum;`;

/** `once`: of a database that an older release began all was seen, and given its sums, one time. */
const seenOnceFact = "INSERT OR IGNORE INTO facts (name, value) VALUES ('sums', 'once')";
const summedFact = "INSERT OR REPLACE INTO facts (name, value) VALUES ('sums', 'all')";

/** Where a local store has its database. */
export const databaseIn = (root: string): string => join(root, 'store.sqlite');

/** Opens it, and makes it when it is absent. `waitMs`: how long to wait for other processes before `unavailable`. */
export async function openDatabase(file: string, waitMs: number): Promise<Database> {
  createPrivateFile(file);
  checkWal(file);
  let sqlite: DatabaseSync;
  try {
    // SQLite's own wait would block the event loop; whenFree waits instead.
    sqlite = new DatabaseSync(file, { timeout: 0 });
  } catch (error) {
    throw diskError(error, file);
  }
  try {
    const made = await whenFree(waitMs, () => prepare(sqlite, file));
    return serveDatabase(sqlite, file, waitMs, made);
  } catch (error) {
    sqlite.close();
    throw diskError(error, file);
  }
}

/**
 * Opens one that is there to read it, beside a connection that has looked whether it is sound. `unavailable` where it is
 * not the one with this `id`. Nothing may be handed to `commit`.
 */
export async function openThere(file: string, id: string, waitMs: number): Promise<Database> {
  if (identityOf(file) === undefined) throw replaced(file);
  let sqlite: DatabaseSync;
  try {
    sqlite = new DatabaseSync(file, { readOnly: true, timeout: 0 });
  } catch (error) {
    throw diskError(error, file);
  }
  try {
    const made = await whenFree(waitMs, () => madeIn(sqlite, file));
    if (made.id !== id) throw replaced(file);
    return serveDatabase(sqlite, file, waitMs, made);
  } catch (error) {
    sqlite.close();
    throw diskError(error, file);
  }
}

function madeIn(sqlite: DatabaseSync, file: string): Made {
  checkVersion(sqlite, file);
  sqlite.exec('PRAGMA cell_size_check = ON');
  const identity = identityOf(file);
  const facts = factsIn(sqlite);
  const id = facts.get('id');
  if (identity === undefined || facts.get('identity') !== identity || id === undefined) throw replaced(file);
  return { id, identity, summed: facts.get('sums') === 'all' };
}

function factsIn(sqlite: DatabaseSync): Map<string, string> {
  const rows = sqlite.prepare('SELECT name, value FROM facts').all();
  return new Map(rows.map((row) => [String(row['name']), String(row['value'])]));
}

interface Made {
  id: string;
  identity: string;
  summed: boolean;
}

function prepare(sqlite: DatabaseSync, file: string): Made {
  checkVersion(sqlite, file);
  const mode = sqlite.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode'];
  if (mode !== 'wal')
    throw new NexusError('config', `The file system of ${file} cannot share memory between processes.`, {
      hint: 'Choose a data directory on a local disk.',
    });
  sqlite.exec('PRAGMA synchronous = FULL');
  // Pages: 16 MiB. At SQLite's 4 MiB a store under load stands still for more syncs, and writes more pages twice.
  sqlite.exec('PRAGMA wal_autocheckpoint = 4000');
  // What lies on a page beyond its place is an error, and no row less.
  sqlite.exec('PRAGMA cell_size_check = ON');
  const identity = identityOf(file);
  if (identity === undefined) throw replaced(file);
  sqlite.exec('BEGIN IMMEDIATE');
  try {
    const version = checkVersion(sqlite, file);
    if (version < 1) sqlite.exec(schema);
    if (version < 2) sqlite.exec(sums);
    if (version < 1) sqlite.exec(summedFact);
    const facts = factsIn(sqlite);
    const known = facts.get('identity') === identity ? facts.get('id') : undefined;
    const id = known ?? randomUUID();
    if (id !== known) {
      const put = sqlite.prepare('INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)');
      put.run('id', id);
      put.run('identity', identity);
    }
    sqlite.exec('COMMIT');
    return { id, identity, summed: facts.get('sums') === 'all' || version < 1 };
  } catch (error) {
    if (sqlite.isTransaction) sqlite.exec('ROLLBACK');
    throw error;
  }
}

function checkVersion(sqlite: DatabaseSync, file: string): number {
  const version = Number(sqlite.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version > schemaVersion)
    throw new NexusError(
      'config',
      `${file} has version ${version}, and this nexus knows versions up to ${schemaVersion}.`,
      { hint: 'Use the newer nexus that made it.' },
    );
  return version;
}

function replaced(file: string): NexusError {
  return new NexusError('unavailable', `${file} was replaced or deleted while it was open.`, {
    hint: 'Start nexus again.',
  });
}

function serveDatabase(sqlite: DatabaseSync, file: string, waitMs: number, made: Made): Database {
  let waiting: Waiting[] = [];
  let flushing: Promise<void> | undefined;
  let closed = false;
  const selectSums = sqlite.prepare("SELECT value FROM facts WHERE name = 'sums'");

  function checkUsable(): void {
    if (closed) throw new NexusError('unavailable', 'The store is closed.');
    // Rows committed to a file that is no longer there would be acknowledged and lost.
    if (identityOf(file) !== made.identity) throw replaced(file);
  }

  /** One transaction; throws only before anything was taken from `waiting`, or when not even undoing works. */
  function commitWaiting(): void {
    checkUsable();
    if (sqlite.isTransaction) sqlite.exec('ROLLBACK');
    sqlite.exec('BEGIN IMMEDIATE');
    const batch = waiting;
    waiting = [];
    const refused = new Map<Waiting, unknown>();
    try {
      for (const one of batch) {
        try {
          one.mutation();
          // What came after would be committed by itself.
          if (!sqlite.isTransaction) throw new NexusError('unavailable', `${file} gave up a transaction.`);
        } catch (error) {
          // A full disk or a failed read undoes the whole transaction.
          if (!sqlite.isTransaction) throw error;
          refused.set(one, error);
        }
      }
      sqlite.exec('COMMIT');
    } catch (error) {
      for (const one of batch) one.reject(diskError(error, file));
      if (sqlite.isTransaction) sqlite.exec('ROLLBACK');
      return;
    }
    for (const one of batch) {
      if (refused.has(one)) one.reject(diskError(refused.get(one), file));
      else one.resolve();
    }
  }

  /** A turn of the event loop, and further ones while each brings more: they share the sync, which costs most. */
  async function gather(): Promise<void> {
    const began = performance.now();
    let before: number;
    do {
      before = waiting.length;
      await new Promise(setImmediate);
    } while (waiting.length > before && performance.now() - began < gatherMs);
  }

  async function flush(): Promise<void> {
    do {
      await gather();
      try {
        await whenFree(waitMs, commitWaiting);
      } catch (error) {
        const failed = waiting;
        waiting = [];
        for (const one of failed) one.reject(diskError(error, file));
      }
    } while (waiting.length > 0);
    // Here and not in a `finally` of the caller: what is handed in before that ran would never be committed.
    flushing = undefined;
  }

  return {
    sqlite,
    summed: made.summed,
    async beginLook() {
      if (made.summed) return () => Promise.resolve();
      const seenOnce = await this.read(() => selectSums.get() !== undefined);
      if (seenOnce) await this.commit(() => sqlite.exec(sumsRequired));
      return () => this.commit(() => sqlite.exec(seenOnce ? summedFact : seenOnceFact));
    },
    id() {
      checkUsable();
      return made.id;
    },
    async read(query) {
      try {
        return await whenFree(waitMs, () => {
          if (closed) throw new NexusError('unavailable', 'The store is closed.');
          return query();
        });
      } catch (error) {
        throw diskError(error, file);
      }
    },
    async commit(mutation) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      waiting.push({ mutation, resolve, reject });
      flushing ??= flush();
      await promise;
    },
    async close() {
      await flushing;
      if (closed) return;
      closed = true;
      sqlite.close();
    },
  };
}
