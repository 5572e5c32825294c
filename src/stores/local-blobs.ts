import { createHash } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError, errnoOf, isAbsent } from '../diskerrors.ts';
import { failedWith, NexusError } from '../errors.ts';
import { type LockFile, openLockFile } from '../processlock.ts';
import type { Database } from './local-database.ts';
import { filesBelow, tooShort } from './local-files.ts';
import { blobError, localReading, rotten, type Way } from './local-reading.ts';
import { type Entry, continued, entryOf, entrySum } from './local-sums.ts';
import { type Store, checkBody, checkName, checkPrefix } from './store.ts';

export type Blobs = Pick<Store, 'create' | 'append' | 'open' | 'stat' | 'list' | 'remove'> & {
  close(): void;
};

const stripes = 64;
const pageSize = 500;

/**
 * Blobs as plain files under `blobs`, whose committed length and the CRC of whose bytes are a row in SQLite. What lies in a file beyond it, and
 * a file without a row, is what an interrupted write left: nobody reads it, and the next write removes it. Who
 * writes to a blob holds one of the locks under `locks`, picked by the blob's name.
 */
export function localBlobs(database: Database, blobs: string, locks: string, waitMs: number): Blobs {
  const { sqlite } = database;
  const { open, fileOf, entryNow, knownOf } = localReading(database, blobs, inTurns);
  const hasEntry = sqlite.prepare('SELECT 1 FROM blobs WHERE name = ?');
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
  selectPage.setReadBigInts(true);
  const deleteLength = sqlite.prepare('DELETE FROM blobs WHERE name = ?');
  const files = filesBelow(blobs);
  const lockFiles = new Map<number, LockFile>();

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

    open,

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
        if (await database.read(() => hasEntry.get(name) !== undefined))
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

/** Pieces are their reader's own. */
const inTurns: Way = {
  async open(file) {
    const handle = await openIfThere(file);
    return (
      handle && {
        // Of an open file it waits for nothing, and a turn of the event loop costs more.
        size: () => fstatSync(handle.fd).size,
        memory: (bytes) => Buffer.allocUnsafeSlow(bytes),
        read: async (piece, position) => (await handle.read(piece, 0, piece.length, position)).bytesRead,
        close: () => handle.close(),
      }
    );
  },
  sizeOf: sizeIfThere,
};

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
