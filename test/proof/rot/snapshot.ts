import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';

/** A directory's files as they were, to be put back between two tries. */
export interface Snapshot {
  /** In place: a file keeps its inode, by which a store knows itself. */
  restore(): Promise<void>;
}

/** Of `directory` when nobody has a file of it open. What `leave` says is not kept, and gone after a restore. */
export async function snapshotOf(
  directory: string,
  leave: (file: string) => boolean = () => false,
): Promise<Snapshot> {
  const kept = new Map<string, Buffer>();
  for (const file of await filesBelow(directory)) if (!leave(file)) kept.set(file, await readFile(file));
  return {
    async restore() {
      for (const file of await filesBelow(directory)) if (!kept.has(file)) await rm(file);
      for (const [file, bytes] of kept) await put(file, bytes);
    },
  };
}

async function put(file: string, bytes: Buffer): Promise<void> {
  const now = await readFile(file).catch(() => undefined);
  if (now?.equals(bytes) === true) return;
  await mkdir(path.dirname(file), { recursive: true });
  const handle = await open(file, now === undefined ? 'w' : 'r+', 0o600);
  try {
    await handle.truncate(0);
    await handle.write(bytes, 0, bytes.length, 0);
  } finally {
    await handle.close();
  }
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
}

/** Changes one bit of a file, which nobody has open. */
export async function flip(file: string, bit: number): Promise<void> {
  const handle = await open(file, 'r+');
  try {
    const byte = Buffer.alloc(1);
    const at = Math.floor(bit / 8);
    await handle.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ (1 << (bit % 8));
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}
