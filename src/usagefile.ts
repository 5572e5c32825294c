import { randomUUID } from 'node:crypto';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { checkOwner, diskError, isBusy, openingError } from './diskerrors.ts';
import { failedWith, NexusError } from './errors.ts';
import { createPrivateFile, openLockFile } from './processlock.ts';
import { identityOf, whenFree } from './sharedsqlite.ts';
import { allowSums, keepSums, sumsHold } from './usagesums.ts';

/** Another schema, or another way to count, is begun anew. */
const schemaVersion = 3;

/** How long a transaction waits for those of other processes, ms. */
const waitMs = 30_000;

/*
 * calls     One row for each different call of an agent, apart from its id: where it stands, as long as that is one
 *           place; else `transcript` is 0 and all its places are in `copies`.
 * rollup    Sums by session, quarter of an hour (UTC), model and what is known of the cost: 0 recorded, 1 recorded as
 *           zero, 2 none. Rows of no calls are removed.
 * transcripts, sessions  No id is ever given to another: what is remembered of one within a transaction is not of the
 *           next.
 * odd       What is wrong with records, by transcript and kind.
 * pending   Transcripts that the feed or the list has named and that are to be looked at; `looks` counts how often
 *           they were, so that who is done with one knows whether it was named again meanwhile.
 */
const schema = `
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
  CREATE TABLE models (
    id INTEGER PRIMARY KEY, provider TEXT NOT NULL, model TEXT NOT NULL, UNIQUE (provider, model)
  ) STRICT;
  CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, agent INTEGER NOT NULL, name TEXT NOT NULL, started_at INTEGER, ended_at INTEGER,
    key TEXT, trigger TEXT, host TEXT, job TEXT, batch TEXT, source TEXT, UNIQUE (agent, name)
  ) STRICT;
  CREATE TABLE transcripts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, agent TEXT NOT NULL, name TEXT NOT NULL,
    length INTEGER NOT NULL DEFAULT 0, complete INTEGER NOT NULL DEFAULT 0,
    read_to INTEGER NOT NULL DEFAULT 0, lines INTEGER NOT NULL DEFAULT 0, seam BLOB,
    tail INTEGER NOT NULL DEFAULT 0, asked INTEGER NOT NULL DEFAULT 0,
    header_at INTEGER, first_at INTEGER, last_at INTEGER,
    key TEXT, trigger TEXT, host TEXT, batch TEXT, source TEXT, unreadable TEXT, UNIQUE (agent, name)
  ) STRICT;
  CREATE INDEX transcripts_by_session ON transcripts (session);
  CREATE TABLE calls (
    agent INTEGER NOT NULL, at INTEGER NOT NULL, model INTEGER NOT NULL, input INTEGER NOT NULL,
    output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
    transcript INTEGER NOT NULL, entry TEXT NOT NULL, cost INTEGER,
    PRIMARY KEY (agent, at, model, input, output, cache_read, cache_write)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE copies (
    agent INTEGER NOT NULL, at INTEGER NOT NULL, model INTEGER NOT NULL, input INTEGER NOT NULL,
    output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
    transcript INTEGER NOT NULL, entry TEXT NOT NULL, cost INTEGER,
    PRIMARY KEY (agent, at, model, input, output, cache_read, cache_write, transcript, entry)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX copies_by_transcript ON copies (transcript);
  CREATE TABLE rollup (
    session INTEGER NOT NULL, quarter INTEGER NOT NULL, model INTEGER NOT NULL, kind INTEGER NOT NULL,
    calls INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, cost INTEGER NOT NULL,
    PRIMARY KEY (session, quarter, model, kind)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE odd (
    transcript INTEGER NOT NULL, kind TEXT NOT NULL, count INTEGER NOT NULL, line INTEGER NOT NULL,
    PRIMARY KEY (transcript, kind)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE items (
    transcript INTEGER NOT NULL, item TEXT NOT NULL, PRIMARY KEY (item, transcript)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX items_by_transcript ON items (transcript);
  CREATE TABLE pending (
    agent TEXT NOT NULL, name TEXT NOT NULL, looks INTEGER NOT NULL, PRIMARY KEY (agent, name)
  ) STRICT, WITHOUT ROWID;
  PRAGMA user_version = ${schemaVersion};`;

