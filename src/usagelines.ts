import { type Call, callOf, isObject, type Json, type Oddity, timeOf } from './usagerecord.ts';

/** What was read of a transcript's lines since the last `take`. */
export interface Lines {
  calls: Call[];
  /** Bytes of whole lines, and how many lines they are. */
  bytes: number;
  lines: number;
  /** Time of the first header, of the first header or message that has one, and the latest of those; ms since 1970. */
  headerAt: number | undefined;
  firstAt: number | undefined;
  lastAt: number | undefined;
  /** By kind: how often, and the number of the first such line. */
  odd: Map<Oddity, { count: number; line: number }>;
  /** The text of the transcript's first message of a user. */
  asked: string | undefined;
}

const seamBytes = 32;

/** A longer line is not held in memory: many transcripts are read at once. */
export const longestLine = 16 * 1024 * 1024;

const newline = 10;
const quote = 34;
const backslash = 92;
const closing = 125;

const typeKey = Buffer.from('{"type":"');
const messageStart = Buffer.from('{"type":"message","id":"');
const parentKey = Buffer.from(',"parentId":');
const nullText = Buffer.from('null');
const timeKey = Buffer.from(',"timestamp":"');
const roleKey = Buffer.from(',"message":{"role":"');
const assistant = Buffer.from('assistant"');
const user = Buffer.from('user"');
const message = Buffer.from('message"');
const session = Buffer.from('session"');

/** Whether a line must be parsed, by its first bytes. */
type Kind = 'parse' | 'user' | 'skip';

/**
 * Reads a transcript's lines from pieces of it, the first of which begins a line. Only lines that can carry usage are
 * parsed. OpenClaw writes a record's keys in the order of their making, so a line's first bytes say what it is:
 * `{"type":"message","id":…,"parentId":…,"timestamp":…,"message":{"role":"…"`, or `{"type":"…"` of another type. What
 * begins otherwise is parsed whole. Also parsed is a line in which another message begins, which inside a text would be
 * `{\"type\":…`, and what does not end as an object: a line that a crash has torn, with the next one behind it, is found
 * out that way. One that is torn and has no call behind it is not looked into, and may pass for whole. Times after
 * `latest` are none.
 */
export function readLines(before: { lines: number; asked: boolean; latest?: number }): {
  read: (piece: Uint8Array) => void;
  /** Takes what waits for its newline as the last line. */
  end: () => void;
  take: () => Lines;
  /** Bytes of the line that waits for its newline. */
  waiting: () => number;
  /** Calls since the last `take`. */
  calls: () => number;
  /** The last bytes of the whole lines that were read, a few of them. */
  seam: () => Buffer;
} {
  const latest = before.latest ?? Number.POSITIVE_INFINITY;
  let line = before.lines;
  let asked = before.asked;
  let lines = empty();
  let held: Buffer[] = [];
  let heldBytes = 0;
  let tooLong = false;
  let seam = Buffer.alloc(0);

  function odd(kind: Oddity): void {
    const known = lines.odd.get(kind);
    if (known === undefined) lines.odd.set(kind, { count: 1, line });
    else known.count++;
  }

  function parse(bytes: Buffer, from: number, to: number): void {
    const record = recordIn(bytes.toString('utf8', from, to));
    if (record === undefined) {
      odd('unparsable');
      return;
    }
    const at = timeOf(record['timestamp'], latest);
    if (record['type'] === 'session') lines.headerAt ??= at;
    // Others are not looked into unless they happen to say "usage".
    if (record['type'] === 'session' || record['type'] === 'message') seen(at);
    const call = callOf(record, odd, latest);
    if (call !== undefined) lines.calls.push(call);
    else if (!asked) askedIn(record);
  }

  function askedIn(record: Json): void {
    const { message } = record;
    if (record['type'] !== 'message' || !isObject(message) || message['role'] !== 'user') return;
    asked = true;
    lines.asked = textOf(message['content']);
  }

  function seen(at: number | undefined): void {
    if (at === undefined) return;
    lines.firstAt ??= at;
    lines.lastAt = Math.max(lines.lastAt ?? at, at);
  }

  /** Lines of `bytes` that end in it; answers where the rest begins. */
  function readWhole(bytes: Buffer): number {
    let from = 0;
    let further = -1;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, from)) {
      line++;
      lines.lines++;
      const to = trimmed(bytes, from, end);
      if (to > from) {
        time.from = -1;
        const kind = kindOf(bytes, from, to);
        const skip = kind === 'skip' || (kind === 'user' && asked);
        if (skip && further <= from) further = indexOr(bytes, messageStart, from + 1);
        if (!skip || further < to) parse(bytes, from, to);
        else if (time.from !== -1) seen(timeIn(bytes, time, latest));
      }
      lines.bytes += end + 1 - from;
      from = end + 1;
    }
    if (from > 0) seam = Buffer.from(bytes.subarray(Math.max(0, from - seamBytes), from));
    return from;
  }

  function hold(rest: Buffer): void {
    heldBytes += rest.length;
    if (tooLong || rest.length === 0) return;
    if (heldBytes > longestLine) {
      tooLong = true;
      held = [];
    } else held.push(Buffer.from(rest));
  }

  function release(): void {
    held = [];
    heldBytes = 0;
    tooLong = false;
  }

  return {
    read(piece) {
      let bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      if (heldBytes > 0) {
        const end = bytes.indexOf(newline);
        if (end === -1) {
          hold(bytes);
          return;
        }
        if (tooLong) {
          line++;
          lines.lines++;
          lines.bytes += heldBytes + end + 1;
          seam = Buffer.from('\n');
          odd('too_long');
        } else readWhole(Buffer.concat([...held, bytes.subarray(0, end + 1)]));
        release();
        bytes = bytes.subarray(end + 1);
      }
      hold(bytes.subarray(readWhole(bytes)));
    },
    end() {
      if (heldBytes === 0) return;
      const bytes = heldBytes;
      if (tooLong) {
        line++;
        lines.lines++;
        odd('too_long');
        lines.bytes += bytes;
      } else {
        readWhole(Buffer.concat([...held, Buffer.from('\n')]));
        lines.bytes--;
      }
      release();
    },
    take() {
      const taken = lines;
      lines = empty();
      return taken;
    },
    waiting: () => heldBytes,
    calls: () => lines.calls.length,
    seam: () => seam,
  };
}

