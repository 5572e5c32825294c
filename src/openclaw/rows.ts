import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { NexusError } from '../errors.ts';
import { transcriptOf } from '../transcripts.ts';
import { coldPieces, inOne, slices } from './cold.ts';
import { type AgentDatabase, openAgentDatabase, rowsOf, type SqlValue } from './database.ts';
import { openEventRows } from './eventrows.ts';
import { prunedAt, type Retention } from './retention.ts';
import { triggerOfKey } from './sessionkey.ts';
import { isQuiet, type Bytes, type ListRequest, type Place } from './source.ts';
import { decompressed, fixedBytes } from './zstd.ts';

/** What the database says of one file in `cold/`. */
export interface ColdRow {
  place: Omit<Place, 'open' | 'place' | 'size'>;
  sha256: string;
  events: number;
}

export interface RowListing {
  places: Place[];
  /** Cold archives kept as files, by their names. */
  cold: Map<string, ColdRow>;
}

type SqlRow = Record<string, SqlValue>;

interface Session {
  sessionKey?: string;
  trigger?: string;
  /** `undefined`: the tables that would tell are not there. */
  current: boolean | undefined;
  generation: string;
  changedAt: number;
}

/**
 * Lists the transcripts of one database: rows, archive rows and cold archives. `undefined` when there is no
 * database, or none with transcripts in it (releases before 2026.8 kept other things there). Only keys, counts and
 * times are read, in one snapshot. Errors as `openAgentDatabase`.
 */
export function listRows(
  agent: string,
  path: string,
  request: ListRequest,
  retention: Retention,
): RowListing | undefined {
  const database = openAgentDatabase(path);
  if (database === undefined) return undefined;
  try {
    if (database.columns('transcript_events').size === 0) return undefined;
    return database.snapshot(() => {
      const sessions = sessionsOf(database, path);
      const cold = coldOf(database, path, agent, sessions, request, retention);
      return {
        places: [
          ...eventPlaces(database, path, agent, sessions, request, retention),
          ...archivePlaces(database, path, agent),
          ...cold.places,
        ],
        cold: cold.files,
      };
    });
  } finally {
    database.close();
  }
}

/** Which transcripts are current, when they changed, and what started them; by session id. */
function sessionsOf(database: AgentDatabase, path: string): (sessionId: string) => Session {
  const windows = newer(database, 'session_windows', 'sessions');
  const nodes = newer(database, 'session_nodes', 'session_entries');
  const current = nodes.columns.has('current_session_id') ? 'current_session_id' : 'session_id';
  const nodeRows = select(database, nodes, ['session_key', current, 'entry_valid', 'created_via']);
  const byKey = new Map(nodeRows.map((row) => [String(row['session_key']), row]));
  const keysOfCurrent = new Map<string, string>();
  const active = new Set<string>();
  for (const row of nodeRows) {
    const id = String(row[current]);
    // -1: the entry was deleted and its events were kept.
    if (row['entry_valid'] !== -1) active.add(id);
    if (!keysOfCurrent.has(id)) keysOfCurrent.set(id, String(row['session_key']));
  }
  const windowRows = select(database, windows, [
    'session_id',
    'session_key',
    'transcript_updated_at',
    'updated_at',
    'hook_external_content_source',
  ]);
  const byId = new Map(windowRows.map((row) => [String(row['session_id']), row]));
  const marks = {
    name: 'transcript_rewrite_watermarks',
    columns: database.columns('transcript_rewrite_watermarks'),
  };
  const markRows = select(database, marks, ['session_id', 'generation', 'updated_at']);
  const generations = new Map(markRows.map((row) => [String(row['session_id']), row]));
  const fileChangedAt = lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const told = nodes.columns.size > 0;

  return (sessionId) => {
    const window = byId.get(sessionId);
    const mark = generations.get(sessionId);
    const key = text(window?.['session_key']) ?? keysOfCurrent.get(sessionId);
    const node = key === undefined ? undefined : byKey.get(key);
    const changes = [window?.['transcript_updated_at'], mark?.['updated_at']].map(time);
    const known = changes.filter((at) => at !== undefined);
    return {
      ...(key === undefined ? {} : { sessionKey: key }),
      trigger: triggerOf(key, text(node?.['created_via']), text(window?.['hook_external_content_source'])),
      current: told ? active.has(sessionId) : undefined,
      generation: text(mark?.['generation']) ?? '',
      changedAt: known.length > 0 ? Math.max(...known) : (time(window?.['updated_at']) ?? fileChangedAt),
    };
  };
}

