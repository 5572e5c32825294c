import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import type { Config } from '../config.ts';
import { checkOwner, diskError, openingError } from '../diskerrors.ts';
import { failedWith, messageOf, NexusError } from '../errors.ts';
import { type Say } from '../logline.ts';
import { createPrivateFile } from '../processlock.ts';
import { inodeOf, putAside } from './aside.ts';
import { type Failures, failuresIn, failuresSchema } from './failures.ts';
import { type JobStates, jobStatesIn, jobStatesSchema } from './jobstates.ts';

/** What this host believes it has shipped of one place. True only together with a mark that the store shows. */
export interface Shipped {
  place: string;
  /** The place's signature when it was listed, so older than the bytes that were read. */
  signature: string;
  /** The name the bytes lie under: `X`, or `X~2`, … */
  transcript: string;
  /** Bytes of the place, from its first, that are stored. */
  length: number;
  /** SHA-256 of those bytes, lower-case hex. */
  sha256: string;
  /** The archive was told that it is complete. */
  complete: boolean;
  /** The mark under which it was recorded. */
  mark: string;
  /** When bytes of it were last recorded, ms since 1970: what is not shipped yet came later. */
  at: number;
}

export interface KnownKey {
  sessionKey: string;
  trigger?: string;
}

/** The marks of one agent: what the store should show. `next` was about to be set when it was written. */
export interface Marks {
  current: string | undefined;
  next: string | undefined;
  /** A run has set `current` and not yet ended: what it recorded is checked before it is believed. */
  open: boolean;
}

export interface Run {
  job: string;
  startedAt: string;
  endedAt: string;
  ok: boolean;
  /** The report, as `--json` prints it. */
  report: unknown;
}

/**
 * The host's cache of what it has shipped, per store and agent, and the reports of its last runs. Deleting it
 * costs one reading of everything; nothing is lost with it. Not synced on every write for that reason, except
 * that rows never come before the store's own answer.
 */
export interface Ledger extends Failures, JobStates {
  /** What was shipped for an agent (its id in Nexus) to one store, by place. */
  shipped: (store: string, agent: string) => Map<string, Shipped>;
  record: (store: string, agent: string, shipped: Shipped) => void;
  forget: (store: string, agent: string, place: string) => void;
  forgetAll: (store: string, agent: string) => void;
  /** Gives the rows of one mark another. */
  remark: (store: string, agent: string, mark: string, other: string) => void;
  /** How many places of each agent (its id in Nexus) were shipped to one store. */
  shippedAgents: (store: string) => Map<string, number>;
  /** The store that something was shipped to last. */
  latestStore: () => string | undefined;
  /** When something was shipped last, ms since 1970. */
  lastShippedAt: () => number | undefined;
  marks: (store: string, agent: string) => Marks;
  setMarks: (store: string, agent: string, marks: Marks) => void;
  /** Session keys seen for an agent, by session id: a reset overwrites them in OpenClaw. */
  keys: (agent: string) => Map<string, KnownKey>;
  rememberKey: (agent: string, sessionId: string, key: KnownKey) => void;
  addRun: (run: Run) => void;
  /** The newest first, at most `limit`. */
  runs: (job: string, limit: number) => Run[];
  close: () => void;
}

/** The file of the ledger under a data directory. */
export function ledgerFile(config: Config): string {
  return path.join(config.dataDir, 'host', 'ledger.sqlite');
}

const runsKept = 50;

const schema = `
  CREATE TABLE IF NOT EXISTS shipped (
    store TEXT NOT NULL, agent TEXT NOT NULL, place TEXT NOT NULL, signature TEXT NOT NULL,
    transcript TEXT NOT NULL, length INTEGER NOT NULL, sha256 TEXT NOT NULL, complete INTEGER NOT NULL,
    mark TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (store, agent, place)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS marks (
    store TEXT NOT NULL, agent TEXT NOT NULL, current TEXT, next TEXT, open INTEGER NOT NULL,
    PRIMARY KEY (store, agent)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS session_keys (
    agent TEXT NOT NULL, session_id TEXT NOT NULL, session_key TEXT NOT NULL, trigger TEXT,
    PRIMARY KEY (agent, session_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, job TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT NOT NULL,
    ok INTEGER NOT NULL, report TEXT NOT NULL
  ) STRICT;
  CREATE INDEX IF NOT EXISTS runs_by_job ON runs (job, id);
  ${failuresSchema}
  ${jobStatesSchema}
`;

/**
 * Opens the ledger, making it on first use. One that is damaged, as it is opened or while it is used, is put aside as
 * `….unreadable-<ms>` and begun anew, and `warn` is told: no job is kept from its work by what is only a cache.
 * `:memory:` makes one that is not kept (`--dry-run` on a fresh machine). `forbidden` when the data directory is another
 * user's.
 */
