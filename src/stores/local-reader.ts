import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { errnoOf, isAbsent } from '../diskerrors.ts';
import { databaseIn, openThere } from './local-database.ts';
import { localReading, type Way } from './local-reading.ts';
import type { Store } from './store.ts';

/**
 * Reads blobs of a local store that another thread of this process has open, for a thread that does nothing else: it
 * waits for the disk instead of going on with something else, and the memory of a piece is used again for the next one.
 * `unavailable` where the store in `directory` is not the one with this `id`; nothing is made there. Otherwise as
 * `Store.open`, but that a piece is its reader's only until the next is asked for.
 */
export async function openLocalReader(
  directory: string,
  id: string,
  waitMs = 10_000,
): Promise<Pick<Store, 'open' | 'close'>> {
  const root = resolve(directory);
  const database = await openThere(databaseIn(root), id, waitMs);
  try {
    const { open } = localReading(database, join(root, 'blobs'), atOnce());
    return { open, close: () => database.close() };
  } catch (error) {
    await database.close();
    throw error;
  }
}

function atOnce(): Way {
  /** Of files that were closed: who reads several at once has one for each. */
  const unused: Buffer[] = [];
  return {
    async open(file) {
      const fd = openIfThere(file);
      if (fd === undefined) return undefined;
      let memory: Buffer | undefined;
      return await Promise.resolve({
        size: () => fstatSync(fd).size,
        memory(bytes) {
          memory ??= unused.pop();
          if (memory === undefined || memory.length < bytes) memory = Buffer.allocUnsafeSlow(bytes);
          return memory.subarray(0, bytes);
        },
        read: (piece, position) => Promise.resolve(readSync(fd, piece, 0, piece.length, position)),
        close() {
          if (memory !== undefined) unused.push(memory);
          memory = undefined;
          closeSync(fd);
          return Promise.resolve();
        },
      });
    },
    sizeOf: (file) => Promise.resolve(sizeIfThere(file)),
  };
}

function openIfThere(file: string): number | undefined {
  try {
    return openSync(file, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function sizeIfThere(file: string): number | undefined {
  try {
    return statSync(file).size;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
