import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import type { Call } from './usagerecord.ts';

/** A quarter of an hour, ms: every time zone's offset is a multiple of it. */
export const quarterMs = 15 * 60_000;

/** What is known of a call's cost. */
export const costKinds = { recorded: 0, zero: 1, none: 2 } as const;

/** One history of a session. */
export interface Place {
  /** Ids of the index. */
  transcript: number;
  session: number;
  agent: number;
}

/** A place where a call is recorded. */
interface Copy {
  transcript: number;
  entry: string;
  /** Billionths of a dollar. */
  cost: number | null;
}

/** What calls of one group have in common: agent, ms, model, and the four token counts. */
type Key = [at: number, model: number, ...tokens: [number, number, number, number]];

/**
 * Which call counts, and for whom. Calls of an agent with the same time, model and token counts are one group. In it a
 * session has as many calls as the most that any one of its histories holds under different ids, less the most of them
 * that any one history shares, id for id, with a session that started earlier. A call costs the greatest that any
 * record of it, by its id, says. Where a session's histories have other ids for the same calls, the costliest of the
 * one stands for the costliest of the other, and so on, and the greater cost counts. All that depends on what is there
 * alone, never on the order it came in.
 *
 * All functions run within a transaction; `flush` ends it.
 */
export interface Counting {
  /** Forgets what other processes may have changed since the last transaction. */
  begin: () => void;
  add: (place: Place, call: Call) => void;
  /** Takes back all that was counted of a transcript. */
  remove: (place: Place) => void;
  /** Gives a session another start, ms since 1970; what it shares with others is counted again. */
  start: (session: number, agent: number, at: number | null) => void;
  flush: () => void;
}

