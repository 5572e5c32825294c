import { NexusError } from '../errors.ts';
import { listAgent } from './agent.ts';
import { isObject, type Json } from './configfile.ts';
import type { AgentHome, State } from './locate.ts';
import { markerOf } from './message.ts';
import type { Place } from './source.ts';

export interface Sought {
  batch: string;
  /** When it was first sent, ms since 1970. */
  since: number;
}

/** Clocks and times of files are not exact. */
const slackMs = 60_000;
/** A look is for what came a short while ago; what lies beyond these is not found. */
const mostPlaces = 500;
const mostBytes = 64 * 1024 * 1024;

/**
 * Which of these batches the agent has answered, as its transcripts show: a message of a user that holds the batch's
 * marker and, further down in the same transcript, one of the assistant that ends its turn without an error. Reads the
 * transcripts that began since the first was sent, as each message begins one, the newest first, and passes over what
 * cannot be read: not found is not answered.
 */
export async function answeredBatches(
  state: State,
  agent: AgentHome,
  sought: readonly Sought[],
  now: number,
): Promise<Set<string>> {
  const answered = new Set<string>();
  if (sought.length === 0) return answered;
  const since = Math.min(...sought.map((one) => one.since)) - slackMs;
  const listing = await listAgent(state, agent, { everything: true, now, settleMs: 0 });
  const places = listing.places
    .filter(({ changedAt }) => changedAt >= since)
    .sort((a, b) => b.changedAt - a.changedAt)
    .slice(0, mostPlaces);
  let left = mostBytes;
  for (const place of places) {
    const missing = sought.filter(({ batch }) => !answered.has(batch)).map(({ batch }) => batch);
    if (missing.length === 0 || left <= 0) break;
    try {
      left -= await readPlace(place, missing, since, left, (batch) => answered.add(batch));
    } catch (error) {
      // It is being written, or closed to us: another look will tell, or the agent is told again.
      if (!(error instanceof NexusError)) throw error;
    }
  }
  return answered;
}

async function readPlace(
  place: Place,
  batches: readonly string[],
  since: number,
  most: number,
  found: (batch: string) => void,
): Promise<number> {
  const asked = new Set<string>();
  const bytes = await place.open();
  let read = 0;
  try {
    for await (const line of linesOf(bytes.pieces())) {
      read += line.length;
      if (read > most) break;
      if (read === line.length && beganBefore(line, since)) break;
      const named = batches.filter((batch) => line.includes(markerOf(batch)));
      if (named.length === 0 && (asked.size === 0 || !line.includes('"assistant"'))) continue;
      const message = messageOf(line);
      if (message?.['role'] === 'user') for (const batch of named) asked.add(batch);
      else if (message?.['role'] === 'assistant' && endsWell(message)) {
        for (const batch of asked) found(batch);
        asked.clear();
      }
    }
  } finally {
    await bytes.close();
  }
  return read;
}

const unfinished = ['error', 'aborted', 'toolUse'];

/** A turn that goes on after tools, was cut off or failed is no answer, nor is what OpenClaw says in its place. */
function endsWell(message: Json): boolean {
  return (
    message['provider'] !== 'openclaw' &&
    !unfinished.some((reason) => reason === message['stopReason']) &&
    message['errorMessage'] === undefined
  );
}

/** By the header, which is a transcript's first line. */
function beganBefore(line: Buffer, since: number): boolean {
  const header = entryIn(line);
  return header?.['type'] === 'session' && Date.parse(String(header['timestamp'])) < since;
}

function messageOf(line: Buffer): Json | undefined {
  const entry = entryIn(line);
  return entry?.['type'] === 'message' && isObject(entry['message']) ? entry['message'] : undefined;
}

function entryIn(line: Buffer): Json | undefined {
  try {
    const entry: unknown = JSON.parse(line.toString());
    return isObject(entry) ? entry : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function* linesOf(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Buffer> {
  let held: Buffer[] = [];
  for await (const piece of pieces) {
    // A piece is good only until the next is asked for.
    let rest = Buffer.from(piece);
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      yield Buffer.concat([...held, rest.subarray(0, end)]);
      held = [];
      rest = rest.subarray(end + 1);
    }
    if (rest.length > 0) held.push(rest);
  }
  if (held.length > 0) yield Buffer.concat(held);
}
