import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, mkdirSync, openSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Config } from '../config.ts';
import { checkOwner, diskError, openingError } from '../diskerrors.ts';
import { failedWith, NexusError } from '../errors.ts';
import { createPrivateFile } from '../processlock.ts';

/** One item on its way into an inbox. */
export interface Begun {
  id: string;
  source: string;
  /** ISO 8601, UTC. */
  receivedAt: string;
  /** The inbox, absolute. */
  inbox: string;
  /** The name of the file in the inbox's hidden directory, and the one it will have in the inbox. */
  temp: string;
  name: string;
}

export type BatchState =
  /** Items are still put into it. */
  | 'open'
  /** To be told: nothing of it was admitted yet. */
  | 'untold'
  /** OpenClaw has taken the message; whether the agent answered is not known. */
  | 'admitted'
  | 'done'
  /** Told as often as it may be, without an answer. */
  | 'failed'
  /** The agent is not to be told. */
  | 'none';

/** What one message tells an agent of. Times in ms since 1970. */
export interface Batch {
  /** A random UUID. */
  id: string;
  /** OpenClaw's id of the agent. */
  agent: string;
  createdAt: number;
  state: BatchState;
  /** As it was first sent, so that every repeat says the same. */
  message?: string;
  /** How often it was sent. */
  attempts: number;
  /** Not to be sent again before. */
  nextAt?: number;
  admittedAt?: number;
  /** What OpenClaw calls the run or the session that it was admitted as. */
  reference?: string;
  lastError?: string;
}

/** What changes of a batch; `null` takes a field away. */
export type BatchChange = {
  [Field in 'message' | 'nextAt' | 'admittedAt' | 'reference' | 'lastError']?: Batch[Field] | null;
} & { state?: BatchState; attempts?: number };

/** An item of a batch; it lay at `file` when it was delivered, until the agent moved or deleted it. */
export interface BatchItem {
  id: string;
  source: string;
  receivedAt: string;
  /** Absolute, on this host. */
  file: string;
}

/**
 * What this host has put into inboxes. Beside the inboxes themselves the only thing on a host that must not be lost:
 * it keeps a delivery from happening twice. Every call that changes something is one transaction, on stable storage
 * when it returns. Agents are named by their id in OpenClaw.
 *
 * An item's row is `delivering` from before its file gets its name in the inbox, and `delivered` from after that.
 */
export interface Deliveries {
  /** How far these ids are; those that are not known are left out. */
  known: (ids: readonly string[]) => Map<string, 'delivering' | 'delivered'>;
  /** Their files are synced under their temporary names. */
  begin: (agent: string, items: readonly Begun[]) => void;
  /** Takes back what was begun and came to nothing. */
  forget: (ids: readonly string[]) => void;
  /** Their files are in the inbox, synced. They join the agent's open batch, which is made when there is none. */
  deliver: (agent: string, ids: readonly string[], at: number) => void;
  /** What was begun and is not delivered; of all agents when none is named. */
  begun: (agent?: string) => Begun[];
  /** Ids that are delivered and that Nexus has not yet taken out of pending. */
  unacknowledged: (agent: string) => string[];
  acknowledge: (ids: readonly string[], at: number) => void;
  /** Ends the agent's open batch, if there is one: nothing joins it any more. */
  closeBatch: (agent: string, state: 'untold' | 'none') => void;
  /** The oldest first; of all agents when none is named. */
  batches: (states: readonly BatchState[], agent?: string) => Batch[];
  /** In the order of arrival. */
  itemsOf: (batch: string) => BatchItem[];
  updateBatch: (batch: string, change: BatchChange) => void;
  /** Drops what was acknowledged before, and the batches that are at an end and have no items left. */
  prune: (before: number) => void;
  close: () => void;
}

/** The file of it under a data directory. */
export function deliveriesFile(config: Config): string {
  return path.join(config.dataDir, 'host', 'deliveries.sqlite');
}

const version = 1;
const schema = `
  CREATE TABLE deliveries (
    id TEXT PRIMARY KEY, agent TEXT NOT NULL, source TEXT NOT NULL, received_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('delivering', 'delivered')),
    inbox TEXT NOT NULL, temp TEXT NOT NULL, name TEXT NOT NULL,
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
  CREATE INDEX batches_by_state ON batches (state, agent, created_at);
  PRAGMA user_version = ${version};`;

/**
 * Opens it, making it on first use. One that cannot be read is `corrupt` and stays as it is: what is in it is known
 * nowhere else. `forbidden` when the data directory is another user's.
 */
