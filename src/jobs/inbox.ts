import { randomUUID } from 'node:crypto';
import { constants, existsSync, statSync } from 'node:fs';
import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  opendir,
  readdir,
  rename,
  stat,
  unlink,
} from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';
import { withField } from '../exactjson.ts';
import { type Item, positionOf } from '../mailbox.ts';
import { isPutio, transferIn } from '../transfer.ts';
import { readDelivered } from './delivered.ts';

/**
 * An agent's inbox on disk, `{workspace}/inbox/webhooks/`, with a hidden directory in it for files that are being
 * written. The agent may write there too, so nothing is followed: what is made is made in the directories that were
 * opened, wherever their names point meanwhile. A file is in the inbox as a whole or not at all, mode 600, and, when
 * root works here, the workspace owner's.
 */
export interface Inbox {
  /** Absolute. */
  directory: string;
  /**
   * Tells the hidden directory from any other that was or will be at its place, as one in a mount point whose disk is
   * not there, or one made anew: the number of its inode and when it was made. Numbers of devices are not in it, since
   * they change when a machine starts.
   */
  incoming: string;
  /** Makes a file in the hidden directory, its bytes synced; nothing is left of one that fails. */
  write(temp: string, content: string): Promise<void>;
  /** Syncs the hidden directory. */
  syncTemps(): Promise<void>;
  /**
   * Gives a temporary file its name in the inbox, not over another that is there when it looks: `there` when one with
   * the same item has the name, and the temporary one is gone then. `conflict` when other content has it, `changed`
   * when the temporary file is gone and the name is free.
   */
  place(temp: string, name: string): Promise<'placed' | 'there'>;
  /** Syncs both directories. */
  sync(): Promise<void>;
  /** True when the hidden directory holds the file. */
  holds(temp: string): Promise<boolean>;
  /** Removes a file of the hidden directory; absent is fine. */
  discard(temp: string): Promise<void>;
  /**
   * Notes in the hidden directory which ledger of deliveries (its file) the inbox is filled by: each knows only what it
   * delivered itself, and two would deliver items twice. `conflict` where another one is noted that is there still;
   * one that is gone is answered, on one line, since the agent may have written anything there.
   */
  filledBy(ledger: string): Promise<string | undefined>;
  /** Temporary files that were last written before this time, ms since 1970. */
  temps(before: number): Promise<string[]>;
  close(): Promise<void>;
}

/** What the sender answered when it was asked whether it had sent an item. */
export type Confirmed = boolean | 'unavailable';

const longestSource = 32;

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

const noteName = 'ledger';
const longestNote = 4096;

/**
 * What the agent gets to read: the same bytes for the same item but for `confirmed`, its payload as it came, beside it
 * the transfer that a payload of put.io's tells of. `too_large` for what no file can be made of.
 */