export function openLedger(file: string, warn: Say): Ledger {
  if (file === ':memory:') return ledgerOver(file, warn);
  const directory = path.dirname(file);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    checkOwner(directory, statSync(directory).uid);
    createPrivateFile(file);
  } catch (error) {
    throw openingError(error, directory);
  }
  return ledgerOver(file, warn);
}

/** The ledger for several who may need it: the first of them opens it, and who gives it to them closes it. */
export function ledgerOnce(config: Config, warn: Say): { open: () => Ledger; close: () => void } {
  let ledger: Ledger | undefined;
  return { open: () => (ledger ??= openLedger(ledgerFile(config), warn)), close: () => ledger?.close() };
}

interface Connection {
  statements: Ledger;
  /** Of its file, which others may have replaced since. */
  inode: number | undefined;
}

function connect(file: string): Connection {
  const inode = inodeOf(file);
  const db = new DatabaseSync(file, { timeout: 10_000 });
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    db.exec(schema);
    return { statements: statementsOf(db), inode };
  } catch (error) {
    db.close();
    throw error;
  }
}

/** What the disk says of the ledger is told as a sentence that names it, as for the store. */
function ledgerOver(file: string, warn: Say): Ledger {
  const opened = inodeOf(file);
  let closed = false;
  let connection: Connection;
  try {
    connection = connect(file);
  } catch (error) {
    if (!isDamage(error, file)) throw diskError(error, file);
    connection = renewed(file, opened, error, warn);
  }
  const told = <Given extends unknown[], Result>(work: (at: Ledger) => (...given: Given) => Result) => {
    return (...given: Given): Result => {
      if (closed) throw new NexusError('unavailable', `The ledger ${file} is closed.`);
      try {
        return work(connection.statements)(...given);
      } catch (error) {
        if (!isDamage(error, file)) throw diskError(error, file);
        connection.statements.close();
        // Until there is another, which may not be had.
        closed = true;
        connection = renewed(file, connection.inode, error, warn);
        closed = false;
      }
      try {
        return work(connection.statements)(...given);
      } catch (error) {
        throw diskError(error, file);
      }
    };
  };
  return {
    shipped: told((at) => at.shipped),
    record: told((at) => at.record),
    forget: told((at) => at.forget),
    forgetAll: told((at) => at.forgetAll),
    remark: told((at) => at.remark),
    shippedAgents: told((at) => at.shippedAgents),
    latestStore: told((at) => at.latestStore),
    lastShippedAt: told((at) => at.lastShippedAt),
    marks: told((at) => at.marks),
    setMarks: told((at) => at.setMarks),
    keys: told((at) => at.keys),
    rememberKey: told((at) => at.rememberKey),
    addRun: told((at) => at.addRun),
    runs: told((at) => at.runs),
    failures: told((at) => at.failures),
    noteFailure: told((at) => at.noteFailure),
    forgetFailure: told((at) => at.forgetFailure),
    allFailures: told((at) => at.allFailures),
    noteInvocation: told((at) => at.noteInvocation),
    isCounted: told((at) => at.isCounted),
    noteEnd: told((at) => at.noteEnd),
    jobStates: told((at) => at.jobStates),
    close() {
      if (!closed) connection.statements.close();
      closed = true;
    },
  };
}

function isDamage(error: unknown, file: string): boolean {
  return file !== ':memory:' && failedWith(diskError(error, file), 'corrupt');
}

function renewed(file: string, inode: number | undefined, error: unknown, warn: Say): Connection {
  try {
    const aside = putAside(file, inode, ['-wal', '-shm']);
    createPrivateFile(file);
    if (aside !== undefined)
      warn(
        `The ledger could not be read (${messageOf(error)}); it is kept as ${aside} and made anew from the archive.`,
        { code: 'corrupt' },
      );
    return connect(file);
  } catch (failure) {
    throw diskError(failure, file);
  }
}

