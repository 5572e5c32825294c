import { createHash } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, errnoOf, isAbsent } from '../diskerrors.ts';
import { failedWith, NexusError } from '../errors.ts';
import { type LockFile, openLockFile } from '../processlock.ts';
import type { Database } from './local-database.ts';
import { filesBelow, tooShort } from './local-files.ts';
import { type Entry, continued, entryOf, entrySum } from './local-sums.ts';
import { type Store, checkBody, checkName, checkPrefix } from './store.ts';

export type Blobs = Pick<Store, 'create' | 'append' | 'open' | 'stat' | 'list' | 'remove'> & {
  close(): void;
};

const stripes = 64;
const pieceBytes = 1024 * 1024;
const pageSize = 500;

/**
 * Blobs as plain files under `blobs`, whose committed length and the CRC of whose bytes are a row in SQLite. What lies in a file beyond it, and
 * a file without a row, is what an interrupted write left: nobody reads it, and the next write removes it. Who
 * writes to a blob holds one of the locks under `locks`, picked by the blob's name.
 */
export function localBlobs(database: Database, blobs: string, locks: string, waitMs: number): Blobs {
  const { sqlite } = database;
  const selectEntry = sqlite.prepare('SELECT length, crc, sum FROM blobs WHERE name = ?');
  const selectPage = sqlite.prepare(
    'SELECT name, length, crc, sum FROM blobs WHERE name >= ? AND name < ? ORDER BY name LIMIT ?',
  );
  const selectOtherCase = sqlite.prepare(
    'SELECT name FROM blobs WHERE name = ? COLLATE NOCASE AND name <> ?',
  );
  const insertEntry = sqlite.prepare(
    'INSERT INTO blobs (name, length, crc, sum) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
  );
  const updateEntry = sqlite.prepare(
    'UPDATE blobs SET length = ?, crc = ?, sum = ? WHERE name = ? AND length = ?',
  );
  const selectBefore = sqlite.prepare('SELECT * FROM blobs WHERE name < ? ORDER BY name DESC LIMIT 1');
  const selectAfter = sqlite.prepare('SELECT * FROM blobs WHERE name > ? ORDER BY name LIMIT 1');
  for (const select of [selectEntry, selectPage, selectBefore, selectAfter]) select.setReadBigInts(true);
  const deleteLength = sqlite.prepare('DELETE FROM blobs WHERE name = ?');
  const files = filesBelow(blobs);
  const lockFiles = new Map<number, LockFile>();

  const fileOf = (name: string): string => join(blobs, ...name.split('/'));

  function entryNow(name: string): Entry | undefined {
    const row = selectEntry.get(name);
    return row === undefined ? undefined : entryOf(name, row, database.summed);
  }

  async function knownOf(name: string): Promise<Entry | undefined> {
    const entry = await database.read(() => entryNow(name));
    if (entry === undefined && ((await sizeIfThere(fileOf(name))) ?? 0) > 0)
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
  async function write(name: string, known: Entry | undefined, body: Uint8Array): Promise<number> {
    await files.write(fileOf(name), known?.length, body, () => refuseOtherCase(name));
    const before = known ?? { length: 0, crc: 0 };
    const grown = { length: before.length + body.length, crc: continued(before.crc, body) };
    const sum = entrySum(name, grown);
    await database.commit(() => {
      const { changes } =
        known === undefined
          ? insertEntry.run(name, grown.length, grown.crc, sum)
          : updateEntry.run(grown.length, grown.crc, sum, name, known.length);
      // Only where locks do not work, as on some network file systems.
      if (changes !== 1) throw misplaced(name, before.length, entryNow(name)?.length ?? 0);
    });
    return grown.length;
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
  async function openCommitted(name: string): Promise<{ handle: FileHandle } & Entry> {
    const file = fileOf(name);
    for (let tries = 1; ; tries++) {
      const known = await knownOf(name);
      if (known === undefined) throw new NexusError('not_found', `${name} is not stored.`);
      const { length } = known;
      const handle = await openIfThere(file);
      try {
        // Of an open file it waits for nothing, and a turn of the event loop costs more.
        const size = handle === undefined ? undefined : fstatSync(handle.fd).size;
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
    async create(name, body) {
      checkBody(name, body, 'create');
      const absent = async (): Promise<undefined> => {
        if ((await knownOf(name)) !== undefined)
          throw new NexusError('conflict', `${name} is stored already.`);
      };
      await absent(); // the usual refusal needs no lock
      await locked(name, async () => await write(name, await absent(), body));
    },

    async append(name, offset, body) {
      checkBody(name, body, 'append');
      const place = async (): Promise<Entry | undefined> => {
        const known = await knownOf(name);
        if ((known?.length ?? 0) !== offset) throw misplaced(name, offset, known?.length ?? 0);
        return known;
      };
      const known = await place(); // the usual refusal needs no lock
      if (body.length === 0) return known?.length ?? 0;
      return await locked(name, async () => await write(name, await place(), body));
    },

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
          // Of a part nothing is known.
          let sum = from === 0 && end === length && crc !== null ? 0 : null;
          for (let position = from; position < end; ) {
            const piece = Buffer.allocUnsafeSlow(Math.min(pieceBytes, end - position));
            const { bytesRead } = await handle.read(piece, 0, piece.length, position);
            if (bytesRead === 0) throw tooShort(file, position, length);
            position += bytesRead;
            const bytes = piece.subarray(0, bytesRead);
            sum = continued(sum, bytes);
            if (position === end && sum !== null && sum !== crc) throw rotten(file);
            yield bytes;
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
        const length = (await knownOf(name))?.length;
        if (length === undefined) return undefined;
        const size = await sizeIfThere(file);
        if (size !== undefined && size >= length) return { name, length };
        // It may have been removed, or removed and made anew, in between.
        if (tries === 3) throw tooShort(file, size, length);
      }
    },

    async *list(prefix, rotted) {
      checkPrefix(prefix);
      let from = prefix;
      const told = new Set<string>();
      for (;;) {
        const page = await database.read(() => selectPage.all(from, `${prefix}\u007f`, pageSize));
        let last: string | undefined;
        for (const row of page) {
          const name = String(row['name']);
          try {
            const { length } = entryOf(name, row, database.summed);
            last = name;
            yield { name, length };
          } catch (error) {
            if (rotted === undefined || !failedWith(error, 'corrupt')) throw error;
            if (!told.has(name)) rotted(name, error);
            told.add(name);
          }
        }
        if (page.length < pageSize) return;
        // A rotted name may be a place where this listing was before.
        if (last === undefined) throw rotten(`Every length below ${prefix}`);
        from = `${last}\u0000`;
      }
    },

    async remove(name) {
      checkName(name);
      await locked(name, async () => {
        if (await database.read(() => selectEntry.get(name) !== undefined))
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

function lost(name: string, cause: unknown): NexusError {
  return new NexusError('corrupt', `How long ${name} is cannot be found: store.sqlite is damaged.`, {
    hint: 'Restore store.sqlite from a backup.',
    cause,
  });
}

function rotten(file: string): NexusError {
  return new NexusError('corrupt', `${file} is not what was stored: its bytes have changed.`, {
    hint: 'Restore it from a backup.',
  });
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
    if (isAbsent(error)) return undefined;
    throw diskError(error, file);
  }
}
