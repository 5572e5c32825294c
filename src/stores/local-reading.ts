import { join } from 'node:path';
import { diskError, errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import type { Database } from './local-database.ts';
import { tooShort } from './local-files.ts';
import { openParts, spanBytes, summed } from './local-parts.ts';
import { type Entry, continued, entryOf } from './local-sums.ts';
import { checkName, type Store } from './store.ts';

const pieceBytes = 1024 * 1024;

/** A file that is read. */
export interface OpenFile {
  size(): number;
  /** Memory for a piece of so many bytes. */
  memory(bytes: number): Uint8Array;
  /** Fills `piece` with what lies at `position`, as far as it goes; answers how many bytes those are. */
  read(piece: Uint8Array, position: number): Promise<number>;
  close(): Promise<void>;
}

/** How files are read: without holding up what else the thread does, or at once. `undefined` for one that is absent. */
export interface Way {
  open(file: string): Promise<OpenFile | undefined>;
  sizeOf(file: string): Promise<number | undefined>;
}

export interface LocalReading {
  open: Store['open'];
  fileOf: (name: string) => string;
  /** Within `database.read` or `database.commit`. */
  entryNow: (name: string) => Entry | undefined;
  /** `undefined` where it is certain that the blob is not stored. */
  knownOf: (name: string) => Promise<Entry | undefined>;
}

/** Reads blobs as `localBlobs` stores them. */
export function localReading(database: Database, blobs: string, way: Way): LocalReading {
  const { sqlite } = database;
  const { sumsOf: partSums } = openParts();
  const selectEntry = sqlite.prepare('SELECT length, crc, sum FROM blobs WHERE name = ?');
  const selectBefore = sqlite.prepare('SELECT * FROM blobs WHERE name < ? ORDER BY name DESC LIMIT 1');
  const selectAfter = sqlite.prepare('SELECT * FROM blobs WHERE name > ? ORDER BY name LIMIT 1');
  for (const select of [selectEntry, selectBefore, selectAfter]) select.setReadBigInts(true);

  const fileOf = (name: string): string => join(blobs, ...name.split('/'));

  function entryNow(name: string): Entry | undefined {
    const row = selectEntry.get(name);
    return row === undefined ? undefined : entryOf(name, row, database.summed);
  }

  async function knownOf(name: string): Promise<Entry | undefined> {
    const entry = await database.read(() => entryNow(name));
    if (entry === undefined && ((await way.sizeOf(fileOf(name))) ?? 0) > 0)
      return await database.read(() => confirmAbsent(name));
    return entry;
  }

  /**
   * A file without a row is what an interrupted write has left, or all that is left of a blob whose row has rotted. What
   * misled the search for it lies beside the place where it ended, or breaks the order of the tree.
   */
  function confirmAbsent(name: string): Entry | undefined {
    const entry = entryNow(name);
    if (entry !== undefined) return entry;
    try {
      for (const beside of [selectBefore.get(name), selectAfter.get(name)])
        if (beside !== undefined) entryOf(String(beside['name']), beside, database.summed);
    } catch (error) {
      throw lost(name, error);
    }
    const said = sqlite.prepare('PRAGMA integrity_check(blobs)').get()?.['integrity_check'];
    if (said !== 'ok') throw lost(name, said);
    return undefined;
  }

  /**
   * An open file and the length to read of it. The length was committed before the file was opened and the blob was
   * still there afterwards: whatever was removed and made anew in between, these are bytes of one blob.
   */
  async function openCommitted(name: string): Promise<{ handle: OpenFile } & Entry> {
    const file = fileOf(name);
    for (let tries = 1; ; tries++) {
      const known = await knownOf(name);
      if (known === undefined) throw new NexusError('not_found', `${name} is not stored.`);
      const { length } = known;
      const handle = await way.open(file);
      try {
        const size = handle?.size();
        const after = (await knownOf(name))?.length;
        if (
          handle !== undefined &&
          size !== undefined &&
          size >= length &&
          after !== undefined &&
          after >= length
        )
          return { handle, ...known };
        if (tries === 3) throw tooShort(file, size, length);
      } catch (error) {
        await handle?.close();
        throw error;
      }
      await handle?.close();
    }
  }

  return {
    fileOf,
    entryNow,
    knownOf,
    async *open(name, from = 0, to = Number.POSITIVE_INFINITY) {
      checkName(name);
      const file = fileOf(name);
      try {
        const { handle, length, crc } = await openCommitted(name);
        try {
          if (!Number.isSafeInteger(from) || from < 0 || from > length)
            throw new NexusError('range', `${name} has ${length} bytes; there is no byte ${from}.`, {
              length,
            });
          const end = Math.min(to, length);
          if (from >= end) return;
          const isPart = from > 0 || end < length;
          const before =
            crc !== null && isPart ? await partSums(name, { length, crc }, file, handle) : () => 0;
          if (before === undefined) throw rotten(file);
          const begin = isPart ? from - (from % spanBytes) : 0;
          const until = isPart ? Math.min(length, Math.ceil(end / spanBytes) * spanBytes) : length;
          let sum = crc === null ? null : await summed(file, handle, begin, from, before(begin));
          for (let position = from; position < end; ) {
            const piece = handle.memory(Math.min(pieceBytes, end - position));
            const bytesRead = await handle.read(piece, position);
            if (bytesRead === 0) throw tooShort(file, position, length);
            position += bytesRead;
            const bytes = piece.subarray(0, bytesRead);
            sum = continued(sum, bytes);
            // What comes last is given out when all is found to be what was stored.
            if (position === end && sum !== null) {
              const expected = until === length ? crc : before(until);
              if ((await summed(file, handle, end, until, sum)) !== expected) throw rotten(file);
            }
            yield bytes;
          }
        } finally {
          await handle.close();
        }
      } catch (error) {
        throw blobError(error, name, file);
      }
    },
  };
}

export function rotten(file: string): NexusError {
  return new NexusError('corrupt', `${file} is not what was stored: its bytes have changed.`, {
    hint: 'Restore it from a backup.',
  });
}

function lost(name: string, cause: unknown): NexusError {
  return new NexusError('corrupt', `How long ${name} is cannot be found: store.sqlite is damaged.`, {
    hint: 'Restore store.sqlite from a backup.',
    cause,
  });
}

export function blobError(error: unknown, name: string, file: string): unknown {
  const code = errnoOf(error);
  if (code === 'ENOTDIR' || code === 'EISDIR' || code === 'ERR_FS_EISDIR')
    return new NexusError(
      'invalid',
      `${name} cannot be stored beside a blob whose name begins or ends inside it.`,
      {
        cause: error,
      },
    );
  return diskError(error, file);
}
