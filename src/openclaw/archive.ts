import { randomInt } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { access, chown, link, lstat, mkdir, rename, unlink } from 'node:fs/promises';
import path from 'node:path';
import { NexusError } from '../errors.ts';
import { syncDirectory } from '../lastingnames.ts';
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

/** A file as it is now: its signature, and what stays the same when only its name changes. `changed` when gone. */
export async function lookAtFile(file: string): Promise<{ identity: string; signature: string }> {
  try {
    const stat = await lstat(file);
    return { identity: identityOf(stat), signature: signatureOf(stat) };
  } catch (error) {
    throw translated(error, file);
  }
}

function identityOf({ dev, ino, size, mtimeMs }: Stats): string {
  return `${dev}:${ino}:${size}:${mtimeMs}`;
}

/** Refuses with `forbidden` a file whose directory, or the `archive/` in it, this user may not write to. */
export async function checkMovable(file: string): Promise<void> {
  const directory = path.dirname(file);
  const archive = path.join(directory, archiveDirectory);
  try {
    await access(directory, constants.W_OK | constants.X_OK);
    const there = await lstat(archive).catch(absent);
    if (there === undefined) return;
    if (!there.isDirectory()) throw new NexusError('forbidden', `${archive} is not a directory.`);
    await access(archive, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw translated(error, directory);
  }
}

/**
 * Moves a file to `archive/` beside it: never over another (the second of a name becomes `name~2`), with its inode
 * and so its modification time. Whatever OpenClaw puts under that name meanwhile is put back: what is taken is looked
 * at after it was taken. At any crash it lies under at least one name, which a backfill lists. Resolves with the new
 * path and its signature there when both directories are synced. `changed` when it is not the file of `identity` any
 * more; `forbidden` when the directory may not be written.
 */
export async function moveToArchive(
  file: string,
  identity: string,
): Promise<{ place: string; signature: string }> {
  const directory = path.dirname(file);
  const archive = path.join(directory, archiveDirectory);
  try {
    await makeArchive(archive, directory);
    if (identityOf(await lstat(file)) !== identity) throw changed(file);
    // The link comes first: where it is refused nothing has moved.
    const target = await linkFree(file, path.join(archive, path.basename(file)));
    await syncDirectory(archive);
    // Taken rather than unlinked, so that what is taken away can be looked at. A name that a backfill lists.
    const taken = path.join(archive, `${path.basename(file)}~${randomInt(1e9, 1e10)}`);
    await rename(file, taken);
    const [kept, gone] = await Promise.all([lstat(target), lstat(taken)]);
    if (kept.ino !== gone.ino || kept.dev !== gone.dev) {
      await putBack(taken, file);
      throw changed(file);
    }
    await unlink(taken);
    await syncDirectory(archive);
    await syncDirectory(directory);
    const there = await lstat(target);
    if (identityOf(there) === identity) return { place: target, signature: signatureOf(there) };
    // Somebody still had it open: listed by the next backfill, under no signature that is known.
    throw changed(target);
  } catch (error) {
    throw translated(error, file);
  }
}

function changed(file: string): NexusError {
  return new NexusError('changed', `${file} was written to or replaced while it was moved.`);
}

/** Not over what has come under the old name since: then it stays in `archive/`, where a backfill finds it. */
async function putBack(taken: string, file: string): Promise<void> {
  try {
    await link(taken, file);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    // No second name is allowed here: the one it has goes back, when nothing has come under the old one.
    if ((await lstat(file).catch(absent)) !== undefined) return;
    await rename(taken, file);
    return;
  }
  await syncDirectory(path.dirname(file));
  await unlink(taken);
}

async function makeArchive(archive: string, directory: string): Promise<void> {
  const made = await mkdir(archive, { recursive: true, mode: 0o700 });
  if (made === undefined) return;
  // Before anything is moved into it: what lies in a directory whose name is lost is lost as well.
  await syncDirectory(directory);
  if (process.geteuid?.() !== 0) return;
  // Root works for the owner of the directory, who must be able to read what is in it.
  const [{ uid, gid }, own] = await Promise.all([lstat(directory), lstat(archive)]);
  // Asked for only where it changes something: a service may not be allowed to ask at all.
  if (uid !== own.uid || gid !== own.gid) await chown(archive, uid, gid);
}

const refusals = new Set([
  'EACCES',
  'EPERM',
  'EROFS',
  'EXDEV',
  'EMLINK',
  'ENOTSUP',
  'ENOSYS',
  'EEXIST',
  'ENOTDIR',
]);

function translated(error: unknown, place: string): unknown {
  const code = codeOf(error);
  if (code === 'ENOENT') return new NexusError('changed', `${place} is gone.`, { cause: error });
  if (code === undefined || !refusals.has(code)) return error;
  return new NexusError('forbidden', `This user may not move files of ${place} (${code}).`, {
    hint:
      code === 'EROFS'
        ? 'Where it is a new agent: run `nexus install` again, which opens its directory to the jobs.'
        : 'Let the job write that directory, or run `nexus config set afterUpload keep`.',
    cause: error,
  });
}

function absent(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error;
}

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
