import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import { checkOwner, diskError, openingError } from '../diskerrors.ts';
import { failedWith, NexusError } from '../errors.ts';
import { syncAbove, syncEntries } from '../lastingnames.ts';
import { createPrivateFile } from '../processlock.ts';
import { checkWal } from '../walcheck.ts';

const version = 3;
const schema = `
  CREATE TABLE deliveries (
    id TEXT PRIMARY KEY, agent TEXT NOT NULL, source TEXT NOT NULL, received_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('delivering', 'delivered')),
    inbox TEXT NOT NULL, incoming TEXT, temp TEXT NOT NULL, name TEXT NOT NULL,
    delivered_at INTEGER, acknowledged_at INTEGER, batch TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX unacknowledged ON deliveries (agent, state, id) WHERE acknowledged_at IS NULL;
  CREATE INDEX deliveries_by_batch ON deliveries (batch, id);
  CREATE INDEX deliveries_by_end ON deliveries (acknowledged_at) WHERE acknowledged_at IS NOT NULL;
  CREATE TABLE batches (
    id TEXT PRIMARY KEY, agent TEXT NOT NULL, created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'untold', 'admitted', 'done', 'failed', 'none')),
    message TEXT, attempts INTEGER NOT NULL DEFAULT 0, next_at INTEGER, admitted_at INTEGER,
    reference TEXT, last_error TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX open_batches ON batches (agent) WHERE state = 'open';
  CREATE INDEX batches_by_state ON batches (state, agent, created_at);`;

/** What a row's sum is of: all that it says. */
const summed = {
  deliveries:
    'id, agent, source, received_at, state, inbox, incoming, temp, name, delivered_at, acknowledged_at, batch',
  batches: 'id, agent, created_at, state, message, attempts, next_at, admitted_at, reference, last_error',
};
type Table = keyof typeof summed;
const tables: readonly Table[] = ['deliveries', 'batches'];

/** SQL for a row's sum; `sound` for whether it is the one that it was given, or none, by an older release. */
const sumOf = (table: Table): string => `delivery_sum(${summed[table]})`;
export const sound = (table: Table): string => `(sum IS NULL OR sum = ${sumOf(table)})`;
export const seal = (table: Table): string => `UPDATE ${table} SET sum = ${sumOf(table)} WHERE id = ?`;

/** An older release that has the file open goes on; what it changes has no sum. */
const sums = tables
  .map(
    (table) => `
      ALTER TABLE ${table} ADD COLUMN sum INTEGER;
      UPDATE ${table} SET sum = ${sumOf(table)};
      CREATE TRIGGER ${table}_without_sum AFTER UPDATE ON ${table} WHEN NEW.sum IS OLD.sum BEGIN
        UPDATE ${table} SET sum = NULL WHERE id = NEW.id;
      END;`,
  )
  .join('');

/** From the version of the same number to the next. */
const upgrades = [
  '',
  `ALTER TABLE deliveries ADD COLUMN incoming TEXT;
   UPDATE batches SET message = NULL WHERE state IN ('done', 'failed', 'none');`,
  sums,
];

/**
 * Opens the database of a ledger of deliveries, making it on first use. `corrupt` for one that cannot be read, which
 * stays as it is; `config` when a newer nexus wrote it; `forbidden` when the directory is another user's.
 */
export function openDatabase(file: string): DatabaseSync {
  const directory = path.dirname(file);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkOwner(directory, statSync(directory).uid);
    if (statSync(file, { throwIfNoEntry: false }) === undefined) make(file, directory);
  } catch (error) {
    throw openingError(error, directory);
  }
  try {
    const db = connect(file);
    try {
      check(db, file);
    } catch (error) {
      db.close();
      throw error;
    }
    return db;
  } catch (error) {
    throw translated(error, file);
  }
}

/** It gets its name when it is whole, so that a file of that name without tables is damage and no beginning. */
function make(file: string, directory: string): void {
  const making = `${file}.new-${randomUUID()}`;
  createPrivateFile(making);
  try {
    // Without a log: closing it would write that into the file, and does not say where it cannot.
    const db = new DatabaseSync(making);
    try {
      teachSums(db);
      db.exec(
        `PRAGMA synchronous = FULL; BEGIN; ${schema} ${sums} PRAGMA user_version = ${version}; COMMIT;`,
      );
    } finally {
      db.close();
    }
    syncAbove(directory);
    try {
      linkSync(making, file);
    } catch (error) {
      // Another process was first.
      if (statSync(file, { throwIfNoEntry: false }) === undefined) throw error;
    }
  } finally {
    for (const suffix of ['', '-journal']) rmSync(making + suffix, { force: true });
  }
  syncEntries(directory);
}

function connect(file: string): DatabaseSync {
  checkWal(file);
  const db = new DatabaseSync(file, { timeout: 10_000 });
  try {
    teachSums(db);
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON;');
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
}

function teachSums(db: DatabaseSync): void {
  // Of bigints: rot may have made a number too large for another.
  const options = { deterministic: true, directOnly: false, varargs: true, useBigIntArguments: true };
  db.function('delivery_sum', options, (...values) =>
    crc32(values.map((value) => `${typeof value} ${String(value)}`).join('\n')),
  );
}

function check(db: DatabaseSync, file: string): void {
  const found = versionOf(db);
  if (found > version)
    throw new NexusError('config', `${file} was written by a newer nexus.`, { hint: 'Update nexus here.' });
  if (found < 1) throw damaged(file);
  if (found < version) upgrade(db);
}

/** By the first process that comes to it. */
function upgrade(db: DatabaseSync): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    for (let at = versionOf(db); at < version; at++) db.exec(upgrades[at] ?? '');
    db.exec(`PRAGMA user_version = ${version}; COMMIT`);
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function versionOf(db: DatabaseSync): number {
  return Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
}

/**
 * Throws `corrupt` where anything of it is not what was stored: what is missing from it would be delivered again. Reads
 * all of it.
 */
export function checkWhole(db: DatabaseSync, file: string): void {
  const said = db.prepare('PRAGMA integrity_check(1)').get()?.['integrity_check'];
  if (said !== 'ok') throw damaged(file);
  for (const table of tables)
    if (db.prepare(`SELECT 1 FROM ${table} WHERE NOT ${sound(table)} LIMIT 1`).get() !== undefined)
      throw damaged(file);
}

/** A failure of SQLite as what it means for whoever looks after the host. */
export function translated(error: unknown, file: string): unknown {
  // A number that no nexus has stored.
  if (error instanceof Error && 'code' in error && error.code === 'ERR_OUT_OF_RANGE')
    return damaged(file, error);
  const said = diskError(error, file);
  return failedWith(said, 'corrupt') ? damaged(file, error) : said;
}

export function damaged(file: string, cause?: unknown): NexusError {
  return new NexusError('corrupt', `${file} is damaged: what was delivered to inboxes cannot be read.`, {
    hint:
      'Restore it from a backup, or move it aside: then what was delivered and not yet acknowledged may come a ' +
      'second time, and what was not yet told is not told.',
    cause,
  });
}
