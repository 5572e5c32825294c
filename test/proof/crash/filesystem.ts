import { statSync } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Operation } from '../shim/shim.ts';

/**
 * A file system as POSIX promises one, and no better. Of a file, what was written since its last fsync may be there or
 * not, each write by itself. Of a directory, a name that was made or removed since the directory's own fsync may be
 * there or not, whatever became of the file's bytes. Two things that every journaling file system promises are taken
 * for granted: a rename is done or not done, never half, and a sector of 512 bytes is written or not.
 */
export interface FileSystem {
  /** Takes in what was done next. */
  apply(operation: Operation): void;
  /** What a power cut now may undo, in the order in which it was done. */
  pending(): Change[];
  /** The tree after a power cut that these survived, a subset of `pending`, each as it is or changed by `torn`. */
  after(survived: readonly Change[]): Tree;
}

/** A file or directory, whatever its names. */
interface Thing {
  id: number;
  inode: number;
  directory: boolean;
  bytes: Buffer;
  names: Map<string, Thing>;
}

export type Change =
  | { kind: 'write'; thing: Thing; offset: number; data: Buffer }
  | { kind: 'length'; thing: Thing; length: number }
  /** A name that is given, or taken where `thing` is absent; `of` the directory by whose fsync it lasts. */
  | { kind: 'names'; of: Thing; entries: { directory: Thing; name: string; thing: Thing | undefined }[] };

/** Path → what is there, parents before what is in them. */
export type Tree = Map<string, { thing: number; inode: number; bytes: Buffer | undefined }>;

/** What lies below `root` now. */
export async function treeOf(root: string): Promise<Tree> {
  const tree: Tree = new Map();
  async function walk(at: string): Promise<void> {
    const entries = await readdir(path.join(root, at), { withFileTypes: true });
    for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      const below = path.join(at, entry.name);
      const file = path.join(root, below);
      const { ino } = await lstat(file);
      tree.set(below, {
        thing: ino,
        inode: ino,
        bytes: entry.isDirectory() ? undefined : await readFile(file),
      });
      if (entry.isDirectory()) await walk(below);
    }
  }
  await walk('');
  return tree;
}

