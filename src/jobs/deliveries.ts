import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import type { Config } from '../config.ts';
import { checkWhole, damaged, openDatabase, seal, sound, translated } from './deliveriesfile.ts';

/** One item on its way into an inbox. */
export interface Begun {
  id: string;
  source: string;
  /** ISO 8601, UTC. */
  receivedAt: string;
  /** The inbox, absolute. */
  inbox: string;
  /** Its hidden directory, as `Inbox.incoming` tells it from another at its place; not kept by older releases. */
  incoming?: string;
  /** The name of the file in the inbox's hidden directory, and the one it will have in the inbox. */
  temp: string;
  name: string;
}

export type BatchState =
  /** Items are still put into it. */
  | 'open'
  /** To be told: it was not sent, or was refused. */
  | 'untold'
  /** OpenClaw has taken the message, or may have: it is being sent. Whether the agent answered is not known. */
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
  /** How often it was sent, or may have been. */
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
  [Field in 'nextAt' | 'admittedAt' | 'reference' | 'lastError']?: Batch[Field] | null;
} & {
  state?: BatchState;
  attempts?: number;
  /** Kept as long as it may have to be sent again, word for word. */
  message?: string;
};

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
  /** Whether anything it remembers went into this inbox, or was about to. */
  usedBefore: (inbox: string) => boolean;
  /**
   * Their files are synced under their temporary names. Before the first, and again after a while, all of the ledger is
   * read: one that has rotted may have lost what it knew of them, and is `corrupt`.
   */
  begin: (agent: string, items: readonly Begun[]) => void;
  /** Takes back what was begun and came to nothing. */
  forget: (ids: readonly string[]) => void;
  /** Their files are in the inbox, synced. They join the agent's open batch, which is made when there is none. */
  deliver: (agent: string, ids: readonly string[], at: number) => void;
  /** What was begun and is not delivered; of all agents when none is named. */
  begun: (agent?: string) => Begun[];
  /** Ids that are delivered, before a time if one is given, and that Nexus has not yet taken out of pending. */
  unacknowledged: (agent: string, before?: number) => string[];
  acknowledge: (ids: readonly string[], at: number) => void;
  /** Ends the agent's open batch, if there is one: nothing joins it any more. */
  closeBatch: (agent: string, state: 'untold' | 'none') => void;
  /** The oldest first; of all agents when none is named. */
  batches: (states: readonly BatchState[], agent?: string) => Batch[];
  /** In the order of arrival. */
  itemsOf: (batch: string) => BatchItem[];
  /** What was sent of a batch; `undefined` before that, and when the batch is at an end. */
  messageOf: (batch: string) => string | undefined;
  /** A batch that comes to its end loses its message. */
  updateBatch: (batch: string, change: BatchChange) => void;
  /** Drops what was acknowledged before, and the batches that are at an end and have no items left. */
  prune: (before: number) => void;
  close: () => void;
}

/** The file of it under a data directory. */
export function deliveriesFile(config: Config): string {
  return path.join(config.dataDir, 'host', 'deliveries.sqlite');
}

/**
 * Opens it, making it on first use. One that cannot be read is `corrupt` and stays as it is: what is in it is known
 * nowhere else. `forbidden` when the data directory is another user's.
 */
export function openDeliveries(file: string): Deliveries {
  const db = openDatabase(file);
  const told = <Given extends unknown[], Result>(work: (...given: Given) => Result) => {
    return (...given: Given): Result => {
      try {
        return work(...given);
      } catch (error) {
        throw translated(error, file);
      }
    };
  };
  let plain: Deliveries;
  try {
    plain = told(statementsOf)(db, file);
  } catch (error) {
    db.close();
    throw error;
  }
  return {
    known: told(plain.known),
    usedBefore: told(plain.usedBefore),
    begin: told(plain.begin),
    forget: told(plain.forget),
    deliver: told(plain.deliver),
    begun: told(plain.begun),
    unacknowledged: told(plain.unacknowledged),
    acknowledge: told(plain.acknowledge),
    closeBatch: told(plain.closeBatch),
    batches: told(plain.batches),
    itemsOf: told(plain.itemsOf),
    messageOf: told(plain.messageOf),
    updateBatch: told(plain.updateBatch),
    prune: told(plain.prune),
    close: () => plain.close(),
  };
}

/** A ledger that was whole so long ago is looked through again before something is delivered, ms. */
const wholeForMs = 10 * 60_000;