/** Where the index lies. Of each version its own: two at work at once would take it from each other for ever. */
export function indexPath(dataDir: string): string {
  return path.join(dataDir, 'usage', `index-${schemaVersion}.sqlite`);
}

/** The index was deleted, replaced or emptied while it was in use, or found to be damaged. */
export class IndexGone extends Error {
  readonly damaged: boolean;

  constructor(cause?: NexusError) {
    super('The index of usage is another one now.', { cause });
    this.damaged = cause !== undefined;
  }
}

/** The index's SQLite file, opened. What finds it damaged throws `IndexGone`. */
export interface IndexFile {
  db: DatabaseSync;
  /** Of the file, to begin this very one anew. */
  identity: string | undefined;
  /** Changes whenever the index is begun anew: what was kept of its ids is worth nothing then. */
  epoch: () => string;
  /**
   * Runs `work` as one transaction that writes, when other processes let it. What `work` throws undoes it. `gone` when
   * the file was deleted or replaced meanwhile.
   */
  write: <T>(work: () => T) => Promise<T | 'gone'>;
  read: <T>(work: () => T) => Promise<T>;
  /** Several readings of one state of the index. */
  snapshot: <T>(work: () => T) => Promise<T>;
  /** Forgets everything that was read. */
  empty: () => Promise<void>;
  close: () => void;
}

/**
 * Opens the index of one store, making it when it is absent, is of another store or schema, or cannot be read: it holds
 * nothing that cannot be had again. WAL, without a sync at each commit, so that a power cut may take the latest commits
 * and never tears one. Any number of processes of one user may have it open. The file with the identity `discard` is
 * removed first.
 */
export async function openIndexFile(file: string, storeId: string, discard?: string): Promise<IndexFile> {
  const directory = path.dirname(file);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkOwner(directory, statSync(directory).uid);
  } catch (error) {
    throw openingError(error, directory);
  }
  // Two processes must not take away each other's files, or make the tables twice.
  const lockFile = openLockFile(`${file}.lock`);
  try {
    const lock = await lockFile.acquire(waitMs);
    if (lock === undefined) throw busy(file);
    try {
      if (discard !== undefined && identityOf(file) === discard) rmSync(file, { force: true });
      return await open(file, storeId);
    } finally {
      await lock.release();
    }
  } finally {
    lockFile.close();
  }
}

async function open(file: string, storeId: string): Promise<IndexFile> {
  // Beside an index that is gone these are another's.
  if (identityOf(file) === undefined) removeBeside(file);
  try {
    return await connect(file, storeId);
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    rmSync(file, { force: true });
    removeBeside(file);
    return await connect(file, storeId);
  }
}

function removeBeside(file: string): void {
  for (const suffix of ['-wal', '-shm', '-journal']) rmSync(`${file}${suffix}`, { force: true });
}

async function connect(file: string, storeId: string): Promise<IndexFile> {
  let db: DatabaseSync | undefined;
  try {
    createPrivateFile(file);
    const opened = new DatabaseSync(file, { timeout: 0 });
    db = opened;
    const identity = identityOf(file);
    // Also where another process just opens or closes it, or was killed.
    await whenFree(waitMs, () => opened.exec('PRAGMA journal_mode = WAL'));
    opened.exec('PRAGMA synchronous = NORMAL');
    // Pages: 32 MiB. A first reading writes the same pages again and again.
    opened.exec('PRAGMA wal_autocheckpoint = 8000');
    opened.exec('PRAGMA temp_store = MEMORY');
    opened.exec('PRAGMA cache_size = -32000');
    opened.exec('PRAGMA cell_size_check = ON');
    allowSums(opened);
    await tried(file, () => transaction(opened, () => prepare(opened, storeId)));
    return indexOver(opened, file, identity, storeId);
  } catch (error) {
    db?.close();
    throw diskError(error, file);
  }
}

