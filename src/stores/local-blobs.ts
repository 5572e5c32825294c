import { createHash } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { type LockFile, openLockFile } from '../processlock.ts';
import type { Database } from './local-database.ts';
import { filesBelow, tooShort } from './local-files.ts';
import { type Store, checkBody, checkName, checkPrefix } from './store.ts';

export type Blobs = Pick<Store, 'create' | 'append' | 'open' | 'stat' | 'list' | 'remove'> & {
  close(): void;
};

const stripes = 64;
const pieceBytes = 1024 * 1024;
const pageSize = 500;

/**
 * Blobs as plain files under `blobs`, whose committed length is a row in SQLite. What lies in a file beyond it, and
 * a file without a row, is what an interrupted write left: nobody reads it, and the next write removes it. Who
 * writes to a blob holds one of the locks under `locks`, picked by the blob's name.
 */
export function localBlobs(database: Database, blobs: string, locks: string, waitMs: number): Blobs {
  const { sqlite } = database;
  const selectLength = sqlite.prepare('SELECT length FROM blobs WHERE name = ?');
  const selectPage = sqlite.prepare(
    'SELECT name, length FROM blobs WHERE name >= ? AND name < ? ORDER BY name LIMIT ?',
  );
  const selectOtherCase = sqlite.prepare(
    'SELECT name FROM blobs WHERE name = ? COLLATE NOCASE AND name <> ?',
  );
  const insertLength = sqlite.prepare(
    'INSERT INTO blobs (name, length) VALUES (?, ?) ON CONFLICT DO NOTHING',
  );
  const updateLength = sqlite.prepare('UPDATE blobs SET length = ? WHERE name = ? AND length = ?');
  const deleteLength = sqlite.prepare('DELETE FROM blobs WHERE name = ?');
  const files = filesBelow(blobs);
  const lockFiles = new Map<number, LockFile>();

  const fileOf = (name: string): string => join(blobs, ...name.split('/'));

  function lengthNow(name: string): number | undefined {
    const row = selectLength.get(name);
    return row === undefined ? undefined : Number(row['length']);
  }

  const lengthOf = (name: string): Promise<number | undefined> => database.read(() => lengthNow(name));

  async function locked<T>(name: string, work: () => Promise<T>): Promise<T> {
    const stripe = (createHash('sha256').update(name).digest()[0] ?? 0) % stripes;
    let lockFile = lockFiles.get(stripe);
    if (lockFile === undefined) {
      lockFile = openLockFile(join(locks, `${String(stripe).padStart(2, '0')}.sqlite`));
      lockFiles.set(stripe, lockFile);
    }
    const lock = await lockFile.acquire(waitMs);
    if (lock === undefined)
      throw new NexusError('busy', `Another process has been writing to ${name} for too long.`, {
        hint: 'Try again, or look for a nexus process that is stopped.',
        retryAfter: 5,
      });
    try {
      return await work();
    } catch (error) {
      throw blobError(error, name, fileOf(name));
    } finally {
      await lock.release();
    }
  }

  /** Bytes first, then the length that makes them count. Under the blob's lock. */
  async function write(name: string, length: number | undefined, body: Uint8Array): Promise<number> {
    await files.write(fileOf(name), length, body, () => refuseOtherCase(name));
    const grown = (length ?? 0) + body.length;
    await database.commit(() => {
      const { changes } =
        length === undefined ? insertLength.run(name, grown) : updateLength.run(grown, name, length);
      // Only where locks do not work, as on some network file systems.
      if (changes !== 1) throw misplaced(name, length ?? 0, lengthNow(name) ?? 0);
    });
    return grown;
  }

  async function refuseOtherCase(name: string): Promise<void> {
    const other = await database.read(() => selectOtherCase.get(name, name)?.['name']);
    if (typeof other === 'string')
      throw new NexusError('invalid', `${name} and ${other} cannot both be stored on this file system.`);
  }

  /**
   * An open file and the length to read of it. The length was committed before the file was opened and the blob was
   * still there afterwards: whatever was removed and made anew in between, these are bytes of one blob.
   */
  async function openCommitted(name: string): Promise<{ handle: FileHandle; length: number }> {
    const file = fileOf(name);
    for (let tries = 1; ; tries++) {
      const length = await lengthOf(name);
      if (length === undefined) throw new NexusError('not_found', `${name} is not stored.`);
      const handle = await openIfThere(file);
      try {
        // Of an open file it waits for nothing, and a turn of the event loop costs more.
        const size = handle === undefined ? undefined : fstatSync(handle.fd).size;
        const after = await lengthOf(name);
        if (
          handle !== undefined &&
          size !== undefined &&
          size >= length &&
          after !== undefined &&
          after >= length
        )
          return { handle, length };
        if (tries === 3) throw tooShort(file, size, length);
      } catch (error) {
        await handle?.close();
        throw error;
      }
      await handle?.close();
    }
  }

  return {
    async create(name, body) {
      checkBody(name, body, 'create');
      const absent = async (): Promise<undefined> => {
        if ((await lengthOf(name)) !== undefined)
          throw new NexusError('conflict', `${name} is stored already.`);
      };
      await absent(); // the usual refusal needs no lock
      await locked(name, async () => await write(name, await absent(), body));
    },

    async append(name, offset, body) {
      checkBody(name, body, 'append');
      const place = async (): Promise<number | undefined> => {
        const length = await lengthOf(name);
        if ((length ?? 0) !== offset) throw misplaced(name, offset, length ?? 0);
        return length;
      };
      const length = await place(); // the usual refusal needs no lock
      if (body.length === 0) return length ?? 0;
      return await locked(name, async () => await write(name, await place(), body));
    },

    async *open(name, from = 0, to = Number.POSITIVE_INFINITY) {
      checkName(name);
      const file = fileOf(name);
      try {
        const { handle, length } = await openCommitted(name);
        try {
          if (!Number.isSafeInteger(from) || from < 0 || from > length)
            throw new NexusError('range', `${name} has ${length} bytes; there is no byte ${from}.`, {
              length,
            });
          const end = Math.min(to, length);
          for (let position = from; position < end; ) {
            const piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - position));
            const { bytesRead } = await handle.read(piece, 0, piece.length, position);
            if (bytesRead === 0) throw tooShort(file, position, length);
            position += bytesRead;
            yield piece.subarray(0, bytesRead);
          }
        } finally {
          await handle.close();
        }
      } catch (error) {
        throw blobError(error, name, file);
      }
    },

    async stat(name) {
      checkName(name);
      const file = fileOf(name);
      for (let tries = 1; ; tries++) {
        const length = await lengthOf(name);
        if (length === undefined) return undefined;
        const size = await sizeIfThere(file);
        if (size !== undefined && size >= length) return { name, length };
        // It may have been removed, or removed and made anew, in between.
        if (tries === 3) throw tooShort(file, size, length);
      }
    },

    async *list(prefix) {
      checkPrefix(prefix);
      let from = prefix;
      for (;;) {
        const page = await database.read(() => selectPage.all(from, `${prefix}\u007f`, pageSize));
        for (const row of page) yield { name: String(row['name']), length: Number(row['length']) };
        const last = page.at(-1);
        if (last === undefined || page.length < pageSize) return;
        from = `${String(last['name'])}\u0000`;
      }
    },

    async remove(name) {
      checkName(name);
      await locked(name, async () => {
        const length = await lengthOf(name);
        if (length !== undefined)
          await database.commit(() => {
            deleteLength.run(name);
          });
        await files.remove(fileOf(name));
      });
    },

    close() {
      for (const lockFile of lockFiles.values()) lockFile.close();
      lockFiles.clear();
    },
  };
}

function misplaced(name: string, offset: number, length: number): NexusError {
  return new NexusError('conflict', `${name} has ${length} bytes, not ${offset}.`, { length });
}

function blobError(error: unknown, name: string, file: string): unknown {
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

async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function sizeIfThere(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw diskError(error, file);
  }
}
