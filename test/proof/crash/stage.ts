import { lstat, mkdir, open, readdir, rename, rm, utimes } from 'node:fs/promises';
import path from 'node:path';
import type { Tree } from './filesystem.ts';

/**
 * Puts trees in the place of a world's files. Whatever was there when it was opened keeps its inode in each tree that
 * holds it, as after a power cut: Nexus knows its store and an agent's inbox by that.
 */
export interface Stage {
  set(tree: Tree): Promise<void>;
}

interface Kept {
  directory: boolean;
  modified: Date;
}

export async function openStage(root: string): Promise<Stage> {
  const aside = `${root}-aside`;
  await mkdir(aside, { recursive: true });
  const kept = new Map<number, Kept>();

  async function* walk(at: string): AsyncGenerator<{ file: string; inode: number; stat: Kept }> {
    for (const entry of await readdir(at, { withFileTypes: true })) {
      const file = path.join(at, entry.name);
      if (entry.isDirectory()) yield* walk(file);
      const { ino, mtime } = await lstat(file);
      yield { file, inode: ino, stat: { directory: entry.isDirectory(), modified: mtime } };
    }
  }
  for await (const { inode, stat } of walk(root)) kept.set(inode, stat);

  const parked = (inode: number): string => path.join(aside, String(inode));

  async function clear(): Promise<void> {
    for await (const { file, inode, stat } of walk(root)) {
      if (kept.get(inode)?.directory === stat.directory) await rename(file, parked(inode));
      else await rm(file, { recursive: true, force: true });
    }
  }

  async function isParked(inode: number, directory: boolean): Promise<boolean> {
    if (kept.get(inode)?.directory !== directory) return false;
    return await lstat(parked(inode)).then(
      () => true,
      () => false,
    );
  }

  return {
    async set(tree) {
      await clear();
      const placed = new Set<string>();
      for (const [name, { inode, bytes }] of tree) {
        const file = path.join(root, name);
        placed.add(file);
        if (await isParked(inode, bytes === undefined)) await rename(parked(inode), file);
        else if (bytes === undefined) await mkdir(file, { mode: 0o700 });
        if (bytes === undefined) continue;
        const handle = await open(file, 'a', 0o600);
        try {
          await handle.truncate(0);
          await handle.write(bytes);
        } finally {
          await handle.close();
        }
        const modified = kept.get(inode)?.modified;
        if (modified !== undefined) await utimes(file, modified, modified);
      }
    },
  };
}
