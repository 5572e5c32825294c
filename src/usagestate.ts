import type { DatabaseSync } from 'node:sqlite';
import type { About, Card } from './nexus.ts';
import { sessionOf } from './transcripts.ts';
import type { Counting, Place } from './usagecount.ts';
import type { Lines } from './usagelines.ts';
import type { Mail } from './usagemail.ts';

/** How far a transcript has been read. */
export interface State extends Place {
  length: number;
  complete: boolean;
  readTo: number;
  lines: number;
  /** The last bytes before `readTo`, as they were. */
  seam: Uint8Array;
  /** The last line was read without its newline, as that of a complete transcript. */
  tail: boolean;
  asked: boolean;
  headerAt: number | null;
  firstAt: number | null;
  key: string | null;
  trigger: string | null;
  host: string | null;
  unreadable: string | null;
}

/** What was read of a transcript from `from` on, to be taken up in one transaction. */
export interface Chunk {
  from: number;
  lines: Lines;
  seam: Uint8Array;
  tail: boolean;
  mail: Mail | undefined;
}

/** Rows of transcripts and sessions; all functions but `stateOf` run within a transaction that writes. */
export interface States {
  stateOf: (agent: string, name: string) => State | undefined;
  /** Makes what is not there. */
  made: (card: Pick<Card, 'agent' | 'transcript'>) => State;
  /** Notes what the card says. */
  described: (state: State, card: Card) => void;
  /** Notes what the card says, and takes up a chunk: the caller has compared where it begins. */
  apply: (state: State, card: Card, chunk: Chunk) => void;
  unreadable: (state: State, reason: string | null) => void;
  /** Takes back what was read, to read it again. */
  reset: (state: State) => void;
  /** The transcript is no longer stored. */
  drop: (state: State) => void;
}

/** The cron job in a session key: `agent:x:cron:<job>[:run:<id>]`. */
export function jobOf(key: string | null): string | null {
  return (key === null ? null : /^(?:agent:[^:]+:)?cron:([^:]+)/.exec(key)?.[1]) ?? null;
}

/**
 * Nexus tells an agent of its mail through OpenClaw's hook or command line. What looks like such a message and came by
 * another way, as in a chat where anybody may write, is not believed. Whether its items were ever received cannot be
 * asked: history is pruned, and an index that is begun anew has to come out the same.
 */
function isTold(trigger: string | null): boolean {
  return trigger === null || trigger === 'webhook' || trigger === 'operator' || trigger === 'unknown';
}

