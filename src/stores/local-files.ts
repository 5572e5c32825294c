import { type FileHandle, chmod, mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { syncDirectory } from '../lastingnames.ts';

/** Files below one root, with what it takes that they survive a power cut. Directories 700, files 600. */
export interface Files {
  /**
   * Makes `body` the bytes of `file` after its first `length`, dropping whatever followed; resolves when they are
   * on stable storage. `undefined` length: the file is new, and a leftover of that name is removed, after
   * `beforeRemoving` had its say.
   */
  write(
    file: string,
    length: number | undefined,
    body: Uint8Array,
    beforeRemoving: () => Promise<void>,
  ): Promise<void>;
  /** Removes a file for good; absent is fine. */
  remove(file: string): Promise<void>;
}

export function filesBelow(root: string): Files {
  const syncDirectory = directorySyncs();
  const ready = new Map<string, Promise<void>>();

  /**
   * Makes a directory and those above it. Whoever made them, their entries are synced once by this process: another
   * may have made them and not have come to it.
   */
  function makeReady(directory: string): Promise<void> {
    const known = ready.get(directory);
    if (known !== undefined) return known;
    const made = make(directory);
    ready.set(directory, made);
    made.catch(() => ready.delete(directory));
    return made;
  }

  async function make(directory: string): Promise<void> {
    if (directory !== root) await makeReady(dirname(directory));
    await makeDirectory(directory);
    await syncDirectory(dirname(directory));
  }

  async function createFile(file: string, beforeRemoving: () => Promise<void>): Promise<FileHandle> {
    for (let tries = 0; ; tries++) {
      await makeReady(dirname(file));
      try {
        return await open(file, 'wx', 0o600);
      } catch (error) {
        const code = errnoOf(error);
        if (tries > 3 || (code !== 'EEXIST' && code !== 'ENOENT')) throw error;
        if (code === 'ENOENT') ready.clear(); // somebody removed a directory
        if (code === 'EEXIST') {
          await beforeRemoving();
          // Not truncated: whoever still reads what was removed under that name is not disturbed.
          await rm(file, { force: true });
        }
      }
    }
  }

  return {
    async write(file, length, body, beforeRemoving) {
      const fresh = length === undefined;
      const start = length ?? 0;
      const handle = fresh ? await createFile(file, beforeRemoving) : await openExisting(file, start);
      try {
        const { size, mode } = await handle.stat();
        if (size < start) throw tooShort(file, size, start);
        if ((mode & 0o777) !== 0o600) await handle.chmod(0o600);
        try {
          if (size > start) await handle.truncate(start);
          await writeAll(handle, body, start);
          await handle.datasync();
        } catch (error) {
          // Frees the space of what was not finished; if that fails too, the next write does it.
          await handle.truncate(start).catch(() => undefined);
          throw error;
        }
      } finally {
        await handle.close();
      }
      if (fresh) await syncDirectory(dirname(file));
    },

    async remove(file) {
      try {
        await rm(file);
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return;
        throw error;
      }
      await syncDirectory(dirname(file));
    },
  };
}

/** Makes a directory with mode 700 unless there is one; those above it must exist. */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    throw error;
  }
  await chmod(directory, 0o700); // the umask may have taken more away
}

/** `corrupt`: a file that is shorter than its committed length, or gone (`size` undefined). */
export function tooShort(file: string, size: number | undefined, length: number): NexusError {
  const found = size === undefined ? 'is missing' : `has ${size} bytes`;
  return new NexusError('corrupt', `${file} ${found}, and ${length} bytes were stored in it.`, {
    hint: 'Restore it from a backup.',
  });
}

async function openExisting(file: string, length: number): Promise<FileHandle> {
  try {
    return await open(file, 'r+');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw tooShort(file, undefined, length);
    throw error;
  }
}

async function writeAll(handle: FileHandle, body: Uint8Array, start: number): Promise<void> {
  for (let written = 0; written < body.length; ) {
    const { bytesWritten } = await handle.write(body, written, body.length - written, start + written);
    written += bytesWritten;
  }
}

/** A sync for directories of which those share the next who ask while one is running. */
function directorySyncs(): (directory: string) => Promise<void> {
  const running = new Map<string, Promise<void>>();
  const next = new Map<string, Promise<void>>();

  function start(directory: string): Promise<void> {
    const sync = syncDirectory(directory).finally(() => {
      if (running.get(directory) === sync) running.delete(directory);
    });
    running.set(directory, sync);
    return sync;
  }

  return (directory) => {
    const current = running.get(directory);
    if (current === undefined) return start(directory);
    const shared = next.get(directory);
    if (shared !== undefined) return shared;
    const following = current
      .catch(() => undefined)
      .then(() => {
        next.delete(directory);
        return start(directory);
      });
    next.set(directory, following);
    return following;
  };
}
