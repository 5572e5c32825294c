import { Readable } from 'node:stream';
import { createZstdDecompress } from 'node:zlib';
import { NexusError } from '../errors.ts';
import { openPlainFile, type SeenFile } from './plainfile.ts';
import type { Bytes } from './source.ts';

const outputBytes = 256 * 1024;

/**
 * The content of one zstd frame, in pieces of at most 256 KiB, with memory for one piece and zstd's window.
 * `corrupt` when it is cut off, no zstd, or has anything after its first frame: `node:zlib` would say nothing and
 * leave that out.
 */
export async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Uint8Array> {
  const decoder = createZstdDecompress({ chunkSize: outputBytes });
  let fed = 0;
  const counted = async function* () {
    for await (const piece of source) {
      fed += piece.length;
      yield piece;
    }
  };
  const input = Readable.from(counted(), { objectMode: false });
  input.on('error', (error) => decoder.destroy(error));
  input.pipe(decoder);
  try {
    for await (const piece of decoder) if (piece instanceof Uint8Array) yield piece;
  } catch (error) {
    if (error instanceof NexusError) throw error;
    throw new NexusError('corrupt', `${what} does not decompress.`, { cause: error });
  } finally {
    input.destroy();
    decoder.destroy();
  }
  if (decoder.bytesWritten !== fed)
    throw new NexusError('corrupt', `${what} has more than one compressed frame, which is not understood.`);
}

/** A compressed file, opened as the transcript inside it. What `unchanged` watches is the file. */
export async function openCompressedFile(seen: SeenFile): Promise<Bytes> {
  const file = await openPlainFile(seen, true);
  return {
    pieces: () => decompressed(file.pieces(), seen.path),
    unchanged: () => file.unchanged(),
    close: () => file.close(),
  };
}

/** Bytes already in memory, which nothing can change. */
export function fixedBytes(pieces: () => AsyncIterable<Uint8Array>): Bytes {
  return { pieces, unchanged: async () => {}, close: async () => {} };
}