function triggerOf(
  key: string | undefined,
  createdVia: string | undefined,
  hook: string | undefined,
): string {
  if (hook !== undefined) return 'webhook';
  const byKey = key === undefined ? 'operator' : triggerOfKey(key);
  if (byKey !== 'operator') return byKey;
  if (createdVia === 'spawn') return 'subagent';
  return createdVia === 'cron' || createdVia === 'channel' || createdVia === 'run' ? createdVia : 'operator';
}

function eventPlaces(
  database: AgentDatabase,
  path: string,
  agent: string,
  sessions: (sessionId: string) => Session,
  request: ListRequest,
  retention: Retention,
): Place[] {
  // The key alone answers this, so that no transcript is read for it.
  const counted = rowsOf(
    database.db.prepare(
      'SELECT session_id, max(seq) AS last, count(*) AS events FROM transcript_events GROUP BY session_id',
    ),
  );
  const all = counted.reduce((sum, row) => sum + Number(row['events']), 0);
  const bytesOfEvent = (lstatSync(path, { throwIfNoEntry: false })?.size ?? 0) / Math.max(1, all);
  return counted.map((row) => {
    const sessionId = String(row['session_id']);
    const session = sessions(sessionId);
    return {
      ...placeOf(agent, 'rows', sessionId, session, request, retention),
      place: `${path}#rows/${sessionId}`,
      signature: [session.generation, row['last'], row['events'], session.changedAt].join(':'),
      size: Math.round(bytesOfEvent * Number(row['events'])),
      open: async () => openEventRows(path, sessionId),
    };
  });
}

function placeOf(
  agent: string,
  kind: 'rows' | 'cold',
  sessionId: string,
  session: Session,
  request: ListRequest,
  retention: Retention,
): Omit<Place, 'open' | 'place' | 'signature' | 'size'> {
  const quiet = isQuiet(session.changedAt, request.now, request.settleMs);
  const { sessionKey, trigger, changedAt } = session;
  return {
    agent,
    kind,
    era: 'sqlite',
    transcript: transcriptOf(sessionId),
    sessionId,
    complete: session.current === undefined ? undefined : !session.current && quiet,
    busy: false,
    changedAt,
    prunedAt: prunedAt(retention, { kind, era: 'sqlite', changedAt, sessionKey }),
    about: {
      ...(sessionKey === undefined ? {} : { sessionKey }),
      ...(trigger === undefined ? {} : { trigger }),
    },
    movable: undefined,
  };
}

function archivePlaces(database: AgentDatabase, path: string, agent: string): Place[] {
  const columns = database.columns('session_transcript_archives');
  if (columns.size === 0) return [];
  return rowsOf(
    database.db.prepare(
      `SELECT session_id, generation, session_key, archive_sha256, created_at, length(archive_blob) AS size
       FROM session_transcript_archives`,
    ),
  ).map((row) => {
    const sessionId = String(row['session_id']);
    const generation = String(row['generation']);
    const sessionKey = String(row['session_key']);
    return {
      agent,
      kind: 'archive-row',
      era: 'sqlite',
      transcript: transcriptOf(sessionId),
      sessionId,
      place: `${path}#archives/${sessionId}/${generation}`,
      signature: `${generation}:${String(row['archive_sha256'])}`,
      complete: true,
      busy: false,
      movable: undefined,
      prunedAt: undefined,
      changedAt: time(row['created_at']) ?? 0,
      size: Number(row['size']),
      about: { sessionKey, trigger: triggerOfKey(sessionKey) },
      open: async () => openArchiveRow(path, sessionId, generation),
    };
  });
}

