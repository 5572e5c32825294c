import type { About } from '../nexus.ts';

/** A line longer than this is not looked into: times are a convenience, and lines can be several MB. */
const longestLine = 64 * 1024;

/**
 * The times of a transcript's first and last record, taken from its bytes as they pass by. Nothing else is parsed
 * and nothing depends on it: a line that is not understood has no time.
 */
export function eventTimes(): {
  read(piece: Uint8Array): void;
  seen(): Pick<About, 'firstEventAt' | 'lastEventAt'>;
} {
  let first: string | undefined;
  let begun = false;
  // The last bytes that passed by, copied: a piece is good only until the next.
  const tail = Buffer.allocUnsafe(longestLine);
  let kept = 0;

  return {
    read(piece) {
      const view = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
      if (!begun) {
        begun = true;
        const end = view.indexOf(10);
        if (end !== -1) first = timeOf(view.subarray(0, end));
      }
      const last = view.subarray(Math.max(0, view.length - longestLine));
      const stays = Math.min(kept, longestLine - last.length);
      tail.copyWithin(0, kept - stays, kept);
      tail.set(last, stays);
      kept = stays + last.length;
    },
    seen() {
      const end = tail.subarray(0, kept).lastIndexOf(10);
      const start = end <= 0 ? -1 : tail.lastIndexOf(10, end - 1);
      const last = end === -1 ? undefined : timeOf(tail.subarray(start + 1, end));
      return {
        ...(first === undefined ? {} : { firstEventAt: first }),
        ...(last === undefined ? {} : { lastEventAt: last }),
      };
    },
  };
}

/** The `timestamp` of one record, as ISO 8601; `undefined` for what is too long, no JSON or without one. */
export function timeOf(line: Buffer): string | undefined {
  if (line.length > longestLine) return undefined;
  try {
    const record: unknown = JSON.parse(line.toString('utf8'));
    if (typeof record !== 'object' || record === null || !('timestamp' in record)) return undefined;
    const { timestamp } = record;
    if (typeof timestamp !== 'string' && typeof timestamp !== 'number') return undefined;
    return new Date(timestamp).toISOString();
  } catch {
    // Not JSON, or no date: archived byte for byte all the same.
    return undefined;
  }
}
