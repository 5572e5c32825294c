import { constants, readlinkSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { sep } from 'node:path';
import { crc32 } from 'node:zlib';
import { NexusError } from '../errors.ts';
import type { Bytes } from './source.ts';
import { codeOf, readError } from './unreadable.ts';

/** A file as the listing saw it. */
export interface SeenFile {
  /** Absolute. */
  path: string;
  dev: number;
  ino: number;
  /** The real directory that the file must be in. */
  directory: string;
}

/** The most bytes of one piece; more of them at once makes nothing faster. */
export const pieceBytes = 256 * 1024;

/** A write this close to our look at the clock may have left the same time stamps. */
const tickMs = 100;

/**
 * Opens a regular file that is still the one that was listed, and reads it through its descriptor: renamed or
 * unlinked meanwhile, it is read to its end all the same. `whole`: to the end of the file as it is now, else to its
 * last newline. `changed` when it vanished, was replaced or shrinks; `forbidden` when it cannot be read.
 */
export async function openPlainFile(seen: SeenFile, whole: boolean): Promise<Bytes> {
  const file = await openSame(seen);
  try {
    const stat = await file.stat();
    const limit = whole ? stat.size : await endOfLastLine(file, stat.size);
    return bytesOf(file, seen.path, stat, limit);
  } catch (error) {
    await file.close();
    throw readError(seen.path, error);
  }
}

async function openSame(seen: SeenFile): Promise<FileHandle> {
  let file: FileHandle;
  try {
    // O_NONBLOCK: should a FIFO have taken its place, opening it does not wait for a writer.
    file = await open(seen.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw readError(seen.path, error);
  }
  try {
    const stat = await file.stat();
    if (
      !stat.isFile() ||
      stat.dev !== seen.dev ||
      stat.ino !== seen.ino ||
      !isInside(file.fd, seen.directory)
    )
      throw new NexusError('changed', `${seen.path} was replaced since it was listed.`);
    return file;
  } catch (error) {
    await file.close();
    throw readError(seen.path, error);
  }
}

/** Whether the open file really lies below the directory, where the system can say so. */
function isInside(fd: number, directory: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith(
      directory.endsWith(sep) ? directory : directory + sep,
    );
  } catch (error) {
    if (codeOf(error) !== undefined) return true;
    throw error;
  }
}

async function endOfLastLine(file: FileHandle, size: number): Promise<number> {
  const buffer = Buffer.allocUnsafe(64 * 1024);
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - buffer.length);
    const { bytesRead } = await file.read(buffer, 0, end - start, start);
    if (bytesRead < end - start)
      throw new NexusError('changed', 'The file became shorter while it was read.');
    const newline = buffer.subarray(0, bytesRead).lastIndexOf(0x0a);
    if (newline >= 0) return start + newline + 1;
    end = start;
  }
  return 0;
}

function bytesOf(file: FileHandle, path: string, opened: Stats, limit: number): Bytes {
  // A checksum tells whether what was read is still there; what is stored is compared by digest.
  let checksum = 0;
  let read = 0;
  let last = opened;
  let lastLook = Date.now();

  const changed = (how: string) => new NexusError('changed', `${path} ${how} while it was read.`);
  const isSame = (stat: Stats) =>
    stat.size === last.size &&
    stat.mtimeMs === last.mtimeMs &&
    stat.ctimeMs === last.ctimeMs &&
    lastLook - stat.ctimeMs > tickMs;

  /** A disk that fails in the middle is told as one that fails at the beginning. */
  async function reading<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw readError(path, error);
    }
  }

  return {
    async *pieces() {
      const buffer = Buffer.allocUnsafeSlow(Math.min(pieceBytes, limit));
      while (read < limit) {
        const { bytesRead } = await reading(
          file.read(buffer, 0, Math.min(buffer.length, limit - read), read),
        );
        if (bytesRead === 0) throw changed('became shorter');
        const piece = buffer.subarray(0, bytesRead);
        checksum = crc32(piece, checksum);
        read += bytesRead;
        yield piece;
      }
    },
    async unchanged() {
      const look = Date.now();
      const stat = await reading(file.stat());
      if (isSame(stat)) return;
      if (stat.size < read) throw changed('became shorter');
      if ((await reading(checksumOf(file, read))) !== checksum) throw changed('was rewritten');
      // From before the second reading: what changes during it is seen the next time.
      last = stat;
      lastLook = look;
    },
    close: () => file.close(),
  };
}

/** CRC-32 of the first bytes; of fewer when the file has become shorter. */
async function checksumOf(file: FileHandle, length: number): Promise<number> {
  let checksum = 0;
  const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, Math.max(1, length)));
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - at), at);
    if (bytesRead === 0) break;
    checksum = crc32(buffer.subarray(0, bytesRead), checksum);
    at += bytesRead;
  }
  return checksum;
}
