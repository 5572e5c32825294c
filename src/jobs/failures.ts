import type { DatabaseSync } from 'node:sqlite';
import { type ErrorCode, failedWith } from '../errors.ts';
import { formatItems } from '../format.ts';

/** How often in a row an item has failed, with the same bytes. */
export interface Failure {
  /** A place of a transcript, or the id of a webhook item. */
  item: string;
  /** The place's signature when it failed; empty for what never changes. */
  signature: string;
  /** In one sentence, of the last time. */
  reason: string;
  count: number;
  /** ms since 1970. */
  firstAt: number;
  lastAt: number;
}

/** Of items and of runs: the part of the ledger that counts what fails. Losing it begins the counts anew. */
export interface Failures {
  /** What fails of one agent (its id in Nexus), by item. Rows belong to a store, as all of the ledger's do. */
  failures: (store: string, agent: string) => Map<string, Failure>;
  /** One more failure, at `at`; the first where the item was not failing, or was another by its signature. */
  noteFailure: (
    store: string,
    agent: string,
    failed: Pick<Failure, 'item' | 'signature' | 'reason'>,
    at: number,
  ) => Failure;
  forgetFailure: (store: string, agent: string, item: string) => void;
  allFailures: () => (Failure & { store: string; agent: string })[];
  /** A run of this job, by the id that systemd gave its start, has been counted. */
  noteInvocation: (invocation: string, job: string) => void;
  isCounted: (invocation: string) => boolean;
}

/** Stands for the store in the rows of webhook items: their ids are no other store's. */
export const mailStore = 'webhooks';

export const failuresSchema = `
  CREATE TABLE IF NOT EXISTS failures (
    store TEXT NOT NULL, agent TEXT NOT NULL, item TEXT NOT NULL, signature TEXT NOT NULL, reason TEXT NOT NULL,
    count INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, PRIMARY KEY (store, agent, item)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS invocations (id INTEGER PRIMARY KEY, invocation TEXT NOT NULL UNIQUE, job TEXT NOT NULL) STRICT;
`;

const invocationsKept = 200;

export function failuresIn(db: DatabaseSync): Failures {
  const columns = 'item, signature, reason, count, first_at, last_at';
  const some = db.prepare(`SELECT ${columns} FROM failures WHERE store = ? AND agent = ?`);
  const all = db.prepare(`SELECT store, agent, ${columns} FROM failures ORDER BY agent, item`);
  const note = db.prepare(
    `INSERT INTO failures VALUES (?, ?, ?, ?, ?, 1, ?6, ?6)
     ON CONFLICT DO UPDATE SET reason = excluded.reason, last_at = excluded.last_at, signature = excluded.signature,
       count = iif(signature = excluded.signature, count + 1, 1),
       first_at = iif(signature = excluded.signature, first_at, excluded.first_at)
     RETURNING ${columns}`,
  );
  const forget = db.prepare('DELETE FROM failures WHERE store = ? AND agent = ? AND item = ?');
  const count = db.prepare('INSERT OR IGNORE INTO invocations (invocation, job) VALUES (?, ?)');
  const drop = db.prepare('DELETE FROM invocations WHERE id <= (SELECT max(id) FROM invocations) - ?');
  const counted = db.prepare('SELECT 1 FROM invocations WHERE invocation = ?');
  return {
    failures: (store, agent) =>
      new Map(some.all(store, agent).map((row) => [String(row['item']), failureOf(row)])),
    noteFailure: (store, agent, { item, signature, reason }, at) =>
      failureOf(note.get(store, agent, item, signature, reason.slice(0, 2000), Math.trunc(at)) ?? {}),
    forgetFailure: (store, agent, item) => void forget.run(store, agent, item),
    allFailures: () =>
      all
        .all()
        .map((row) => ({ ...failureOf(row), store: String(row['store']), agent: String(row['agent']) })),
    noteInvocation(invocation, job) {
      count.run(invocation, job);
      drop.run(invocationsKept);
    },
    isCounted: (invocation) => counted.get(invocation) !== undefined,
  };
}

function failureOf(row: Record<string, unknown>): Failure {
  return {
    item: String(row['item']),
    signature: String(row['signature']),
    reason: String(row['reason']),
    count: Number(row['count']),
    firstAt: Number(row['first_at']),
    lastAt: Number(row['last_at']),
  };
}

/** What fails more quickly than this may be an outage that does not look like one. */
const atLeastMs = 24 * 3_600_000;

/** It has failed so often, over at least a day, that it is left alone as long as it is the same. */
export function isLeftAlone({ count, firstAt, lastAt }: Failure, after: number): boolean {
  return count >= after && lastAt - firstAt >= atLeastMs;
}

/**
 * Those that a run of today could try: of this store or of webhooks, and of these agents (by their ids in Nexus; of all
 * where they are not known). Others stay in the ledger of what was removed since, and nothing is to be done about them.
 */
export function concerning<T extends { store: string; agent: string }>(
  failures: readonly T[],
  store: string | undefined,
  agents: readonly string[] | undefined,
): T[] {
  return failures.filter(
    (one) =>
      (store === undefined || one.store === store || one.store === mailStore) &&
      (agents === undefined || agents.includes(one.agent)),
  );
}

/** Left alone until `nexus retry`, or until it is another by its signature. */
export function isSetAside(
  failure: Failure | undefined,
  signature: string,
  after: number,
): failure is Failure {
  return failure !== undefined && failure.signature === signature && isLeftAlone(failure, after);
}

/**
 * True for what says something of the item itself. An outage, a key that is refused, a right that is missing and what
 * changed under the reader say nothing of it: with them nothing is ever set aside.
 */
export function countsAgainstItem(error: unknown): boolean {
  return !failedWith(error, ...saysNothingOfItem);
}

const saysNothingOfItem: ErrorCode[] = [
  'unavailable',
  'busy',
  'limited',
  'unauthorized',
  'forbidden',
  'config',
  'changed',
];

/** Of so many items, in a sentence without its full stop. */
export function setAsideSummary(count: number): string {
  const [is, them] = count === 1 ? ['is', 'it'] : ['are', 'them'];
  return `${formatItems(count, 'item')} failed too often and ${is} set aside: \`nexus status\` names ${them}, \`nexus retry\` tries again`;
}

/** As a run's report says it. */
export function setAsideReason({ count, reason }: Failure): string {
  return `Set aside after ${count} failures: ${reason} Run \`nexus retry\` to try it again.`;
}
