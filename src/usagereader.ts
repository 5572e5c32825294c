import { type Lines, readLines } from './usagelines.ts';
import { type Mail, mailIn } from './usagemail.ts';

/** What was read of a transcript, to be taken up in one transaction. */
export interface Part {
  /** What was asked is empty: it may be long, and many parts wait to be taken up. */
  lines: Lines;
  /** The mail that was asked about. */
  mail: Mail | undefined;
  /** The last bytes of the whole lines that were read; none where there was no whole line. */
  seam: Uint8Array;
  /** The last line had no newline, and was read all the same. */
  ended: boolean;
}

/** What is known of a transcript before what is to be read. */
export type Before = Required<Parameters<typeof readLines>[0]>;

/** What follows a piece; `never` where the transcript is complete. */
export type Following = 'more' | 'nothing' | 'never';

/** A part holds about so many calls or bytes. */
const partCalls = 1000;
const partBytes = 8 * 1024 * 1024;

/** Reads the pieces of one transcript of the agent; answers a part where one is due, as behind the last piece. */
export function openReader(
  before: Before,
  agent: string,
): (piece: Uint8Array, following: Following) => Part | undefined {
  const lines = readLines(before);
  let bytes = 0;
  return (piece, following) => {
    lines.read(piece);
    bytes += piece.length;
    if (following === 'more' && bytes < partBytes && lines.calls() < partCalls) return undefined;
    bytes = 0;
    const ended = following === 'never' && lines.waiting() > 0;
    if (ended) lines.end();
    const taken = lines.take();
    const mail = taken.asked === undefined ? undefined : mailIn(taken.asked, agent);
    if (taken.asked !== undefined) taken.asked = '';
    // A copy: what is sent to another thread takes along all that its memory is part of.
    return { lines: taken, mail, seam: new Uint8Array(lines.seam()), ended };
  };
}
