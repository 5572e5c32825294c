import type { Nexus } from '../../nexus.ts';

/** Bytes of a transcript that a page stands for: all lines that begin in them. */
export const pageBytes = 128 * 1024;

/** The most of one line that is kept; of a longer one its beginning. */
export const mostLineBytes = 16 * 1024 * 1024;

/** How far beyond a page the end of its last line is looked for. */
const mostBeyond = 64 * 1024 * 1024;

export interface Line {
  /** Where it begins in the transcript, and its bytes without the newline, as far as its end was looked for. */
  at: number;
  length: number;
  /** `undefined` where it is longer than can be kept; `start` is its beginning then. */
  text: string | undefined;
  start: string;
}

export interface LinePage {
  page: number;
  pages: number;
  lines: Line[];
  /** A line that began on an earlier page goes on over all of this one. */
  within: boolean;
  /** The page where the next line begins; `undefined` at the end. */
  next: number | undefined;
}

const newline = 10;
const mostStart = 2000;

/**
 * The lines of a page. Pages are even parts of the bytes, so any is found without those before it, and each line is on
 * one page, the one it begins on. No more is read than the page and its last line; memory is bounded by that line.
 */
export async function linesOfPage(
  sessions: Nexus,
  agent: string,
  transcript: string,
  length: number,
  wanted: number,
): Promise<LinePage> {
  const pages = Math.max(1, Math.ceil(length / pageBytes));
  const page = Math.min(Math.max(1, wanted), pages);
  const begin = (page - 1) * pageBytes;
  const end = Math.min(length, begin + pageBytes);
  const from = Math.max(0, begin - 1);
  const lines: Line[] = [];
  let at = from;
  // Of a line that began before, only the end is looked for.
  let skipping = from < begin;
  let lineAt = from;
  let pieces: Uint8Array[] = [];
  let kept = 0;

  function keep(piece: Uint8Array): void {
    if (skipping || piece.length === 0) return;
    const room = mostLineBytes + 1 - kept;
    if (room <= 0) return;
    pieces.push(piece.subarray(0, room));
    kept += Math.min(piece.length, room);
  }

  function finish(lineEnd: number, ended: boolean): void {
    if (!skipping && lineEnd > lineAt) {
      const size = lineEnd - lineAt;
      const bytes = Buffer.concat(pieces);
      const whole = ended && size <= mostLineBytes;
      lines.push({
        at: lineAt,
        length: size,
        text: whole ? bytes.toString('utf8') : undefined,
        start: bytes.subarray(0, mostStart).toString('utf8'),
      });
    }
    pieces = [];
    kept = 0;
  }

  const limit = Math.min(length, end + mostBeyond);
  reading: for await (const piece of sessions.read(agent, transcript, from, limit)) {
    let start = 0;
    while (start < piece.length) {
      const found = piece.indexOf(newline, start);
      if (found === -1) {
        keep(piece.subarray(start));
        at += piece.length - start;
        // A line that goes on beyond the page and began before it is another page's.
        if (skipping && at >= end) break reading;
        break;
      }
      keep(piece.subarray(start, found));
      at += found - start;
      finish(at, true);
      at += 1;
      start = found + 1;
      skipping = false;
      lineAt = at;
      if (lineAt >= end) break reading;
    }
  }
  if (lineAt < end && at > lineAt) finish(at, at >= length);
  const after = skipping ? at : Math.max(at, lineAt);
  const beyond = skipping ? page + 1 : Math.max(page + 1, Math.floor(after / pageBytes) + 1);
  return {
    page,
    pages,
    lines,
    within: skipping,
    next: after >= length || beyond > pages ? undefined : beyond,
  };
}