function coldOf(
  database: AgentDatabase,
  path: string,
  agent: string,
  sessions: (sessionId: string) => Session,
  request: ListRequest,
  retention: Retention,
): { places: Place[]; files: Map<string, ColdRow> } {
  const found = { places: [] as Place[], files: new Map<string, ColdRow>() };
  if (database.columns('session_transcript_cold_archives').size === 0) return found;
  const rows = rowsOf(
    database.db.prepare(
      `SELECT session_id, generation, archive_name, archive_sha256, event_count, last_seq, raw_bytes, storage
       FROM session_transcript_cold_archives`,
    ),
  );
  for (const row of rows) {
    const sessionId = String(row['session_id']);
    const sha256 = String(row['archive_sha256']);
    const events = Number(row['event_count']);
    const place = {
      ...placeOf(agent, 'cold', sessionId, sessions(sessionId), request, retention),
      signature: [row['generation'], sha256, row['last_seq'], events].join(':'),
    };
    if (row['storage'] === 'file') found.files.set(String(row['archive_name']), { place, sha256, events });
    else
      found.places.push({
        ...place,
        place: `${path}#cold/${sessionId}`,
        size: Number(row['raw_bytes']),
        open: async () => openColdRow(path, { sessionId, sha256, events }),
      });
  }
  return found;
}

/** An archive's blob is read at once: SQLite gives a value whole or not at all. */
function openArchiveRow(path: string, sessionId: string, generation: string): Bytes {
  const what = `${path}#archives/${sessionId}/${generation}`;
  const { row, blob } = readBlob(
    path,
    what,
    `SELECT encoding, archive_blob, archive_sha256 FROM session_transcript_archives
     WHERE session_id = ? AND generation = ?`,
    [sessionId, generation],
  );
  if (row['encoding'] === 'zstd') return fixedBytes(() => decompressed(inOne(blob), what));
  if (row['encoding'] !== 'identity')
    throw new NexusError(
      'corrupt',
      `${what} has an encoding that is not understood: ${String(row['encoding'])}.`,
    );
  return fixedBytes(async function* () {
    yield* slices(blob);
  });
}

function openColdRow(path: string, facts: { sessionId: string; sha256: string; events: number }): Bytes {
  const what = `${path}#cold/${facts.sessionId}`;
  const { blob } = readBlob(
    path,
    what,
    'SELECT archive_blob, archive_sha256 FROM session_transcript_cold_archives WHERE session_id = ? AND archive_sha256 = ?',
    [facts.sessionId, facts.sha256],
  );
  return fixedBytes(() => coldPieces(blob, facts, what));
}

function readBlob(
  path: string,
  what: string,
  sql: string,
  keys: string[],
): { row: SqlRow; blob: Uint8Array } {
  const database = openAgentDatabase(path);
  try {
    const [row] = database?.snapshot(() => rowsOf(database.db.prepare(sql), ...keys)) ?? [];
    const blob = row?.['archive_blob'];
    if (row === undefined || !(blob instanceof Uint8Array))
      throw new NexusError('changed', `${what} vanished since it was listed.`, {
        hint: 'The next run takes it up.',
      });
    if (createHash('sha256').update(blob).digest('hex') !== row['archive_sha256'])
      throw new NexusError('corrupt', `${what} is not what its SHA-256 says.`, {
        hint: 'Check it with: openclaw doctor',
      });
    return { row, blob };
  } finally {
    database?.close();
  }
}

interface Table {
  name: string;
  columns: Set<string>;
}

/** Schemas 8 to 13 called some tables otherwise. */
function newer(database: AgentDatabase, name: string, old: string): Table {
  const columns = database.columns(name);
  return columns.size > 0 ? { name, columns } : { name: old, columns: database.columns(old) };
}

/** All rows, with those of the columns that this schema has. */
function select(database: AgentDatabase, table: Table, wanted: readonly string[]): SqlRow[] {
  const there = wanted.filter((column) => table.columns.has(column));
  return there.length === 0
    ? []
    : rowsOf(database.db.prepare(`SELECT ${there.join(', ')} FROM ${table.name}`));
}

function text(value: SqlValue | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** After the year 9999. */
const afterTime = 253_402_300_800_000;

/** ms since 1970; `undefined` for what is no time that could be. */
function time(value: SqlValue | undefined): number | undefined {
  return typeof value === 'number' && value >= 0 && value < afterTime ? value : undefined;
}
