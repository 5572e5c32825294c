import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf } from '../diskerrors.ts';

/**
 * What a delivered file holds, when it is a regular file of at most so many bytes; else its size. Nothing of either
 * when it cannot be read, because the agent has moved it, for one.
 */
export async function readDelivered(
  file: string,
  mostBytes: number,
): Promise<{ content?: string; bytes?: number }> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await handle.stat();
    if (!found.isFile()) return {};
    if (found.size > mostBytes) return { bytes: found.size };
    return { content: await handle.readFile('utf8') };
  } catch (error) {
    // Also one that opens and then is not given, as by a bad disk: the agent is told of it and of the others.
    if (errnoOf(error) === undefined) throw error;
    return {};
  } finally {
    await handle?.close();
  }
}
