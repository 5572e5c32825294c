import type { Before, Following, Part } from './usagereader.ts';

/** What is to be read of a transcript. */
export interface Wanted {
  agent: string;
  /** Its name in the store. */
  blob: string;
  /** Where a line begins, and where what is to be read ends. */
  from: number;
  to: number;
  /** What stood right before `from` when that was read. */
  seam: Uint8Array;
  /** Nothing is expected behind `to`. */
  complete: boolean;
  before: Before;
}

export interface Found {
  part: Part;
  /** It ends at `to`. */
  last: boolean;
}

export type Pieces = (blob: string, from: number, to: number) => AsyncIterable<Uint8Array>;

export type Read = (piece: Uint8Array, following: Following) => Part | undefined | Promise<Part | undefined>;

/**
 * Reads the parts of a transcript one after the other. `moved`, and no more, where another thing stands before `from`
 * than did. Ends without a last part where the transcript does not reach to `to`. `told` hears of the bytes of each
 * piece.
 */
export async function* partsOf(
  wanted: Wanted,
  pieces: Pieces,
  read: Read,
  told: (bytes: number) => void,
): AsyncGenerator<Found | 'moved', void, undefined> {
  const { seam, from, to } = wanted;
  const following = wanted.complete ? 'never' : 'nothing';
  const begin = from - seam.length;
  let position = begin;
  for await (const piece of pieces(wanted.blob, begin, to)) {
    let bytes = piece;
    const compared = position - begin;
    position += piece.length;
    if (compared < seam.length) {
      const part = piece.subarray(0, seam.length - compared);
      if (Buffer.compare(part, seam.subarray(compared, compared + part.length)) !== 0) {
        yield 'moved';
        return;
      }
      bytes = piece.subarray(part.length);
    }
    told(bytes.length);
    const last = position === to;
    const part = await read(bytes, last ? following : 'more');
    if (part !== undefined) yield { part, last };
  }
}
