import { createHash } from 'node:crypto';
import { NexusError } from '../errors.ts';
import { isObject, type Json } from './configfile.ts';
import { openPlainFile, type SeenFile } from './plainfile.ts';
import type { Bytes } from './source.ts';
import { decompressed, openCompressedFile } from './zstd.ts';

/** What a cold archive must turn out to hold. */
export interface ColdFacts {
  sessionId: string;
  /** SHA-256 of the compressed bytes. */
  sha256: string;
  /** Absent for a file that no row speaks of. */
  events?: number;
}

// OpenClaw refuses to write envelopes larger than this, so no line can be.
const longestLine = 64 * 1024 * 1024;
const flushBytes = 256 * 1024;

// The same session's other tables, which are no part of the transcript.
const otherKinds = new Set(['identity', 'active', 'index', 'fts']);

/**
 * A file of `cold/`, opened as the transcript in its envelope. The whole file is read once for its digest first,
 * so that nothing of a damaged one is ever shipped.
 */
export async function openColdFile(seen: SeenFile, facts: ColdFacts): Promise<Bytes> {
  const compressed = await openPlainFile(seen, true);
  const hash = createHash('sha256');
  try {
    for await (const piece of compressed.pieces()) hash.update(piece);
  } finally {
    await compressed.close();
  }
  if (hash.digest('hex') !== facts.sha256)
    throw new NexusError('corrupt', `${seen.path} is not what its SHA-256 says.`);
  const bytes = await openCompressedFile(seen);
  return { ...bytes, pieces: () => transcriptOfEnvelope(bytes.pieces(), facts, seen.path) };
}

/** The transcript of a cold archive that is already in memory. */
export function coldPieces(blob: Uint8Array, facts: ColdFacts, what: string): AsyncIterable<Uint8Array> {
  return transcriptOfEnvelope(decompressed(inOne(blob), what), facts, what);
}

/** The session id in an envelope's header. */
export async function sessionOfColdFile(seen: SeenFile): Promise<string> {
  const bytes = await openCompressedFile(seen);
  try {
    for await (const line of lines(bytes.pieces(), seen.path)) {
      const header = parse(line, seen.path);
      if (header['kind'] === 'header' && typeof header['sessionId'] === 'string') return header['sessionId'];
      break;
    }
  } finally {
    await bytes.close();
  }
  throw new NexusError('corrupt', `${seen.path} does not begin with the header of a cold archive.`);
}

/** One piece, as a stream. */
export async function* inOne(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** `row.event_json` of the `event` lines, each with a newline; whatever is not understood is `corrupt`. */
async function* transcriptOfEnvelope(
  source: AsyncIterable<Uint8Array>,
  facts: ColdFacts,
  what: string,
): AsyncGenerator<Uint8Array> {
  const broken = (how: string) => new NexusError('corrupt', `The cold archive ${what} ${how}.`);
  let events = 0;
  let lastSeq = -Infinity;
  let first = true;
  let waiting: string[] = [];
  let waitingLength = 0;
  for await (const line of lines(source, what)) {
    const record = parse(line, what);
    if (first) {
      if (record['kind'] !== 'header' || record['version'] !== 1) throw broken('has no header of version 1');
      if (record['sessionId'] !== facts.sessionId) throw broken('is of another session');
      first = false;
      continue;
    }
    if (record['kind'] !== 'event') {
      if (!otherKinds.has(String(record['kind']))) throw broken(`has lines of an unknown kind`);
      continue;
    }
    const row = record['row'];
    if (!isObject(row) || typeof row['event_json'] !== 'string' || typeof row['seq'] !== 'number')
      throw broken('has an event without its text');
    if (row['seq'] <= lastSeq) throw broken('has its events out of order');
    lastSeq = row['seq'];
    events++;
    waiting.push(row['event_json'], '\n');
    waitingLength += row['event_json'].length;
    if (waitingLength < flushBytes) continue;
    yield* slices(Buffer.from(waiting.join(''), 'utf8'));
    waiting = [];
    waitingLength = 0;
  }
  if (first) throw broken('is empty');
  if (facts.events !== undefined && events !== facts.events)
    throw broken(`has ${events} events instead of ${facts.events}`);
  yield* slices(Buffer.from(waiting.join(''), 'utf8'));
}

/** Pieces of at most 1 MiB. */
export function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  const size = 1024 * 1024;
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function* lines(source: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<string> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const piece of source) {
    let from = 0;
    for (let at = piece.indexOf(0x0a); at >= 0; at = piece.indexOf(0x0a, from)) {
      parts.push(piece.subarray(from, at));
      yield Buffer.concat(parts).toString('utf8');
      parts = [];
      length = 0;
      from = at + 1;
    }
    if (from === piece.length) continue;
    parts.push(piece.subarray(from));
    length += piece.length - from;
    if (length > longestLine)
      throw new NexusError('corrupt', `${what} has a line of more than ${longestLine} bytes.`);
  }
  if (length > 0) yield Buffer.concat(parts).toString('utf8');
}

function parse(line: string, what: string): Json {
  try {
    const record: unknown = JSON.parse(line);
    if (isObject(record)) return record;
  } catch (error) {
    throw new NexusError('corrupt', `The cold archive ${what} has a line that is no JSON.`, { cause: error });
  }
  throw new NexusError('corrupt', `The cold archive ${what} has a line that is no JSON object.`);
}