export function openDeliveries(file: string): Deliveries {
  const directory = path.dirname(file);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkOwner(directory, statSync(directory).uid);
    if (statSync(file, { throwIfNoEntry: false }) === undefined) make(file, directory);
  } catch (error) {
    throw openingError(error, directory);
  }
  const told = <Given extends unknown[], Result>(work: (...given: Given) => Result) => {
    return (...given: Given): Result => {
      try {
        return work(...given);
      } catch (error) {
        throw translated(error, file);
      }
    };
  };
  const db = told(connect)(file);
  let plain: Deliveries;
  try {
    told(check)(db, file);
    plain = told(statementsOf)(db);
  } catch (error) {
    db.close();
    throw error;
  }
  return {
    known: told(plain.known),
    begin: told(plain.begin),
    forget: told(plain.forget),
    deliver: told(plain.deliver),
    begun: told(plain.begun),
    unacknowledged: told(plain.unacknowledged),
    acknowledge: told(plain.acknowledge),
    closeBatch: told(plain.closeBatch),
    batches: told(plain.batches),
    itemsOf: told(plain.itemsOf),
    updateBatch: told(plain.updateBatch),
    prune: told(plain.prune),
    close: () => plain.close(),
  };
}

/** It gets its name when it is whole, so that a file of that name without tables is damage and no beginning. */
function make(file: string, directory: string): void {
  const making = `${file}.new-${randomUUID()}`;
  createPrivateFile(making);
  try {
    const db = connect(making);
    try {
      db.exec(`BEGIN; ${schema} COMMIT;`);
    } finally {
      db.close();
    }
    try {
      linkSync(making, file);
    } catch (error) {
      // Another process was first.
      if (statSync(file, { throwIfNoEntry: false }) === undefined) throw error;
    }
  } finally {
    for (const suffix of ['', '-wal', '-shm']) rmSync(making + suffix, { force: true });
  }
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function connect(file: string): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: 10_000 });
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
}

function check(db: DatabaseSync, file: string): void {
  const found = Number(db.prepare('PRAGMA user_version').get()?.['user_version']);
  if (found > version)
    throw new NexusError('config', `${file} was written by a newer nexus.`, { hint: 'Update nexus here.' });
  if (found < version) throw damaged(file);
}

function translated(error: unknown, file: string): unknown {
  const said = diskError(error, file);
  return failedWith(said, 'corrupt') ? damaged(file, error) : said;
}

function damaged(file: string, cause?: unknown): NexusError {
  return new NexusError('corrupt', `${file} is damaged: what was delivered to inboxes cannot be read.`, {
    hint:
      'Restore it from a backup, or move it aside: then what was delivered and not yet acknowledged may come a ' +
      'second time, and what was not yet told is not told.',
    cause,
  });
}

