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

/** Each as it was last tried. */
export async function readCaught(): Promise<Caught[]> {
  return JSON.parse(await readFile(file, 'utf8').catch(() => '[]'));
}

/** In place of all that was known of the same parts. */
export async function keepCaught(caught: readonly Caught[]): Promise<void> {
  const tried = new Set(caught.map(({ part }) => part));
  const others = (await readCaught()).filter(({ part }) => !tried.has(part));
  const all = [...others, ...caught].toSorted((one, other) => one.part.localeCompare(other.part));
  await writeFile(file, `${JSON.stringify(all, undefined, 2)}\n`);
}