function statementsOf(db: DatabaseSync, file: string): Deliveries {
  let wholeAt = Number.NEGATIVE_INFINITY;
  const state = db.prepare(`SELECT state, ${sound('deliveries')} AS sound FROM deliveries WHERE id = ?`);
  const soundBatch = db.prepare(`SELECT ${sound('batches')} AS sound FROM batches WHERE id = ?`);
  const sealDelivery = db.prepare(seal('deliveries'));
  const sealBatch = db.prepare(seal('batches'));
  const usedBefore = db.prepare('SELECT 1 FROM deliveries WHERE inbox = ? LIMIT 1');
  const insert = db.prepare(
    `INSERT INTO deliveries (id, agent, source, received_at, state, inbox, incoming, temp, name)
     VALUES (?, ?, ?, ?, 'delivering', ?, ?, ?, ?)`,
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
    `SELECT id, source, received_at, inbox, incoming, temp, name, ${sound('deliveries')} AS sound FROM deliveries
     WHERE (?1 IS NULL OR agent = ?1) AND state = 'delivering' AND acknowledged_at IS NULL ORDER BY id`,
  );
  const unacknowledged = db.prepare(
    `SELECT id, ${sound('deliveries')} AS sound FROM deliveries WHERE agent = ?1 AND state = 'delivered' AND acknowledged_at IS NULL
     AND (?2 IS NULL OR delivered_at < ?2) ORDER BY id`,
  );
  const acknowledge = db.prepare(
    "UPDATE deliveries SET acknowledged_at = ? WHERE id = ? AND state = 'delivered'",
  );
  const closeBatch = db.prepare('UPDATE batches SET state = ? WHERE id = ?');
  const batches = db.prepare(
    `SELECT id, agent, created_at, state, attempts, next_at, admitted_at, reference, last_error, ${sound('batches')} AS sound FROM batches
     WHERE state IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR agent = ?2)
     ORDER BY created_at, id`,
  );
  const itemsOf = db.prepare(
    `SELECT id, source, received_at, inbox, name, ${sound('deliveries')} AS sound FROM deliveries
     WHERE batch = ? ORDER BY id`,
  );
  const messageOf = db.prepare(`SELECT message, ${sound('batches')} AS sound FROM batches WHERE id = ?`);
  const pruneDeliveries = db.prepare(
    `DELETE FROM deliveries WHERE acknowledged_at < ? AND ${sound('deliveries')}`,
  );
  const pruneBatches = db.prepare(
    `DELETE FROM batches WHERE created_at < ? AND state IN ('done', 'failed', 'none')
     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.batch = batches.id)`,
  );

  /** A row that was read, if it is what was stored. */
  function checked<Found extends Record<string, unknown> | undefined>(row: Found): Found {
    if (row?.['sound'] === 0) throw damaged(file);
    return row;
  }

  /** Changes a row and gives it its new sum; one that had rotted before would look sound with it. */
  function changeDelivery(id: string, change: () => void): void {
    checked(state.get(id));
    change();
    sealDelivery.run(id);
  }

  function changeBatch(id: string, change: () => void): void {
    checked(soundBatch.get(id));
    change();
    sealBatch.run(id);
  }

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
        const row = checked(state.get(id));
        if (row !== undefined) found.set(id, row['state'] === 'delivered' ? 'delivered' : 'delivering');
      }
      return found;
    },
    usedBefore(inbox) {
      return usedBefore.get(inbox) !== undefined;
    },
    begin(agent, items) {
      const now = performance.now();
      if (now - wholeAt > wholeForMs) {
        checkWhole(db, file);
        wholeAt = now;
      }
      transaction(() => {
        for (const { id, source, receivedAt, inbox, incoming, temp, name } of items) {
          insert.run(id, agent, source, receivedAt, inbox, incoming ?? null, temp, name);
          sealDelivery.run(id);
        }
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
        if (open === undefined) {
          insertBatch.run(batch, agent, at);
          sealBatch.run(batch);
        }
        for (const id of ids) changeDelivery(id, () => deliver.run(at, batch, id));
      });
    },
    begun(agent) {
      return begun
        .all(agent ?? null)
        .map(checked)
        .map((row) => ({
          id: String(row['id']),
          source: String(row['source']),
          receivedAt: String(row['received_at']),
          inbox: String(row['inbox']),
          ...(typeof row['incoming'] === 'string' ? { incoming: row['incoming'] } : {}),
          temp: String(row['temp']),
          name: String(row['name']),
        }));
    },
    unacknowledged(agent, before) {
      return unacknowledged
        .all(agent, before ?? null)
        .map(checked)
        .map((row) => String(row['id']));
    },
    acknowledge(ids, at) {
      transaction(() => {
        for (const id of ids) changeDelivery(id, () => acknowledge.run(at, id));
      });
    },
    closeBatch(agent, end) {
      transaction(() => {
        const open = openBatch.get(agent)?.['id'];
        if (typeof open === 'string') changeBatch(open, () => closeBatch.run(end, open));
      });
    },
    batches(states, agent) {
      return batches
        .all(JSON.stringify(states), agent ?? null)
        .map(checked)
        .map(batchOf);
    },
    itemsOf(batch) {
      return itemsOf
        .all(batch)
        .map(checked)
        .map((row) => ({
          id: String(row['id']),
          source: String(row['source']),
          receivedAt: String(row['received_at']),
          file: path.join(String(row['inbox']), String(row['name'])),
        }));
    },
    messageOf(batch) {
      const message = checked(messageOf.get(batch))?.['message'];
      return typeof message === 'string' ? message : undefined;
    },
    updateBatch(batch, change) {
      const over = change.state !== undefined && ended.has(change.state);
      const fields = Object.entries(over ? { ...change, message: null } : change).filter(
        ([, value]) => value !== undefined,
      );
      if (fields.length === 0) return;
      const columns = fields.map(([field]) => `${columnOf(field)} = ?`).join(', ');
      const values = fields.map(([, value]) => value);
      const update = db.prepare(`UPDATE batches SET ${columns} WHERE id = ?`);
      transaction(() => changeBatch(batch, () => update.run(...values, batch)));
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

const ended: ReadonlySet<BatchState> = new Set(['done', 'failed', 'none']);

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
