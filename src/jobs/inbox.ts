import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { type Item, positionOf } from '../mailbox.ts';

/**
 * An agent's inbox on disk, `{workspace}/inbox/webhooks/`, with a hidden directory in it for files that are being
 * written. The agent may write there too, so nothing is followed: what is made is made in the directories that were
 * opened, wherever their names point meanwhile. A file is in the inbox as a whole or not at all, mode 600, and, when
 * root works here, the workspace owner's.
 */
export interface Inbox {
  /** Absolute. */
  directory: string;
  /** Makes a file in the hidden directory, its bytes synced; nothing is left of one that fails. */
  write(temp: string, content: string): Promise<void>;
  /** Syncs the hidden directory. */
  syncTemps(): Promise<void>;
  /**
   * Gives a temporary file its name in the inbox, never over another: `there` when one with the same content has the
   * name, and the temporary one is gone then. `conflict` when other content has it, `changed` when the temporary file
   * is gone and the name is free.
   */
  place(temp: string, name: string): Promise<'placed' | 'there'>;
  /** Syncs both directories. */
  sync(): Promise<void>;
  /** True when the hidden directory holds the file. */
  holds(temp: string): Promise<boolean>;
  /** Removes a file of the hidden directory; absent is fine. */
  discard(temp: string): Promise<void>;
  /** Temporary files that were last written before this time, ms since 1970. */
  temps(before: number): Promise<string[]>;
  close(): Promise<void>;
}

const longestSource = 64;

/**
 * The file name of an item, whatever its source is called: `{source}_{id}.json`. The source never holds a `_`, and
 * the id names one row of one agent, so no two items share a name. `invalid` for an id that is none.
 */
export function fileNameOf({ id, source }: Pick<Item, 'id' | 'source'>): string {
  if (positionOf(id) === undefined)
    throw new NexusError('invalid', `${JSON.stringify(id.slice(0, 200))} is no id of a webhook item.`);
  const plain = source
    .slice(0, 4 * longestSource)
    .replace(/[^A-Za-z0-9.-]/gu, '-')
    .replace(/^[.-]+/, '')
    .slice(0, longestSource);
  return `${plain === '' ? 'webhook' : plain}_${id}.json`;
}

/** A name in the hidden directory, another one at each call. */
export function temporaryName(): string {
  return `${randomUUID()}.tmp`;
}

const temporary = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$/;

/** What the agent gets to read: the same bytes for the same item, numbers as they were sent. */
export function fileTextOf(item: Item): string {
  const { id, source, receivedAt, contentType, headers, payload, encoding, replayOf } = item;
  const content = {
    id,
    source,
    receivedAt,
    contentType,
    headers,
    payload: payload ?? null,
    encoding,
    replayOf,
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}

export function inboxOf(workspace: string): string {
  return path.join(workspace, 'inbox', 'webhooks');
}

/** The workspace of an inbox. */
export function workspaceOf(inbox: string): string {
  return path.dirname(path.dirname(inbox));
}

/**
 * Opens the inbox of a workspace, and makes its directories when they are absent, mode 700. `unavailable` when the
 * workspace is not there (a disk that is not mounted looks so), `forbidden` when a directory of the inbox is something
 * else, a symbolic link, or closed to this user.
 */
export async function openInbox(workspace: string): Promise<Inbox> {
  const handles: FileHandle[] = [];
  const names = [workspace];
  try {
    const root = await openWorkspace(workspace);
    handles.push(root);
    const owner = await ownerFor(root);
    for (const name of ['inbox', 'webhooks', '.incoming']) {
      const parent = handles.at(-1);
      if (parent === undefined) break;
      const above = path.join(...names);
      names.push(name);
      handles.push(await openOrMake(parent, above, name, owner));
    }
    const [, , inbox, incoming] = handles;
    if (inbox === undefined || incoming === undefined) throw new Error('A directory was not opened.');
    return inboxIn(inboxOf(workspace), inbox, incoming, owner, () => closeAll(handles));
  } catch (error) {
    await closeAll(handles);
    throw translated(error, path.join(...names));
  }
}

interface Owner {
  uid: number;
  gid: number;
}

/** Where the kernel shows open directories, names below them are looked up in those very directories. */
const reachable = process.platform === 'linux';

function within(directory: FileHandle, shown: string, name: string): string {
  return path.join(reachable ? `/proc/self/fd/${directory.fd}` : shown, name);
}

const directoryOnly = constants.O_RDONLY | constants.O_DIRECTORY;

async function openWorkspace(workspace: string): Promise<FileHandle> {
  try {
    return await open(workspace, directoryOnly);
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    throw new NexusError('unavailable', `The workspace ${workspace} is not there.`, {
      hint: 'Mount its disk, or start the agent once, so that OpenClaw makes it.',
      cause: error,
    });
  }
}

/** Root works for the owner of the workspace, who must be able to read what is put there. */
async function ownerFor(workspace: FileHandle): Promise<Owner | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  const { uid, gid } = await workspace.stat();
  return { uid, gid };
}

async function openOrMake(
  parent: FileHandle,
  above: string,
  name: string,
  owner: Owner | undefined,
): Promise<FileHandle> {
  const at = within(parent, above, name);
  let made = true;
  try {
    await mkdir(at, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    made = false;
  }
  let handle: FileHandle;
  try {
    handle = await open(at, directoryOnly | constants.O_NOFOLLOW);
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'ENOTDIR' && code !== 'ELOOP') throw error;
    const shown = path.join(above, name);
    throw new NexusError('forbidden', `${shown} is not a directory, or is a symbolic link.`, {
      hint: 'Remove it: the inbox has directories of its own.',
      cause: error,
    });
  }
  try {
    if (made && owner !== undefined) await handle.chown(owner.uid, owner.gid);
    if (made) await parent.sync();
  } catch (error) {
    await handle.close();
    throw error;
  }
  return handle;
}

