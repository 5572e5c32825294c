import { execFile } from 'node:child_process';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import type { World } from '../world.ts';

/** A world as it was at one moment, which it is set back to before each case. */
export interface Base {
  restore(): Promise<void>;
}

const copy = (from: string, to: string): Promise<unknown> =>
  promisify(execFile)('cp', ['-a', '--reflink=auto', from, to]);

/** Nothing of the world may run meanwhile. */
export async function keepBase(world: World): Promise<Base> {
  const kept = `${world.home}-base`;
  await copy(world.home, kept);
  return {
    async restore() {
      await rm(world.home, { recursive: true, force: true });
      await copy(kept, world.home);
      await adopt(path.join(world.dataDir, 'store', 'store.sqlite'));
    },
  };
}

/**
 * A store knows its copies by inode and time of birth. This one stands for the store that it was copied from, so it is
 * told that it is that one.
 */
async function adopt(file: string): Promise<void> {
  const there = await stat(file, { bigint: true }).catch(() => undefined);
  if (there === undefined) return;
  const sqlite = new DatabaseSync(file);
  try {
    sqlite
      .prepare("UPDATE facts SET value = ? WHERE name = 'identity'")
      .run(`${there.ino}@${there.birthtimeNs}`);
  } finally {
    sqlite.close();
  }
}