export function openStates(db: DatabaseSync, counting: Counting): States {
  const select = db.prepare(
    `SELECT t.*, s.agent AS agent_id FROM transcripts t JOIN sessions s ON s.id = t.session
     WHERE t.agent = ? AND t.name = ?`,
  );
  const selectAgent = db.prepare('SELECT id FROM agents WHERE name = ?');
  const insertAgent = db.prepare('INSERT INTO agents (name) VALUES (?)');
  const selectSession = db.prepare('SELECT id FROM sessions WHERE agent = ? AND name = ?');
  const insertSession = db.prepare('INSERT INTO sessions (agent, name) VALUES (?, ?)');
  const insertTranscript = db.prepare('INSERT INTO transcripts (session, agent, name) VALUES (?, ?, ?)');
  const describe = db.prepare(
    'UPDATE transcripts SET length = ?, complete = ?, key = ?, trigger = ?, host = ? WHERE id = ?',
  );
  // One statement: each that changes a text of a row sums all of them up anew.
  const advance = db.prepare(
    `UPDATE transcripts SET length = ?, complete = ?, key = ?, trigger = ?, host = ?,
       read_to = ?, lines = ?, seam = ?, tail = ?, asked = ?, unreadable = NULL,
       header_at = coalesce(header_at, ?), first_at = coalesce(first_at, ?),
       last_at = max(coalesce(last_at, 0), coalesce(?, 0)),
       batch = coalesce(batch, ?), source = coalesce(source, ?) WHERE id = ?`,
  );
  const forget = db.prepare(
    `UPDATE transcripts SET read_to = 0, lines = 0, seam = NULL, tail = 0, asked = 0, header_at = NULL,
       first_at = NULL, last_at = NULL, batch = NULL, source = NULL, unreadable = NULL WHERE id = ?`,
  );
  const setUnreadable = db.prepare('UPDATE transcripts SET unreadable = ? WHERE id = ?');
  const deleteTranscript = db.prepare('DELETE FROM transcripts WHERE id = ?');
  const deleteOdd = db.prepare('DELETE FROM odd WHERE transcript = ?');
  const deleteItems = db.prepare('DELETE FROM items WHERE transcript = ?');
  const addOdd = db.prepare(
    'INSERT INTO odd VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count',
  );
  const addItem = db.prepare('INSERT OR IGNORE INTO items VALUES (?, ?)');
  // X before X~2 before X~10.
  const histories = db.prepare(
    `SELECT key, trigger, host, batch, source, header_at, first_at, last_at FROM transcripts WHERE session = ?
     ORDER BY length(name), name`,
  );
  const selectStart = db.prepare('SELECT started_at FROM sessions WHERE id = ?');
  const updateSession = db.prepare(
    'UPDATE sessions SET ended_at = ?, key = ?, trigger = ?, host = ?, job = ?, batch = ?, source = ? WHERE id = ?',
  );
  const deleteSession = db.prepare('DELETE FROM sessions WHERE id = ?');

  function idOf(row: Record<string, unknown> | undefined, insert: () => number | bigint): number {
    return Number(row === undefined ? insert() : row['id']);
  }

  function stateOf(agent: string, name: string): State | undefined {
    const row = select.get(agent, name);
    if (row === undefined) return undefined;
    const seam = row['seam'];
    return {
      transcript: Number(row['id']),
      session: Number(row['session']),
      agent: Number(row['agent_id']),
      length: Number(row['length']),
      complete: row['complete'] === 1,
      readTo: Number(row['read_to']),
      lines: Number(row['lines']),
      seam: seam instanceof Uint8Array ? seam : new Uint8Array(),
      tail: row['tail'] === 1,
      asked: row['asked'] === 1,
      headerAt: numberOf(row['header_at']),
      firstAt: numberOf(row['first_at']),
      key: textOf(row['key']),
      trigger: textOf(row['trigger']),
      host: textOf(row['host']),
      unreadable: textOf(row['unreadable']),
    };
  }

  /** Gives a session what its histories say of it: the first that says it. */
  function refresh({ session, agent }: Place): void {
    const rows = histories.all(session);
    if (rows.length === 0) {
      deleteSession.run(session);
      return;
    }
    const first = (field: string): string | null =>
      textOf(rows.map((row) => row[field]).find((value) => value !== null));
    const starts = rows
      .map((row) => numberOf(row['header_at']) ?? numberOf(row['first_at']))
      .filter((at) => at !== null);
    const ends = rows.map((row) => numberOf(row['last_at']) ?? 0).filter((at) => at > 0);
    const start = starts.length === 0 ? null : Math.min(...starts);
    if (selectStart.get(session)?.['started_at'] !== start) counting.start(session, agent, start);
    const trigger = first('trigger');
    const batch = isTold(trigger) ? first('batch') : null;
    updateSession.run(
      ends.length === 0 ? null : Math.max(...ends),
      first('key'),
      batch === null ? trigger : 'webhook',
      first('host'),
      jobOf(first('key')),
      batch,
      batch === null ? null : first('source'),
      session,
    );
  }

  /** True where the card says another thing of the session than it did. */
  function note(state: State, card: Said): boolean {
    const said = saidBy(card);
    const [, , key, trigger, host] = said;
    describe.run(...said, state.transcript);
    return key !== state.key || trigger !== state.trigger || host !== state.host;
  }

  function takeBack(state: State): void {
    counting.remove(state);
    deleteOdd.run(state.transcript);
    deleteItems.run(state.transcript);
  }

  return {
    stateOf,

    made(card) {
      const known = stateOf(card.agent, card.transcript);
      if (known !== undefined) return known;
      const agent = idOf(selectAgent.get(card.agent), () => insertAgent.run(card.agent).lastInsertRowid);
      const name = sessionOf(card.transcript);
      const session = idOf(
        selectSession.get(agent, name),
        () => insertSession.run(agent, name).lastInsertRowid,
      );
      const { lastInsertRowid } = insertTranscript.run(session, card.agent, card.transcript);
      return { ...unread, transcript: Number(lastInsertRowid), session, agent };
    },

    described(state, card) {
      if (note(state, card)) refresh(state);
    },

    apply(state, card, { lines, from, seam, tail, mail }) {
      const asked = state.asked || lines.asked !== undefined;
      advance.run(
        ...saidBy(card),
        from + lines.bytes,
        state.lines + lines.lines,
        seam,
        tail ? 1 : 0,
        asked ? 1 : 0,
        lines.headerAt ?? null,
        lines.firstAt ?? null,
        lines.lastAt ?? null,
        mail?.batch ?? null,
        mail?.source ?? null,
        state.transcript,
      );
      for (const item of mail?.items ?? []) addItem.run(state.transcript, item);
      for (const [kind, { count, line }] of lines.odd) addOdd.run(state.transcript, kind, count, line);
      refresh(state);
      for (const call of lines.calls) counting.add(state, call);
    },

    unreadable(state, reason) {
      setUnreadable.run(reason, state.transcript);
    },

    reset(state) {
      takeBack(state);
      forget.run(state.transcript);
      refresh(state);
    },

    drop(state) {
      takeBack(state);
      deleteTranscript.run(state.transcript);
      refresh(state);
    },
  };
}

/** A row as it is made. */
const unread: Omit<State, keyof Place> = {
  length: 0,
  complete: false,
  readTo: 0,
  lines: 0,
  seam: new Uint8Array(),
  tail: false,
  asked: false,
  headerAt: null,
  firstAt: null,
  key: null,
  trigger: null,
  host: null,
  unreadable: null,
};

type Said = Pick<Card, 'length' | 'complete' | keyof About>;

/** As `describe` and `advance` take it. */
function saidBy({ length, complete, sessionKey, trigger, host }: Said) {
  return [length, complete ? 1 : 0, sessionKey ?? null, trigger ?? null, host ?? null] as const;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}
