import { readFile, rm } from 'node:fs/promises';
import { flip } from './snapshot.ts';
import { bitIn, type Kind } from './kinds.ts';

/** A bit of the log that a process that was killed has left, but for its last commit, of which nobody can tell. */
export function walKind(database: string): Kind {
  return {
    name: 'write-ahead log of a process that was killed',
    promised: false,
    async rot(random) {
      const file = `${database}-wal`;
      await rm(`${database}-shm`, { force: true });
      const bit = bitIn(lastCommitIn(await readFile(file)), random);
      await flip(file, bit);
      return `bit ${bit} of store.sqlite-wal`;
    },
  };
}

/** Where the frames of the last commit begin. */
function lastCommitIn(wal: Buffer): number {
  const frame = 24 + wal.readUInt32BE(8);
  const ends: number[] = [];
  for (let at = 32; at + frame <= wal.length; at += frame)
    if (wal.readUInt32BE(at + 4) !== 0 && wal.readUInt32BE(at + 8) === wal.readUInt32BE(16))
      ends.push(at + frame);
  return ends.at(-2) ?? 32;
}