export function openCounting(db: DatabaseSync): Counting {
  const where =
    'agent = ? AND at = ? AND model = ? AND input = ? AND output = ? AND cache_read = ? AND cache_write = ?';
  const insertCall = db.prepare('INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const selectCall = db.prepare(`SELECT transcript, entry, cost FROM calls WHERE ${where}`);
  const updateCall = db.prepare(`UPDATE calls SET transcript = ?, entry = ?, cost = ? WHERE ${where}`);
  const deleteCall = db.prepare(`DELETE FROM calls WHERE ${where}`);
  const callsOf = db.prepare('SELECT * FROM calls WHERE transcript = ?');
  const putCopy = db.prepare('INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
  const selectCopies = db.prepare(`SELECT transcript, entry, cost FROM copies WHERE ${where}`);
  const deleteCopies = db.prepare(`DELETE FROM copies WHERE ${where} AND transcript = ?`);
  const columns = 'at, model, input, output, cache_read, cache_write';
  const groupsOf = db.prepare(`SELECT DISTINCT ${columns} FROM copies WHERE transcript = ?`);
  const groupsOfSession = db.prepare(
    `SELECT DISTINCT ${columns} FROM copies WHERE transcript IN (SELECT id FROM transcripts WHERE session = ?)`,
  );
  const selectSession = db.prepare(
    `SELECT s.id, s.name, s.started_at FROM transcripts t JOIN sessions s ON s.id = t.session WHERE t.id = ?`,
  );
  const updateStart = db.prepare('UPDATE sessions SET started_at = ? WHERE id = ?');
  const selectModel = db.prepare('SELECT id FROM models WHERE provider = ? AND model = ?');
  const insertModel = db.prepare('INSERT INTO models (provider, model) VALUES (?, ?)');
  const addRollup = db.prepare(
    `INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
       calls = calls + excluded.calls, input = input + excluded.input, output = output + excluded.output,
       cache_read = cache_read + excluded.cache_read, cache_write = cache_write + excluded.cache_write,
       cost = cost + excluded.cost`,
  );
  const dropRollup = db.prepare(
    'DELETE FROM rollup WHERE session = ? AND quarter = ? AND model = ? AND kind = ? AND calls = 0',
  );

  interface Session {
    id: number;
    name: string;
    start: number;
  }
  interface Sum {
    key: [session: number, quarter: number, model: number, kind: number];
    sums: [number, number, number, number, number, number];
    taken: boolean;
  }
  const models = new Map<string, Map<string, number>>();
  const sessions = new Map<number, Session>();
  const sums = new Map<string, Sum>();
  /** Of `sums`, the one that was asked for last. */
  let latest: Sum | undefined;

  function sessionOf(transcript: number): Session {
    let session = sessions.get(transcript);
    if (session === undefined) {
      const row = selectSession.get(transcript);
      const start = row?.['started_at'];
      session = {
        id: Number(row?.['id']),
        name: String(row?.['name']),
        start: typeof start === 'number' ? start : Number.POSITIVE_INFINITY,
      };
      sessions.set(transcript, session);
    }
    return session;
  }

  function modelOf(provider: string, model: string): number {
    let ofProvider = models.get(provider);
    if (ofProvider === undefined) models.set(provider, (ofProvider = new Map()));
    let id = ofProvider.get(model);
    if (id === undefined) {
      const row = selectModel.get(provider, model);
      id = Number(row === undefined ? insertModel.run(provider, model).lastInsertRowid : row['id']);
      ofProvider.set(model, id);
    }
    return id;
  }

  /** The calls of a transcript are many in a quarter of an hour. */
  function sumOf(session: number, quarter: number, model: number, kind: number): Sum {
    const key = latest?.key;
    if (
      latest !== undefined &&
      key?.[0] === session &&
      key[1] === quarter &&
      key[2] === model &&
      key[3] === kind
    )
      return latest;
    const id = `${session} ${quarter} ${model} ${kind}`;
    let sum = sums.get(id);
    if (sum === undefined) {
      sum = { key: [session, quarter, model, kind], sums: [0, 0, 0, 0, 0, 0], taken: false };
      sums.set(id, sum);
    }
    latest = sum;
    return sum;
  }

  function bump(session: number, [at, model, ...tokens]: Key, cost: number | null, sign: 1 | -1): void {
    const kind = (cost ?? 0) > 0 ? costKinds.recorded : cost === null ? costKinds.none : costKinds.zero;
    const sum = sumOf(session, Math.floor(at / quarterMs), model, kind);
    sum.taken ||= sign < 0;
    sum.sums[0] += sign;
    sum.sums[1] += sign * tokens[0];
    sum.sums[2] += sign * tokens[1];
    sum.sums[3] += sign * tokens[2];
    sum.sums[4] += sign * tokens[3];
    sum.sums[5] += sign * (cost ?? 0);
  }

  /** Counts a group, or takes it back. */
  function count(key: Key, copies: readonly Copy[], sign: 1 | -1): void {
    for (const [session, costs] of callsBySession(copies, sessionOf))
      for (const cost of costs) bump(session, key, cost, sign);
  }

  function copiesOf(agent: number, key: Key): Copy[] {
    const row = selectCall.get(agent, ...key);
    if (row === undefined) return [];
    return row['transcript'] === 0 ? selectCopies.all(agent, ...key).map(copyOf) : [copyOf(row)];
  }

  return {
    begin() {
      sessions.clear();
      models.clear();
      sums.clear();
      latest = undefined;
    },

    add({ transcript, session, agent }, call) {
      const { entry } = call;
      const cost = call.cost ?? null;
      const model = modelOf(call.provider, call.model);
      const key: Key = [call.at, model, call.input, call.output, call.cacheRead, call.cacheWrite];
      if (insertCall.run(agent, ...key, transcript, entry, cost).changes === 1) {
        bump(session, key, cost, 1);
        return;
      }
      const before = copiesOf(agent, key);
      const same = before.find((copy) => copy.transcript === transcript && copy.entry === entry);
      if (same !== undefined && (cost === null || (same.cost ?? -1) >= cost)) return;
      count(key, before, -1);
      const after = [...before.filter((copy) => copy !== same), { transcript, entry, cost }];
      if (after.length === 1) updateCall.run(transcript, entry, cost, agent, ...key);
      else {
        if (before.length === 1) {
          const [only] = before;
          if (only !== undefined) putCopy.run(agent, ...key, only.transcript, only.entry, only.cost);
          updateCall.run(0, '', null, agent, ...key);
        }
        putCopy.run(agent, ...key, transcript, entry, cost);
      }
      count(key, after, 1);
    },

    remove({ transcript, agent }) {
      for (const row of callsOf.all(transcript)) {
        const key = keyOf(row);
        count(key, [copyOf(row)], -1);
        deleteCall.run(agent, ...key);
      }
      for (const row of groupsOf.all(transcript)) {
        const key = keyOf(row);
        const before = copiesOf(agent, key);
        const after = before.filter((copy) => copy.transcript !== transcript);
        count(key, before, -1);
        deleteCopies.run(agent, ...key, transcript);
        const [only] = after;
        if (only === undefined) deleteCall.run(agent, ...key);
        else if (after.length === 1) {
          deleteCopies.run(agent, ...key, only.transcript);
          updateCall.run(only.transcript, only.entry, only.cost, agent, ...key);
        }
        count(key, after, 1);
      }
    },

    start(session, agent, at) {
      const keys = groupsOfSession.all(session).map(keyOf);
      for (const key of keys) count(key, copiesOf(agent, key), -1);
      updateStart.run(at, session);
      sessions.clear();
      for (const key of keys) count(key, copiesOf(agent, key), 1);
    },

    flush() {
      for (const { key, sums: added, taken } of sums.values()) {
        if (added.every((sum) => sum === 0)) continue;
        addRollup.run(...key, ...added);
        if (taken) dropRollup.run(...key);
      }
      sums.clear();
      latest = undefined;
    },
  };
}

/** The costs of the calls of one group that each session has. */
function callsBySession(
  copies: readonly Copy[],
  sessionOf: (transcript: number) => { id: number; name: string; start: number },
): Map<number, (number | null)[]> {
  const histories = new Map<number, Map<number, Set<string>>>();
  const order = new Map<number, { id: number; name: string; start: number }>();
  const costs = new Map<string, number | null>();
  for (const { transcript, entry, cost } of copies) {
    const session = sessionOf(transcript);
    order.set(session.id, session);
    let ofSession = histories.get(session.id);
    if (ofSession === undefined) histories.set(session.id, (ofSession = new Map()));
    let ids = ofSession.get(transcript);
    if (ids === undefined) ofSession.set(transcript, (ids = new Set()));
    ids.add(entry);
    costs.set(entry, greater(costs.get(entry) ?? null, cost));
  }
  const calls = new Map<number, (number | null)[]>();
  const earlier = new Set<string>();
  const sorted = [...order.values()].sort(
    (one, other) => compare(one.start, other.start) || compare(one.name, other.name),
  );
  for (const { id } of sorted) {
    const ofSession = [...(histories.get(id)?.values() ?? [])];
    const own = ofSession.map((ids) => [...ids].filter((entry) => !earlier.has(entry)));
    const held = Math.max(...ofSession.map((ids) => ids.size));
    const shared = Math.max(...ofSession.map((ids, nth) => ids.size - (own[nth]?.length ?? 0)));
    const ranked = own.map((ids) =>
      ids.map((entry) => costs.get(entry) ?? null).sort((one, other) => (other ?? -1) - (one ?? -1)),
    );
    calls.set(
      id,
      Array.from({ length: held - shared }, (_, nth) =>
        ranked.reduce<number | null>((most, list) => greater(most, list[nth] ?? null), null),
      ),
    );
    for (const ids of ofSession) for (const entry of ids) earlier.add(entry);
  }
  return calls;
}

function greater(one: number | null, other: number | null): number | null {
  return (other ?? -1) > (one ?? -1) ? other : one;
}

function compare<T extends number | string>(one: T, other: T): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

function keyOf(row: Record<string, SQLOutputValue>): Key {
  return [
    Number(row['at']),
    Number(row['model']),
    Number(row['input']),
    Number(row['output']),
    Number(row['cache_read']),
    Number(row['cache_write']),
  ];
}

function copyOf(row: Record<string, SQLOutputValue>): Copy {
  const cost = row['cost'];
  return {
    transcript: Number(row['transcript']),
    entry: String(row['entry']),
    cost: cost === null ? null : Number(cost),
  };
}