function inboxIn(
  directory: string,
  inbox: FileHandle,
  incoming: FileHandle,
  owner: Owner | undefined,
  close: () => Promise<void>,
): Inbox {
  const hidden = path.join(directory, '.incoming');
  const tempAt = (temp: string) => within(incoming, hidden, plainName(temp));
  const fileAt = (name: string) => within(inbox, directory, plainName(name));

  /** The name is as it was said: errors name it as people see it, not by way of an open directory. */
  async function naming<T>(shown: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw translated(error, shown);
    }
  }

  async function write(temp: string, content: string): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(tempAt(temp), flags, 0o600);
    try {
      try {
        if (owner !== undefined) await file.chown(owner.uid, owner.gid);
        await file.writeFile(content);
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      // What cannot be removed either is found by a later run.
      await unlink(tempAt(temp)).catch(ignored);
      throw error;
    }
  }

  async function place(temp: string, name: string): Promise<'placed' | 'there'> {
    const there = await lstat(fileAt(name)).catch(absent);
    if (there === undefined) {
      try {
        await rename(tempAt(temp), fileAt(name));
        return 'placed';
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
        // A file system over a network may have done it and say this of its second try.
        if ((await lstat(fileAt(name)).catch(absent)) !== undefined) return 'placed';
        throw new NexusError('changed', `${path.join(hidden, temp)} was removed by somebody else.`);
      }
    }
    if (!there.isFile() || !(await sameContent(tempAt(temp), fileAt(name))))
      throw new NexusError('conflict', `${path.join(directory, name)} is there with other content.`, {
        hint: 'Move or remove it, and the next run delivers the item.',
      });
    await unlink(tempAt(temp));
    return 'there';
  }

  return {
    directory,
    write: (temp, content) => naming(path.join(hidden, temp), write(temp, content)),
    syncTemps: () => naming(hidden, incoming.sync()),
    place: (temp, name) => naming(path.join(directory, name), place(temp, name)),
    sync: () =>
      naming(
        directory,
        Promise.all([inbox.sync(), incoming.sync()]).then(() => undefined),
      ),
    holds: (temp) =>
      naming(
        hidden,
        lstat(tempAt(temp))
          .catch(absent)
          .then((found) => found !== undefined),
      ),
    discard: (temp) => naming(path.join(hidden, temp), unlink(tempAt(temp)).catch(absent)),
    temps: (before) => naming(hidden, temps(within(incoming, hidden, '.'), before)),
    close,
  };
}

function plainName(name: string): string {
  if (name !== path.basename(name) || name === '..' || name === '.' || name === '')
    throw new Error(`${JSON.stringify(name)} is no plain file name.`);
  return name;
}

/** Whether two small regular files hold the same bytes. */
async function sameContent(one: string, other: string): Promise<boolean> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handles: FileHandle[] = [];
  try {
    for (const file of [one, other]) handles.push(await open(file, flags));
    const stats = await Promise.all(handles.map((handle) => handle.stat()));
    if (!stats.every((stat) => stat.isFile()) || stats[0]?.size !== stats[1]?.size) return false;
    const [first, second] = await Promise.all(handles.map((handle) => handle.readFile()));
    return first !== undefined && second !== undefined && first.equals(second);
  } finally {
    await closeAll(handles);
  }
}

async function temps(directory: string, before: number): Promise<string[]> {
  const old: string[] = [];
  for (const name of await readdir(directory)) {
    if (!temporary.test(name)) continue;
    const found = await lstat(path.join(directory, name)).catch(absent);
    if (found !== undefined && found.mtimeMs < before) old.push(name);
  }
  return old;
}

async function closeAll(handles: FileHandle[]): Promise<void> {
  for (const handle of handles.splice(0).toReversed()) await handle.close();
}

function absent(error: unknown): undefined {
  if (errnoOf(error) !== 'ENOENT') throw error;
}

function ignored(): undefined {
  return undefined;
}

const remedies: Record<string, string> = {
  EACCES: 'Let the user of this job write there, or run it as the owner of the workspace or as root.',
  EPERM: 'Let the user of this job write there, or run it as the owner of the workspace or as root.',
  ENOSPC: 'Free space on its file system.',
  EDQUOT: 'Free space within the quota, or raise it.',
  EROFS: 'Mount its file system writable.',
};

function translated(error: unknown, shown: string): unknown {
  const code = errnoOf(error);
  if (code === undefined) return error;
  const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  const hint = remedies[code];
  return new NexusError(denied ? 'forbidden' : 'unavailable', `${shown} cannot be written (${code}).`, {
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

export async function isDirectory(place: string): Promise<boolean> {
  return (await stat(place).catch(absent))?.isDirectory() === true;
}

/**
 * What a delivered file holds, when it is a regular file of at most so many bytes; else its size. Nothing of either
 * when it cannot be read, because the agent has moved it, for one.
 */
export async function readDelivered(
  file: string,
  mostBytes: number,
): Promise<{ content?: string; bytes?: number }> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return {};
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) return {};
    if (found.size > mostBytes) return { bytes: found.size };
    return { content: await handle.readFile('utf8') };
  } finally {
    await handle.close();
  }
}
