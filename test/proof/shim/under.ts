import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Site } from '../part.ts';
import type { Shim } from './shim.ts';

/** What a program of a part says to the part, a line each. */
export type Word<Result> = { say: string } | { result: Result };

/**
 * Runs a module of a part in a process of its own, on the shim: what it opens in process is not synced for real
 * either. It gets `given` and the site as its arguments, and ends by a result.
 */
export async function underShim<Result>(
  module: string,
  shim: Shim,
  site: Site,
  given: string,
): Promise<Result> {
  const { directory, deadline, seed } = site;
  const child = spawn(process.execPath, [module, directory, String(deadline), String(seed), given], {
    env: { ...process.env, ...shim({ roots: [directory] }) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let result: { result: Result } | undefined;
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-4000)));
  for await (const line of createInterface({ input: child.stdout })) {
    const word: Word<Result> = JSON.parse(line);
    if ('say' in word) site.say(word.say);
    else result = word;
  }
  if (result === undefined) throw new Error(`${module} ended without a result: ${said}`);
  return result.result;
}

/** The other end of it. */
export async function runUnder<Result>(work: (site: Site, given: string) => Promise<Result>): Promise<void> {
  const [directory = '', deadline = '', seed = '', given = ''] = process.argv.slice(2);
  const tell = (word: Word<Result>): void => void process.stdout.write(`${JSON.stringify(word)}\n`);
  const site = {
    directory,
    deadline: Number(deadline),
    seed: Number(seed),
    say: (line: string) => tell({ say: line }),
  };
  tell({ result: await work(site, given) });
}
