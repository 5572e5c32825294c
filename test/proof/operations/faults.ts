import { constants } from 'node:os';
import { shuffled } from '../part.ts';
import type { Fault, Kind, Operation } from '../shim/shim.ts';

const { EIO, ENOSPC, EACCES } = constants.errno;

interface Manner {
  name: string;
  how: string;
  on?: boolean;
  /** Which operations can fail so. */
  kinds: readonly Kind[];
}

const names: readonly Kind[] = ['create', 'rename', 'link', 'unlink', 'mkdir', 'rmdir'];
const changes: readonly Kind[] = [...names, 'write', 'trunc', 'sync', 'chmod'];

/** Each way in which an operation may fail, and those that can. */
export const manners: readonly Manner[] = [
  { name: 'EIO', how: String(EIO), kinds: [...changes, 'open', 'read'] },
  { name: 'EIO from then on', how: String(EIO), on: true, kinds: changes },
  { name: 'ENOSPC', how: String(ENOSPC), kinds: ['create', 'write', 'rename', 'link', 'mkdir'] },
  {
    name: 'ENOSPC from then on',
    how: String(ENOSPC),
    on: true,
    kinds: ['create', 'write', 'rename', 'link', 'mkdir'],
  },
  { name: 'EACCES', how: String(EACCES), kinds: [...names, 'open', 'chmod'] },
  { name: 'half a write', how: 'short', kinds: ['write'] },
  { name: 'half a write, then ENOSPC', how: 'torn', kinds: ['write'] },
  { name: 'done, and yet EIO', how: `late${EIO}`, kinds: names },
  // After the one is before the next.
  { name: 'kill -9', how: 'before', kinds: changes },
];

export interface Case {
  manner: string;
  kind: Kind;
  fault: Fault;
  killed: boolean;
}

/**
 * Every operation of a run, each in every manner that fits it, in the order in which they are tried: first one of each
 * kind of operation on each kind of file, SQLite's own after the others: most of all operations are on one database.
 */
export function casesOf(operations: readonly Operation[], random: () => number): Case[] {
  const cases = operations.flatMap(({ n, kind, path }) =>
    manners
      .filter(({ kinds }) => kinds.includes(kind))
      .map(({ name, how, on = false }) => ({
        sort: `${kind} ${path.replaceAll(/[0-9a-f-]{8,}|\d+/g, '#')}`,
        manner: name,
        kind,
        fault: { at: n, how, on },
        killed: how === 'before',
      })),
  );
  const met = new Map<string, number>();
  return shuffled(cases, random)
    .map((one) => {
      const rank = met.get(one.sort) ?? 0;
      met.set(one.sort, rank + 1);
      // A database's own operations are SQLite's, which knows failures.
      return { one, rank: 2 * rank + (one.sort.includes('.sqlite') ? 1 : 0) };
    })
    .sort((a, b) => a.rank - b.rank)
    .map(({ one }) => one);
}