function empty(): Lines {
  return {
    calls: [],
    bytes: 0,
    lines: 0,
    headerAt: undefined,
    firstAt: undefined,
    lastAt: undefined,
    odd: new Map(),
    asked: undefined,
  };
}

interface Time {
  from: number;
  to: number;
}

/** Where the time stood in the line that `kindOf` looked at last: one object, so that a line makes none. */
const time: Time = { from: -1, to: -1 };

function kindOf(bytes: Buffer, from: number, to: number): Kind {
  if (bytes[to - 1] !== closing) return 'parse';
  if (!begins(bytes, from, to, messageStart)) {
    if (!begins(bytes, from, to, typeKey)) return 'parse';
    const word = from + typeKey.length;
    if (begins(bytes, word, to, message) || begins(bytes, word, to, session)) return 'parse';
    return closed(bytes, word, to) === -1 ? 'parse' : 'skip';
  }
  let at = closed(bytes, from + messageStart.length, to);
  if (at === -1 || !begins(bytes, at, to, parentKey)) return 'parse';
  at += parentKey.length;
  if (begins(bytes, at, to, nullText)) at += nullText.length;
  else if (bytes[at] === quote) at = closed(bytes, at + 1, to);
  else return 'parse';
  if (at === -1 || !begins(bytes, at, to, timeKey)) return 'parse';
  const timeFrom = at + timeKey.length;
  at = closed(bytes, timeFrom, to);
  if (at === -1 || !begins(bytes, at, to, roleKey)) return 'parse';
  const role = at + roleKey.length;
  if (begins(bytes, role, to, assistant) || closed(bytes, role, to) === -1) return 'parse';
  time.from = timeFrom;
  time.to = at - 1;
  return begins(bytes, role, to, user) ? 'user' : 'skip';
}

/** Right behind the quote that ends the text at `from`; -1 where that is long or has escapes. */
function closed(bytes: Buffer, from: number, to: number): number {
  const most = Math.min(to, from + 200);
  for (let at = from; at < most; at++) {
    const byte = bytes[at];
    if (byte === quote) return at + 1;
    if (byte === backslash) return -1;
  }
  return -1;
}

/** The length where it is not there. */
function indexOr(bytes: Buffer, text: Buffer, from: number): number {
  const at = bytes.indexOf(text, from);
  return at === -1 ? bytes.length : at;
}

function begins(bytes: Buffer, at: number, to: number, text: Buffer): boolean {
  if (to - at < text.length) return false;
  for (let n = 0; n < text.length; n++) if (bytes[at + n] !== text[n]) return false;
  return true;
}

/** The end without what JSON allows behind an object. */
function trimmed(bytes: Buffer, from: number, end: number): number {
  let to = end;
  while (to > from) {
    const byte = bytes[to - 1];
    if (byte !== 13 && byte !== 32 && byte !== 9) break;
    to--;
  }
  return to;
}

/** The day that was asked for last: its date as a number, and when it begins. */
const day = { date: 0, at: Number.NaN };

/** As `timeOf`, quickly where it is as OpenClaw writes it: `2026-11-20T10:00:00.000Z`. */
function timeIn(bytes: Buffer, { from, to }: Time, latest: number): number | undefined {
  const usual = bytes[to - 1] === 90 && to - from === 24 ? usualTime(bytes, from) : Number.NaN;
  if (Number.isNaN(usual)) return timeOf(bytes.toString('latin1', from, to), latest);
  return timeOf(usual, latest);
}

function usualTime(bytes: Buffer, from: number): number {
  const hour = number(bytes, from + 11, 2);
  const minute = number(bytes, from + 14, 2);
  const second = number(bytes, from + 17, 2);
  const rest = number(bytes, from + 20, 3);
  const separated =
    bytes[from + 10] === 84 &&
    bytes[from + 13] === 58 &&
    bytes[from + 16] === 58 &&
    bytes[from + 19] === 46 &&
    bytes[from + 4] === 45 &&
    bytes[from + 7] === 45;
  if (!separated || !(hour < 24 && minute < 60 && second < 60)) return Number.NaN;
  const date =
    number(bytes, from, 4) * 10_000 + number(bytes, from + 5, 2) * 100 + number(bytes, from + 8, 2);
  if (date !== day.date) {
    day.date = date;
    day.at = Date.parse(`${bytes.toString('latin1', from, from + 10)}T00:00:00.000Z`);
  }
  return day.at + hour * 3_600_000 + minute * 60_000 + second * 1000 + rest;
}

/** NaN for what is not all digits. */
function number(bytes: Buffer, from: number, digits: number): number {
  let value = 0;
  for (let n = from; n < from + digits; n++) {
    const digit = (bytes[n] ?? 0) - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

function recordIn(text: string): Json | undefined {
  try {
    const record: unknown = JSON.parse(text);
    return isObject(record) ? record : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** What a user said: the text, or the texts of its parts. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content
    .map((part: unknown) => (isObject(part) && typeof part['text'] === 'string' ? part['text'] : ''))
    .join('\n');
}
