import { zstdDecompressSync } from 'node:zlib';
import { NexusError } from '../errors.ts';
import { slices } from './cold.ts';
import { type AgentDatabase, openAgentDatabase, plainRow, type SqlValue } from './database.ts';
import type { Bytes } from './source.ts';

/** A page holds no more rows once it has this many bytes; a single event may be larger. */
const pageBytes = 4 * 1024 * 1024;
const pageRows = 2000;
const flushBytes = 512 * 1024;

interface Event {
  seq: number;
  text: SqlValue | undefined;
  zstd: SqlValue | undefined;
  length: SqlValue | undefined;
}

/**
 * The rows of one session as they are now, each event's text and a newline, in order of `seq`. They are read in
 * pages, a short transaction each, so that the gateway is never held up; what it adds meanwhile is left for the next
 * time. `changed` when the session vanishes or is rewritten, `corrupt` when a compressed event has not its length.
 */
export function openEventRows(path: string, sessionId: string): Bytes {
  const what = `${path}#rows/${sessionId}`;
  const database = openAgentDatabase(path);
  if (database === undefined) throw changed(what, 'vanished since it was listed');
  try {
    return bytesOf(database, sessionId, what);
  } catch (error) {
    database.close();
    throw error;
  }
}

function bytesOf(database: AgentDatabase, sessionId: string, what: string): Bytes {
  const { db } = database;
  const columns = database.columns('transcript_events');
  const column = (name: string) => (columns.has(name) ? name : `NULL AS ${name}`);
  const encoding = db.prepare('PRAGMA encoding').get()?.['encoding'];
  if (encoding !== 'UTF-8')
    throw new NexusError('corrupt', `${what} is kept as ${String(encoding)}, which OpenClaw never does.`);
  // As a blob: the bytes that are there, whether or not they are valid UTF-8.
  const page = db.prepare(
    `SELECT seq, CAST(event_json AS BLOB) AS text, ${column('event_zstd')}, ${column('event_utf8_bytes')}
     FROM transcript_events WHERE session_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ${pageRows}`,
  );
  const counted = db.prepare(
    'SELECT count(*) AS events FROM transcript_events WHERE session_id = ? AND seq <= ?',
  );
  const bounds = db.prepare(
    'SELECT min(seq) AS first, max(seq) AS last FROM transcript_events WHERE session_id = ?',
  );
  for (const statement of [page, bounds]) statement.setReadBigInts(true);
  const mark =
    database.columns('transcript_rewrite_watermarks').size > 0
      ? db.prepare('SELECT generation FROM transcript_rewrite_watermarks WHERE session_id = ?')
      : undefined;
  mark?.setReadBigInts(true);
  const generation = () => {
    const value = mark?.get(sessionId)?.['generation'];
    // Compared with another reading of it: bytes are then others though they are the same.
    return value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value;
  };

  const first = database.snapshot(() => ({
    generation: generation(),
    bounds: plainRow(bounds.get(sessionId) ?? {}),
  }));
  const { first: begin = null, last: end = null } = first.bounds;
  if (end === null) throw changed(what, 'vanished since it was listed');
  if (!isPlace(begin) || !isPlace(end))
    throw new NexusError('corrupt', `${what} has a place among its events that OpenClaw never gives.`, {
      hint: 'Check it with: openclaw doctor',
    });
  let lastRead = -Infinity;
  let read = 0;

  const sameGeneration = () => {
    if (generation() !== first.generation) throw changed(what, 'was rewritten while it was read');
  };
  /** Also finds what was taken away without another generation. */
  const check = () => {
    sameGeneration();
    const events = read === 0 ? 0 : counted.get(sessionId, lastRead)?.['events'];
    if (events !== read) throw changed(what, 'was shortened while it was read');
  };
  const nextPage = (): Event[] =>
    database.snapshot(() => {
      // Counting all again for each page is for schemas that have no generations.
      if (mark === undefined) check();
      else sameGeneration();
      const events: Event[] = [];
      let bytes = 0;
      const from = read === 0 ? Number.MIN_SAFE_INTEGER : lastRead;
      for (const found of page.iterate(sessionId, from, end)) {
        const row = plainRow(found);
        const event = {
          seq: Number(row['seq']),
          text: row['text'],
          zstd: row['event_zstd'],
          length: row['event_utf8_bytes'],
        };
        events.push(event);
        bytes += sizeOf(event);
        if (bytes >= pageBytes) break;
      }
      return events;
    });

  return {
    async *pieces() {
      while (lastRead < end) {
        const events = nextPage();
        if (events.length === 0) throw changed(what, 'was shortened while it was read');
        read += events.length;
        lastRead = events.at(-1)?.seq ?? lastRead;
        yield* textOf(events, what);
      }
    },
    async unchanged() {
      database.snapshot(check);
    },
    async close() {
      database.close();
    },
  };
}

function* textOf(events: readonly Event[], what: string): Generator<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let length = 0;
  for (const event of events) {
    const text = plainText(event, what);
    waiting.push(text, newline);
    length += text.length + 1;
    if (length < flushBytes) continue;
    yield* slices(Buffer.concat(waiting));
    waiting = [];
    length = 0;
  }
  if (length > 0) yield* slices(Buffer.concat(waiting));
}

const newline = Buffer.from('\n');

function plainText(event: Event, what: string): Uint8Array {
  if (event.text instanceof Uint8Array) return event.text;
  const { zstd, length } = event;
  const broken = (cause?: unknown) =>
    new NexusError('corrupt', `Event ${event.seq} of ${what} does not decompress to its length.`, { cause });
  if (!(zstd instanceof Uint8Array) || typeof length !== 'number') throw broken();
  let text: Uint8Array;
  try {
    text = zstdDecompressSync(zstd, { maxOutputLength: Math.max(1, length) });
  } catch (error) {
    throw broken(error);
  }
  if (text.length !== length) throw broken();
  return text;
}

function sizeOf(event: Event): number {
  const bytes = (value: SqlValue | undefined) => (value instanceof Uint8Array ? value.length : 0);
  return bytes(event.text) + Math.max(bytes(event.zstd), typeof event.length === 'number' ? event.length : 0);
}

/** A number that orders events. */
function isPlace(seq: SqlValue): seq is number {
  return Number.isSafeInteger(seq);
}

function changed(what: string, how: string): NexusError {
  return new NexusError('changed', `${what} ${how}.`, { hint: 'The next run takes it up.' });
}
