import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** What became of a seeded bug. */
export interface Caught {
  seed: string;
  file: string;
  part: string;
  /** The first promise that the part saw broken; absent where it saw none. */
  by?: string;
  /** How many of these in all. */
  broken: number;
}

const file = path.join(import.meta.dirname, 'caught.json');

/** Of the last time that all were tried. */
export async function readCaught(): Promise<Caught[]> {
  return JSON.parse(await readFile(file, 'utf8').catch(() => '[]'));
}

export async function writeCaught(caught: readonly Caught[]): Promise<void> {
  await writeFile(file, `${JSON.stringify(caught, undefined, 2)}\n`);
}
