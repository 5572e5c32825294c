import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { World } from '../world.ts';

/** What shim.c counts; `say` is what went to a socket or a pipe. */
export type Kind =
  | 'open'
  | 'read'
  | 'create'
  | 'write'
  | 'trunc'
  | 'sync'
  | 'rename'
  | 'link'
  | 'unlink'
  | 'mkdir'
  | 'rmdir'
  | 'chmod'
  | 'say'
  | 'hit';

export interface Operation {
  /** Its number, from 1. */
  n: number;
  kind: Kind;
  inode: number;
  /** Of a write; the new length of a `trunc`; the descriptor of a `say`. */
  offset: number;
  data: Buffer;
  path: string;
  other: string;
}

/** The n-th operation fails so; see shim.c. */
export interface Fault {
  at: number;
  how: string;
  /** So does each further one. */
  on: boolean;
}

export interface Watch {
  roots: readonly string[];
  /** Absent: nothing is recorded. */
  log?: string;
  data?: boolean;
  reads?: boolean;
  fault?: Fault;
}

/** What a program's environment needs so that it is watched. */
export type Shim = (watch: Watch) => Record<string, string>;

/** The world whose programs all run on the shim, which makes them no less certain and saves the time of each sync. */
export function hurried(world: World, shim: Shim): World {
  const calm = shim({ roots: [world.home] });
  return { ...world, start: (args, env) => world.start(args, { ...calm, ...env }) };
}

/** Compiles it. */
export async function buildShim(directory: string): Promise<Shim> {
  const library = path.join(directory, 'shim.so');
  const source = path.join(import.meta.dirname, 'shim.c');
  await promisify(execFile)('cc', ['-shared', '-fPIC', '-O2', '-o', library, source, '-ldl', '-lpthread']);
  return ({ roots, log, data = false, reads = false, fault }) => ({
    LD_PRELOAD: library,
    UV_USE_IO_URING: '0',
    NEXUS_SHIM_ROOTS: roots.join(':'),
    ...(log === undefined ? {} : { NEXUS_SHIM_LOG: log }),
    ...(data ? { NEXUS_SHIM_DATA: '1' } : {}),
    ...(reads ? { NEXUS_SHIM_READS: '1' } : {}),
    ...(fault === undefined
      ? {}
      : {
          NEXUS_SHIM_AT: String(fault.at),
          NEXUS_SHIM_DO: fault.how,
          ...(fault.on ? { NEXUS_SHIM_ON: '1' } : {}),
        }),
  });
}

export async function readOperations(log: string): Promise<Operation[]> {
  const bytes = await readFile(log);
  const operations: Operation[] = [];
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(10, from);
    if (end === -1) break;
    const fields = bytes.toString('utf8', from, end).split('\t');
    const [n = '', kind = '', inode = '', offset = '', length = '', path = '', other = ''] = fields;
    const data = bytes.subarray(end + 1, end + 1 + Number(length));
    from = end + 1 + Number(length);
    if (!isKind(kind)) throw new Error(`The record has ${JSON.stringify(fields)}.`);
    operations.push({
      n: Number(n),
      kind,
      inode: Number(inode),
      offset: Number(offset),
      data,
      path,
      other,
    });
  }
  return operations;
}

const kinds: readonly string[] =
  'open read create write trunc sync rename link unlink mkdir rmdir chmod say hit'.split(' ');

function isKind(kind: string): kind is Kind {
  return kinds.includes(kind);
}