function statementsOf(db: DatabaseSync): Deliveries {
  const state = db.prepare('SELECT state FROM deliveries WHERE id = ?');
  const insert = db.prepare(
    `INSERT INTO deliveries (id, agent, source, received_at, state, inbox, temp, name)
     VALUES (?, ?, ?, ?, 'delivering', ?, ?, ?)`,
  );
  const forget = db.prepare("DELETE FROM deliveries WHERE id = ? AND state = 'delivering'");
  const openBatch = db.prepare("SELECT id FROM batches WHERE agent = ? AND state = 'open'");
  const insertBatch = db.prepare(
    "INSERT INTO batches (id, agent, created_at, state) VALUES (?, ?, ?, 'open')",
  );
  const deliver = db.prepare(
    "UPDATE deliveries SET state = 'delivered', delivered_at = ?, batch = ? WHERE id = ? AND state = 'delivering'",
  );
  const begun = db.prepare(
    `SELECT id, source, received_at, inbox, temp, name FROM deliveries
     WHERE (?1 IS NULL OR agent = ?1) AND state = 'delivering' AND acknowledged_at IS NULL ORDER BY id`,
  );
  const unacknowledged = db.prepare(
    `SELECT id FROM deliveries
     WHERE agent = ? AND state = 'delivered' AND acknowledged_at IS NULL ORDER BY id`,
  );
  const acknowledge = db.prepare(
    "UPDATE deliveries SET acknowledged_at = ? WHERE id = ? AND state = 'delivered'",
  );
  const closeBatch = db.prepare("UPDATE batches SET state = ? WHERE agent = ? AND state = 'open'");
  const batches = db.prepare(
    `SELECT * FROM batches WHERE state IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR agent = ?2)
     ORDER BY created_at, id`,
  );
  const itemsOf = db.prepare(
    'SELECT id, source, received_at, inbox, name FROM deliveries WHERE batch = ? ORDER BY id',
  );
  const pruneDeliveries = db.prepare('DELETE FROM deliveries WHERE acknowledged_at < ?');
  const pruneBatches = db.prepare(
    `DELETE FROM batches WHERE created_at < ? AND state IN ('done', 'failed', 'none')
     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.batch = batches.id)`,
  );

  function transaction(work: () => void): void {
    db.exec('BEGIN IMMEDIATE');
    try {
      work();
      db.exec('COMMIT');
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK');
      throw error;
    }
  }

  return {
    known(ids) {
      const found = new Map<string, 'delivering' | 'delivered'>();
      for (const id of ids) {
        const row = state.get(id);
        if (row !== undefined) found.set(id, row['state'] === 'delivered' ? 'delivered' : 'delivering');
      }
      return found;
    },
    begin(agent, items) {
      transaction(() => {
        for (const { id, source, receivedAt, inbox, temp, name } of items)
          insert.run(id, agent, source, receivedAt, inbox, temp, name);
      });
    },
    forget(ids) {
      transaction(() => {
        for (const id of ids) forget.run(id);
      });
    },
    deliver(agent, ids, at) {
      transaction(() => {
        const open = openBatch.get(agent)?.['id'];
        const batch = typeof open === 'string' ? open : randomUUID();
        if (open === undefined) insertBatch.run(batch, agent, at);
        for (const id of ids) deliver.run(at, batch, id);
      });
    },
    begun(agent) {
      return begun.all(agent ?? null).map((row) => ({
        id: String(row['id']),
        source: String(row['source']),
        receivedAt: String(row['received_at']),
        inbox: String(row['inbox']),
        temp: String(row['temp']),
        name: String(row['name']),
      }));
    },
    unacknowledged(agent) {
      return unacknowledged.all(agent).map((row) => String(row['id']));
    },
    acknowledge(ids, at) {
      transaction(() => {
        for (const id of ids) acknowledge.run(at, id);
      });
    },
    closeBatch(agent, end) {
      closeBatch.run(end, agent);
    },
    batches(states, agent) {
      return batches.all(JSON.stringify(states), agent ?? null).map(batchOf);
    },
    itemsOf(batch) {
      return itemsOf.all(batch).map((row) => ({
        id: String(row['id']),
        source: String(row['source']),
        receivedAt: String(row['received_at']),
        file: path.join(String(row['inbox']), String(row['name'])),
      }));
    },
    updateBatch(batch, change) {
      const fields = Object.entries(change).filter(([, value]) => value !== undefined);
      if (fields.length === 0) return;
      const columns = fields.map(([field]) => `${columnOf(field)} = ?`).join(', ');
      const values = fields.map(([, value]) => value);
      db.prepare(`UPDATE batches SET ${columns} WHERE id = ?`).run(...values, batch);
    },
    prune(before) {
      transaction(() => {
        pruneDeliveries.run(before);
        pruneBatches.run(before);
      });
    },
    close() {
      db.close();
    },
  };
}

const changing: Record<string, string> = {
  state: 'state',
  message: 'message',
  attempts: 'attempts',
  nextAt: 'next_at',
  admittedAt: 'admitted_at',
  reference: 'reference',
  lastError: 'last_error',
};

function columnOf(field: string): string {
  const column = changing[field];
  if (column === undefined) throw new Error(`A batch has no ${field}.`);
  return column;
}

function batchOf(row: Record<string, unknown>): Batch {
  const text = (column: string) => (typeof row[column] === 'string' ? row[column] : undefined);
  const time = (column: string) => (typeof row[column] === 'number' ? row[column] : undefined);
  const facts = {
    message: text('message'),
    nextAt: time('next_at'),
    admittedAt: time('admitted_at'),
    reference: text('reference'),
    lastError: text('last_error'),
  };
  return {
    id: String(row['id']),
    agent: String(row['agent']),
    createdAt: Number(row['created_at']),
    state: stateOf(row['state']),
    attempts: Number(row['attempts']),
    ...Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined)),
  };
}

const states: readonly BatchState[] = ['open', 'untold', 'admitted', 'done', 'failed', 'none'];

function stateOf(value: unknown): BatchState {
  const state = states.find((one) => one === value);
  if (state === undefined) throw new Error(`A batch is ${String(value)}.`);
  return state;
}