/** Makes the tables, anew where they are of another store or schema. */
function prepare(db: DatabaseSync, storeId: string): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version === schemaVersion && factIn(db, 'store') === storeId) return;
  const tables = db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    .all()
    .map(({ name }) => String(name));
  for (const table of tables) db.exec(`DROP TABLE "${table.replaceAll('"', '""')}"`);
  db.exec(schema);
  keepSums(db);
  const put = db.prepare('INSERT INTO facts (name, value) VALUES (?, ?)');
  put.run('store', storeId);
  put.run('epoch', randomUUID());
}

/** An index that was sound so long ago is looked through again before it answers, ms. */
const soundForMs = 10 * 60_000;

function indexOver(db: DatabaseSync, file: string, identity: string | undefined, storeId: string): IndexFile {
  const selectEpoch = db.prepare("SELECT value FROM facts WHERE name = 'epoch'");
  // Another process may have begun it anew for a store of its own.
  const selectStore = db.prepare("SELECT 1 FROM facts WHERE name = 'store' AND value = ?");

  let soundAt = Number.NEGATIVE_INFINITY;

  /** Before something is answered or counted from what is there. */
  function checkNowAndThen(): void {
    if (performance.now() - soundAt < soundForMs) return;
    if (!sumsHold(db)) throw new NexusError('corrupt', `${file} is damaged.`);
    soundAt = performance.now();
  }

  async function guarded<T>(attempt: () => T): Promise<T> {
    try {
      return await tried(file, attempt);
    } catch (error) {
      throw failedWith(error, 'corrupt') ? new IndexGone(error) : error;
    }
  }

  return {
    db,
    identity,
    epoch: () => String(selectEpoch.get()?.['value']),
    async write(work) {
      return await guarded(() => {
        if (identityOf(file) !== identity) return 'gone';
        checkNowAndThen();
        return transaction(db, () => (selectStore.get(storeId) === undefined ? 'gone' : work()));
      });
    },
    read: (work) => guarded(work),
    snapshot: (work) =>
      guarded(() => {
        checkNowAndThen();
        return transaction(db, work, 'BEGIN');
      }),
    async empty() {
      const tables = 'agents models sessions transcripts calls copies rollup odd items pending'.split(' ');
      await guarded(() =>
        transaction(db, () => {
          for (const table of tables) db.exec(`DELETE FROM ${table}`);
          db.exec("DELETE FROM facts WHERE name NOT IN ('store', 'epoch')");
          db.prepare("UPDATE facts SET value = ? WHERE name = 'epoch'").run(randomUUID());
        }),
      );
    },
    close: () => db.close(),
  };
}

/** Reads an index that is there, whatever its store, and changes nothing; `undefined` where none can be read. */
export function peekAt<T>(file: string, work: (db: DatabaseSync) => T): T | undefined {
  if (identityOf(file) === undefined) return undefined;
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(file, { readOnly: true });
    return work(db);
  } catch (error) {
    // Whoever asks for usage is told, and mends it.
    if (diskError(error, file) instanceof NexusError) return undefined;
    throw error;
  } finally {
    db?.close();
  }
}

/** A fact kept in the index. */
export function factIn(db: DatabaseSync, name: string): string | undefined {
  const value = db.prepare('SELECT value FROM facts WHERE name = ?').get(name)?.['value'];
  return typeof value === 'string' ? value : undefined;
}

export function setFact(db: DatabaseSync, name: string, value: string): void {
  db.prepare('INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)').run(name, value);
}

function transaction<T>(db: DatabaseSync, work: () => T, begin = 'BEGIN IMMEDIATE'): T {
  db.exec(begin);
  try {
    const result = work();
    db.exec('COMMIT');
    return result;
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

/** Tries until no other connection is in the way; errors translated. */
async function tried<T>(file: string, attempt: () => T): Promise<T> {
  try {
    return await whenFree(waitMs, attempt);
  } catch (error) {
    throw isBusy(error) ? busy(file) : diskError(error, file);
  }
}

function busy(file: string): NexusError {
  return new NexusError('busy', `Another process has been writing to ${file} for too long.`, {
    hint: 'Try again, or look for a nexus process that is stopped.',
    retryAfter: 5,
  });
}
