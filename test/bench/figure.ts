import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type Measured, measure } from './measure.ts';

export interface Figure {
  what: string;
  value: string;
  against: string;
  ratio?: number;
  /** Of the ratio, or of what was measured: least and most, and of how many. */
  spread?: string;
  goal?: string;
  met?: boolean;
}

/** A directory of its own, and nexus run in it. */
export interface Place {
  stateDir: string;
  nexus: (args: string[], settings: object) => Promise<Measured>;
  /** An endpoint over a store in this directory, on a free port of loopback. */
  serve: (dataDir: string) => Promise<{ url: string; stop: () => Promise<void> }>;
}

/** What a suite of the bench works with. */
export interface Bench {
  /** Removed afterwards. */
  root: string;
  /** A tenth or a twentieth of everything. */
  quick: boolean;
  place: (name: string) => Place;
  /** Says what was not measured, and why. */
  leave: (reason: string) => void;
}

export const binary = path.resolve(import.meta.dirname, '..', '..', 'bin', 'nexus.js');

export function placeIn(root: string, name: string): Place {
  const home = path.join(root, name);
  const stateDir = path.join(home, '.openclaw');
  return {
    stateDir,
    async nexus(args, settings) {
      const config = path.join(home, 'config.json');
      await mkdir(home, { recursive: true });
      await writeFile(config, JSON.stringify(settings), { mode: 0o600 });
      const env = {
        PATH: process.env['PATH'],
        HOME: home,
        NEXUS_CONFIG: config,
        OPENCLAW_STATE_DIR: stateDir,
      };
      const run = await measure(process.execPath, [binary, ...args], env);
      if (run.status !== 0)
        throw new Error(`nexus ${args.join(' ')} ended with status ${run.status}: ${run.stdout}`);
      return run;
    },
    async serve(dataDir) {
      const env = { PATH: process.env['PATH'], HOME: home, NEXUS_DATA_DIR: dataDir };
      const child = spawn(process.execPath, [binary, 'serve', '--port', '0'], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const ended = once(child, 'exit');
      for await (const line of createInterface({ input: child.stderr })) {
        const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
        if (url === undefined) continue;
        child.stderr.resume();
        return {
          url,
          stop: async () => {
            child.kill('SIGTERM');
            await ended;
          },
        };
      }
      throw new Error('nexus serve ended before it listened.');
    },
  };
}

export function middleOf(list: readonly number[]): number {
  return list.toSorted((one, other) => one - other)[Math.floor(list.length / 2)] ?? 0;
}

/** `0.91–1.12x of 3`; nothing of one alone. */
export function spreadOf(list: readonly number[], digits = 2, unit = 'x'): { spread: string } | object {
  if (list.length < 2) return {};
  const [least, most] = [Math.min(...list), Math.max(...list)];
  return { spread: `${least.toFixed(digits)}–${most.toFixed(digits)}${unit} of ${list.length}` };
}

const enough = 3;
const longMs = 10_000;

/** Three times, or once where once takes longer than ten seconds. */
export async function repeated<T>(run: (round: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  const began = performance.now();
  do results.push(await run(results.length));
  while (results.length < enough && performance.now() - began < longMs * results.length);
  return results;
}
