import { link, lstat, mkdir, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import { NexusError } from '../errors.ts';
import { signatureOf } from './signature.ts';
import { codeOf } from './unreadable.ts';

/** The directory beside a sessions directory's files to which stored ones are moved. */
export const archiveDirectory = 'archive';

/** Where `doctor --fix` puts the files that it imported into the database. */
export const importArchiveDirectory = 'session-sqlite-import-archive';

/** How many files of one name are kept beside each other. */
const mostOfOneName = 1000;

/** True for places that `upload` does not list, because nothing changes there. */
export function listedByBackfillOnly(place: string): boolean {
  const directory = path.basename(path.dirname(place));
  return directory === archiveDirectory || directory === importArchiveDirectory;
}

/** Differs when a file was written to or replaced. */
export async function fileIdentity(file: string): Promise<string> {
  const { dev, ino, size, mtimeNs } = await lstat(file, { bigint: true });
  return `${dev}:${ino}:${size}:${mtimeNs}`;
}

/**
 * Moves a file to `archive/` beside it: never over another (the second of a name becomes `name~2`), with its inode
 * and so its modification time, in an order that leaves it under at least one name at any crash. Resolves with the
 * new path and its signature there when both directories are synced. `changed` when it is not the file of `identity` any more, and then it
 * is back in its place; `forbidden` when the directory may not be written.
 */
export async function moveToArchive(
  file: string,
  identity: string,
): Promise<{ place: string; signature: string }> {
  try {
    const directory = path.dirname(file);
    const archive = path.join(directory, archiveDirectory);
    await mkdir(archive, { recursive: true, mode: 0o700 });
    if (!(await lstat(archive)).isDirectory())
      throw new NexusError(
        'forbidden',
        `${archive} is not a directory, so stored files stay where they are.`,
      );
    const target = await linkFree(file, path.join(archive, path.basename(file)));
    await syncDirectory(archive);
    await unlink(file);
    if ((await fileIdentity(target)) !== identity) {
      await link(target, file);
      await unlink(target);
      throw new NexusError('changed', `${file} was written to while it was moved, and is back in its place.`);
    }
    await syncDirectory(directory);
    return { place: target, signature: signatureOf(await lstat(target)) };
  } catch (error) {
    if (!refusals.has(codeOf(error) ?? '')) throw error;
    throw new NexusError(
      'forbidden',
      `${file} is stored, but could not be moved to archive/ (${codeOf(error)}).`,
      {
        hint: 'Let the job write that directory, or run `nexus config set afterUpload keep`.',
        cause: error,
      },
    );
  }
}

const refusals = new Set(['EACCES', 'EPERM', 'EROFS', 'EXDEV', 'EMLINK', 'ENOTSUP', 'ENOSYS']);

/** A hard link refuses an existing name, which a rename would replace. */
async function linkFree(file: string, wanted: string): Promise<string> {
  for (let n = 1; n <= mostOfOneName; n++) {
    const target = n === 1 ? wanted : `${wanted}~${n}`;
    try {
      await link(file, target);
      return target;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      // A crash between link and unlink left the same file under both names: that link is the one wanted.
      const [here, there] = await Promise.all([lstat(file), lstat(target)]);
      if (here.ino === there.ino && here.dev === there.dev) return target;
    }
  }
  throw new NexusError('conflict', `${wanted} exists ${mostOfOneName} times over.`);
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
