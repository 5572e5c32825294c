import { closeSync, fsyncSync, openSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf } from './diskerrors.ts';

/** Makes a directory's entries durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The same, where nothing may come in between. */
export function syncEntries(directory: string): void {
  const handle = openSync(directory, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/**
 * Makes the names of a directory and of those above it durable, up to the first that is not this user's: any job may
 * have made them, for something that can be had again and so without a sync. To be called before the first file is made
 * in it that cannot be had again.
 */
export function syncAbove(directory: string): void {
  const own = process.geteuid?.();
  for (let at = path.resolve(directory); path.dirname(at) !== at && statSync(at).uid === own; ) {
    at = path.dirname(at);
    try {
      syncEntries(at);
    } catch (error) {
      // One that may not even be read was made by somebody else.
      if (!['EACCES', 'EPERM', 'EROFS', 'EINVAL'].includes(errnoOf(error) ?? '')) throw error;
      return;
    }
  }
}