/** That of `root`, which begins as `tree`, all of it taken for durable. */
export function fileSystemOf(root: string, tree: Tree): FileSystem {
  let nextId = 0;
  const byInode = new Map<number, Thing>();
  let changes: Change[] = [];

  function made(inode: number, directory: boolean, bytes: Buffer = Buffer.alloc(0)): Thing {
    const thing: Thing = { id: nextId++, inode, directory, bytes, names: new Map() };
    byInode.set(inode, thing);
    return thing;
  }

  const top = made(statSync(root).ino, true);
  const directories = new Map([['.', top]]);
  for (const [file, { inode, bytes }] of tree) {
    const thing = byInode.get(inode) ?? made(inode, bytes === undefined, bytes);
    if (thing.directory) directories.set(file, thing);
    directories.get(path.dirname(file))?.names.set(path.basename(file), thing);
  }
  // What the running program sees.
  const live = new Map<Thing, Map<string, Thing>>();
  for (const thing of byInode.values()) if (thing.directory) live.set(thing, new Map(thing.names));

  function directoryOf(file: string): Thing {
    let at = top;
    for (const name of path.relative(root, path.dirname(file)).split('/').filter(Boolean)) {
      const next = live.get(at)?.get(name);
      if (next === undefined) throw new Error(`${file} is in no directory that is known.`);
      at = next;
    }
    return at;
  }

  function name(
    file: string,
    thing: Thing | undefined,
  ): Extract<Change, { kind: 'names' }>['entries'][number] {
    const directory = directoryOf(file);
    const base = path.basename(file);
    if (thing === undefined) live.get(directory)?.delete(base);
    else live.get(directory)?.set(base, thing);
    return { directory, name: base, thing };
  }

  function enter(
    { entries }: Extract<Change, { kind: 'names' }>,
    names: (of: Thing) => Map<string, Thing>,
  ): void {
    for (const { directory, name, thing } of entries)
      if (thing === undefined) names(directory).delete(name);
      else names(directory).set(name, thing);
  }

  function sync(thing: Thing): void {
    const lasts = (change: Change): boolean =>
      change.kind === 'names' ? change.of === thing : change.thing === thing;
    // Of a rename that lasts, what its old name was before is over as well.
    const over = new Set<Change>(changes.filter(lasts));
    for (const change of changes)
      if (change.kind === 'names' && !over.has(change))
        for (const later of over)
          if (
            later.kind === 'names' &&
            changes.indexOf(later) > changes.indexOf(change) &&
            later.entries.some((one) =>
              change.entries.some((two) => one.directory === two.directory && one.name === two.name),
            )
          )
            over.add(change);
    for (const change of changes.filter((one) => over.has(one)))
      if (change.kind === 'names') enter(change, (of) => of.names);
      else thing.bytes = changed(thing.bytes, change);
    changes = changes.filter((one) => !over.has(one));
  }

  return {
    apply({ kind, inode, offset, data, path: file, other }) {
      const there = (): Thing => {
        const thing = byInode.get(inode);
        if (thing === undefined) throw new Error(`${kind} of ${file}: nothing with inode ${inode} is known.`);
        return thing;
      };
      switch (kind) {
        case 'create':
        case 'mkdir': {
          const thing = made(inode, kind === 'mkdir');
          if (thing.directory) live.set(thing, new Map());
          changes.push({ kind: 'names', of: directoryOf(file), entries: [name(file, thing)] });
          return;
        }
        case 'write':
          changes.push({ kind: 'write', thing: there(), offset, data: Buffer.from(data) });
          return;
        case 'trunc':
          changes.push({ kind: 'length', thing: there(), length: offset });
          return;
        case 'rename': {
          const thing = there();
          const of = directoryOf(other);
          changes.push({ kind: 'names', of, entries: [name(file, undefined), name(other, thing)] });
          return;
        }
        case 'link':
          changes.push({ kind: 'names', of: directoryOf(other), entries: [name(other, there())] });
          return;
        case 'unlink':
        case 'rmdir':
          changes.push({ kind: 'names', of: directoryOf(file), entries: [name(file, undefined)] });
          return;
        case 'sync':
          sync(there());
          return;
        case 'open':
        case 'read':
        case 'chmod':
        case 'say':
        case 'hit':
      }
    },

    pending: () => changes.filter((change) => !isShared(change)),

    after(survived) {
      const names = new Map<Thing, Map<string, Thing>>();
      const namesIn = (of: Thing): Map<string, Thing> => {
        const known = names.get(of) ?? new Map(of.names);
        names.set(of, known);
        return known;
      };
      const bytes = new Map<number, Buffer>();
      for (const change of survived)
        if (change.kind === 'names') enter(change, namesIn);
        else bytes.set(change.thing.id, changed(bytes.get(change.thing.id) ?? change.thing.bytes, change));
      const tree: Tree = new Map();
      const walk = (directory: Thing, at: string): void => {
        for (const [name, thing] of [...namesIn(directory)].sort(([a], [b]) => (a < b ? -1 : 1))) {
          // SQLite makes its shared memory anew from the log.
          if (name.endsWith('-shm')) continue;
          const below = path.join(at, name);
          const { id, inode } = thing;
          if (!thing.directory) tree.set(below, { thing: id, inode, bytes: bytes.get(id) ?? thing.bytes });
          else {
            tree.set(below, { thing: id, inode, bytes: undefined });
            walk(thing, below);
          }
        }
      };
      walk(top, '');
      return tree;
    },
  };

  function isShared(change: Change): boolean {
    if (change.kind === 'names') return change.entries.every(({ name }) => name.endsWith('-shm'));
    return [...live.values()].some((names) =>
      [...names].some(([name, thing]) => thing === change.thing && name.endsWith('-shm')),
    );
  }
}

function changed(bytes: Buffer, change: Exclude<Change, { kind: 'names' }>): Buffer {
  const end = change.kind === 'length' ? change.length : change.offset + change.data.length;
  const length = change.kind === 'length' ? end : Math.max(bytes.length, end);
  const next = Buffer.alloc(length);
  bytes.copy(next);
  if (change.kind === 'write') change.data.copy(next, change.offset);
  return next;
}

const sector = 512;

/** A write of which its first half was done, in whole sectors; `undefined` where it is too short for that. */
export function torn(change: Change): Change | undefined {
  if (change.kind !== 'write') return undefined;
  const end = Math.floor((change.offset + change.data.length / 2) / sector) * sector;
  return end <= change.offset ? undefined : { ...change, data: change.data.subarray(0, end - change.offset) };
}

/** A write that only made the file longer: its bytes never came to the disk. */
export function hollow(change: Change): Change | undefined {
  return change.kind === 'write' ? { ...change, data: Buffer.alloc(change.data.length) } : undefined;
}