export function fileTextOf({ payloadText, ...item }: Item, confirmed?: Confirmed): string {
  const { id, source, receivedAt, contentType, headers, encoding, replayOf, reconciled } = item;
  const transfer = isPutio(source) && encoding === undefined ? transferIn(payloadText) : undefined;
  const about = { id, source, receivedAt, contentType, headers, encoding, replayOf, reconciled };
  const facts = { ...about, confirmed, transfer };
  try {
    return `${withField(facts, 'payload', payloadText, 2)}\n`;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new NexusError('too_large', 'The item is larger than a file that can be made of it.', {
      hint: `Fetch its body with \`nexus webhooks show --body ${id}\`, and drop it.`,
      cause: error,
    });
  }
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
 * workspace is not there, or is empty though its inbox was used before (a disk that is not mounted looks so),
 * `forbidden` when a directory of the inbox is something else, a symbolic link, or closed to this user.
 */
export async function openInbox(workspace: string, usedBefore: () => boolean = () => false): Promise<Inbox> {
  const handles: FileHandle[] = [];
  const names = [workspace];
  try {
    const root = await openWorkspace(workspace);
    handles.push(root);
    if ((await isEmpty(within(root, workspace, '.'))) && usedBefore()) throw emptied(workspace);
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
    const { ino, birthtimeNs } = await incoming.stat({ bigint: true });
    const identity = `${ino}.${birthtimeNs}`;
    return inboxIn(inboxOf(workspace), inbox, incoming, identity, owner, () => closeAll(handles));
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

function emptied(workspace: string): NexusError {
  return new NexusError(
    'unavailable',
    `The workspace ${workspace} is empty, though webhooks were delivered into it: is its disk mounted?`,
    {
      hint: `Mount it. If it was emptied on purpose, make its inbox: \`mkdir ${path.join(workspace, 'inbox')}\`.`,
    },
  );
}

/** Root works for the owner of the workspace, who must be able to read what is put there. */
async function ownerFor(workspace: FileHandle): Promise<Owner | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  const { uid, gid } = await workspace.stat();
  // A hardened unit may not even give root what is root's.
  return uid === 0 && gid === process.getegid?.() ? undefined : { uid, gid };
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
  identity: string,
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

  async function filledBy(ledger: string): Promise<string | undefined> {
    const noted = async () => {
      const { content } = await readDelivered(tempAt(noteName), longestNote);
      return content?.replace(/\p{C}+/gu, ' ').trim();
    };
    const checked = (other: string | undefined) => {
      if (other === undefined || !isOtherLedger(other, ledger)) return;
      throw new NexusError('conflict', `${directory} is filled by the ledger ${other} of another dataDir.`, {
        hint: `Let whatever pulls on this machine have one dataDir; to go on with this one for good, remove ${path.join(hidden, noteName)}.`,
      });
    };
    const before = await noted();
    checked(before);
    if (before !== undefined && isSameFile(before, ledger)) return undefined;
    const temp = temporaryName();
    await write(temp, `${ledger}\n`);
    try {
      if (before === undefined) await linkFirst(tempAt(temp), tempAt(noteName));
      else await rename(tempAt(temp), tempAt(noteName));
    } finally {
      await unlink(tempAt(temp)).catch(ignored);
    }
    checked(await noted());
    return before === '' ? undefined : before;
  }

  return {
    directory,
    incoming: identity,
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
    filledBy: (ledger) => naming(path.join(hidden, noteName), filledBy(ledger)),
    temps: (before) => naming(hidden, temps(within(incoming, hidden, '.'), before)),
    close,
  };
}

/** The agent may write anything into the note: only what is called as a ledger is, and is there, counts as one. */
function isOtherLedger(other: string, ledger: string): boolean {
  return path.basename(other) === path.basename(ledger) && existsSync(other) && !isSameFile(other, ledger);
}

/** One data directory may be known by several paths. */
function isSameFile(one: string, other: string): boolean {
  if (one === other) return true;
  const [here, there] = [one, other].map((file) => statSync(file, { throwIfNoEntry: false }));
  return here !== undefined && here.ino === there?.ino && here.dev === there.dev;
}

/** Of two that come first at once, one has the name. */
async function linkFirst(temp: string, name: string): Promise<void> {
  try {
    await link(temp, name);
  } catch (error) {
    // Not every file system has second names.
    if (errnoOf(error) !== 'EEXIST') await rename(temp, name);
  }
}

function plainName(name: string): string {
  if (name !== path.basename(name) || name === '..' || name === '.' || name === '')
    throw new Error(`${JSON.stringify(name)} is no plain file name.`);
  return name;
}

const confirmedBytes = '  "confirmed": "unavailable",\n'.length;

/** Asked again, the sender may have answered otherwise. What is above the payload is Nexus's own and one line each. */
function unconfirmed(content: Buffer): Buffer {
  return Buffer.from(
    content.toString('latin1').replace(/^ {2}"confirmed": (true|false|"unavailable"),\n/m, ''),
    'latin1',
  );
}

/** Whether two small regular files hold the same item. */
async function sameContent(one: string, other: string): Promise<boolean> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handles: FileHandle[] = [];
  try {
    for (const file of [one, other]) handles.push(await open(file, flags));
    const stats = await Promise.all(handles.map((handle) => handle.stat()));
    const sizes = stats.map(({ size }) => size);
    if (!stats.every((stat) => stat.isFile()) || Math.max(...sizes) - Math.min(...sizes) > confirmedBytes)
      return false;
    const [first, second] = await Promise.all(handles.map((handle) => handle.readFile()));
    if (first === undefined || second === undefined) return false;
    return first.equals(second) || unconfirmed(first).equals(unconfirmed(second));
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
  // A limit on the size of files, or on the length of names: what does not fit now will not fit later.
  if (code === 'EFBIG' || code === 'ENAMETOOLONG')
    return new NexusError('too_large', `${shown} cannot be written (${code}).`, {
      hint: 'Raise the limit on the size of files (`ulimit -f`), or fetch it with `nexus webhooks show --body`.',
      cause: error,
    });
  const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  const hint = remedies[code];
  return new NexusError(denied ? 'forbidden' : 'unavailable', `${shown} cannot be written (${code}).`, {
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

/** False for an empty directory too: what is left of a disk that is not mounted, or gone. */
export async function isWorkspace(place: string): Promise<boolean> {
  if ((await stat(place).catch(absent))?.isDirectory() !== true) return false;
  // One that cannot be looked into is for `openInbox` to refuse.
  return !(await isEmpty(place).catch(() => false));
}

async function isEmpty(directory: string): Promise<boolean> {
  const entries = await opendir(directory);
  try {
    return (await entries.read()) === null;
  } finally {
    await entries.close();
  }
}