function statementsOf(db: DatabaseSync): Ledger {
  const shippedOf = db.prepare(
    'SELECT place, signature, transcript, length, sha256, complete, mark, at FROM shipped WHERE store = ? AND agent = ?',
  );
  const record = db.prepare('INSERT OR REPLACE INTO shipped VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const forget = db.prepare('DELETE FROM shipped WHERE store = ? AND agent = ? AND place = ?');
  const forgetAll = db.prepare('DELETE FROM shipped WHERE store = ? AND agent = ?');
  const remark = db.prepare('UPDATE shipped SET mark = ? WHERE store = ? AND agent = ? AND mark = ?');
  const shippedAgents = db.prepare(
    'SELECT agent, count(*) AS places FROM shipped WHERE store = ? GROUP BY agent',
  );
  const latestStore = db.prepare('SELECT store FROM shipped ORDER BY at DESC LIMIT 1');
  const lastShipped = db.prepare('SELECT max(at) AS at FROM shipped');
  const marks = db.prepare('SELECT current, next, open FROM marks WHERE store = ? AND agent = ?');
  const setMarks = db.prepare('INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)');
  const keys = db.prepare('SELECT session_id, session_key, trigger FROM session_keys WHERE agent = ?');
  const rememberKey = db.prepare('INSERT OR REPLACE INTO session_keys VALUES (?, ?, ?, ?)');
  const addRun = db.prepare(
    'INSERT INTO runs (job, started_at, ended_at, ok, report) VALUES (?, ?, ?, ?, ?)',
  );
  const dropRuns = db.prepare(
    'DELETE FROM runs WHERE job = ?1 AND id <= (SELECT id FROM runs WHERE job = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)',
  );
  const runs = db.prepare(
    'SELECT job, started_at, ended_at, ok, report FROM runs WHERE job = ? ORDER BY id DESC LIMIT ?',
  );

  return {
    ...failuresIn(db),
    ...jobStatesIn(db),
    shipped(store, agent) {
      const found = new Map<string, Shipped>();
      for (const row of shippedOf.iterate(store, agent)) {
        const place = String(row['place']);
        const [sha256 = '', sum] = String(row['sha256']).split(' ');
        const shipped = {
          place,
          signature: String(row['signature']),
          transcript: String(row['transcript']),
          length: Number(row['length']),
          sha256,
          complete: row['complete'] === 1,
          mark: String(row['mark']),
          at: Number(row['at']),
        };
        // What rotted is not known, and settled from the archive as anything that is not.
        if (sum === undefined || sum === sumOf(store, agent, shipped)) found.set(place, shipped);
      }
      return found;
    },
    record(store, agent, shipped) {
      const { place, signature, transcript, length, sha256, complete, mark, at } = shipped;
      record.run(
        store,
        agent,
        place,
        signature,
        transcript,
        length,
        // To an older release, a digest that does not fit: it settles that place.
        `${sha256} ${sumOf(store, agent, shipped)}`,
        complete ? 1 : 0,
        mark,
        Math.trunc(at),
      );
    },
    forget(store, agent, place) {
      forget.run(store, agent, place);
    },
    forgetAll(store, agent) {
      forgetAll.run(store, agent);
    },
    remark(store, agent, mark, other) {
      remark.run(other, store, agent, mark);
    },
    shippedAgents: (store) =>
      new Map(shippedAgents.all(store).map((row) => [String(row['agent']), Number(row['places'])])),
    latestStore() {
      return textOf(latestStore.get()?.['store']);
    },
    lastShippedAt() {
      const at = lastShipped.get()?.['at'];
      return typeof at === 'number' ? at : undefined;
    },
    marks(store, agent) {
      const row = marks.get(store, agent);
      return {
        current: textOf(row?.['current']),
        next: textOf(row?.['next']),
        open: row?.['open'] === 1,
      };
    },
    setMarks(store, agent, { current, next, open }) {
      setMarks.run(store, agent, current ?? null, next ?? null, open ? 1 : 0);
    },
    keys(agent) {
      const known = new Map<string, KnownKey>();
      for (const row of keys.iterate(agent)) {
        const trigger = textOf(row['trigger']);
        const key: KnownKey = { sessionKey: String(row['session_key']) };
        known.set(String(row['session_id']), trigger === undefined ? key : { ...key, trigger });
      }
      return known;
    },
    rememberKey(agent, sessionId, { sessionKey, trigger }) {
      rememberKey.run(agent, sessionId, sessionKey, trigger ?? null);
    },
    addRun({ job, startedAt, endedAt, ok, report }) {
      addRun.run(job, startedAt, endedAt, ok ? 1 : 0, JSON.stringify(report));
      dropRuns.run(job, runsKept);
    },
    runs(job, limit) {
      return runs.all(job, limit).map((row) => ({
        job: String(row['job']),
        startedAt: String(row['started_at']),
        endedAt: String(row['ended_at']),
        ok: row['ok'] === 1,
        report: reportIn(String(row['report'])),
      }));
    },
    close() {
      db.close();
    },
  };
}

/** Of a row but its mark, which is changed of many at once, and its time. */
function sumOf(
  store: string,
  agent: string,
  { place, signature, transcript, length, sha256, complete }: Shipped,
): string {
  const said = [store, agent, place, signature, transcript, length, sha256, complete];
  return crc32(JSON.stringify(said)).toString(16).padStart(8, '0');
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Pages that were overwritten need not break SQLite's own rules. */
function reportIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new NexusError('corrupt', 'A report in it is none.', { cause: error });
  }
}
