import { crc32 } from 'node:zlib';
import { tooShort } from './local-files.ts';

/** A file, as far as its bytes are looked through. */
export interface Bytes {
  /** Fills `piece` with what lies at `position`, as far as it goes; answers how many bytes those are. */
  read(piece: Uint8Array, position: number): Promise<number>;
}

/** The sum of what comes before `at`, for a multiple of `spanBytes` or the end. */
export type SumBefore = (at: number) => number;

/** A part is read with what lies around it, up to multiples of this. */
export const spanBytes = 4 * 1024 * 1024;
const pieceBytes = 1024 * 1024;
/** Blobs whose sums are remembered. */
const mostBlobs = 1000;

interface Whole {
  length: number;
  crc: number;
  /** Before each multiple of `spanBytes`. */
  before: number[];
}

/**
 * The stored sum of a blob is of all its bytes. For a part of it, all is looked through once and found to be what was
 * stored; what it summed up to on the way tells later whether a part is. Of what was appended since, that alone is
 * looked through.
 */
export function openParts(): {
  /** `undefined` where the bytes of the blob are not what was stored. */
  sumsOf: (
    name: string,
    stored: { length: number; crc: number },
    file: string,
    bytes: Bytes,
  ) => Promise<SumBefore | undefined>;
} {
  const known = new Map<string, Whole>();

  async function through(
    { length }: { length: number },
    file: string,
    bytes: Bytes,
    from: number[],
  ): Promise<Whole> {
    const before = [...from];
    let sum = before.at(-1) ?? 0;
    for (let start = (before.length - 1) * spanBytes; start < length; start += spanBytes) {
      const end = Math.min(start + spanBytes, length);
      sum = await summed(file, bytes, start, end, sum);
      if (end === start + spanBytes) before.push(sum);
    }
    return { length, crc: sum, before };
  }

  return {
    async sumsOf(name, stored, file, bytes) {
      const { length, crc } = stored;
      let whole = known.get(name);
      known.delete(name);
      if (whole?.length !== length || whole.crc !== crc) {
        const grown = whole !== undefined && whole.length < length;
        whole = await through(stored, file, bytes, grown ? (whole?.before ?? [0]) : [0]);
        // Removed and made anew since, it has another beginning.
        if (whole.crc !== crc && grown) whole = await through(stored, file, bytes, [0]);
        if (whole.crc !== crc) return undefined;
      }
      const { before } = whole;
      known.set(name, whole);
      for (const oldest of known.keys()) {
        if (known.size <= mostBlobs) break;
        known.delete(oldest);
      }
      return (at) => (at === length ? crc : (before[at / spanBytes] ?? Number.NaN));
    },
  };
}

/** Goes on with the sum of what comes before `from`. `corrupt` where the file ends before `to`. */
export async function summed(
  file: string,
  bytes: Bytes,
  from: number,
  to: number,
  sum: number,
): Promise<number> {
  let [position, crc] = [from, sum];
  const memory = Buffer.allocUnsafeSlow(Math.min(pieceBytes, Math.max(0, to - from)));
  while (position < to) {
    const piece = memory.subarray(0, Math.min(memory.length, to - position));
    const bytesRead = await bytes.read(piece, position);
    if (bytesRead === 0) throw tooShort(file, position, to);
    crc = crc32(piece.subarray(0, bytesRead), crc);
    position += bytesRead;
  }
  return crc;
}
