import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { buildShim, type Fault, type Operation, readOperations } from './proof/shim/shim.ts';

/** An empty directory, and programs of which what they do in it is recorded, or fails. */
export interface Shimmed {
  home: string;
  /** Runs a module; with a fault what it reads counts as well where `reads`. */
  run: (
    program: string,
    fault?: Fault,
    reads?: boolean,
  ) => Promise<{ stdout: string; operations: Operation[] }>;
  /** A path below `home` as a literal of the program. */
  at: (name: string) => string;
}

/** Whether it can be had here: it is compiled, and put between a program and its files by Linux. */
export const canShim = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0;

/** A file of src as a literal of a program. */
export const from = (file: string): string =>
  JSON.stringify(path.join(import.meta.dirname, '..', 'src', file));

export async function shimmed(): Promise<Shimmed> {
  const root = await mkdtemp(path.join(tmpdir(), 'nexus-shim-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const shim = await buildShim(root);
  const home = await mkdtemp(path.join(root, 'home-'));
  const log = path.join(root, 'log');
  return {
    home,
    at: (name) => JSON.stringify(path.join(home, name)),
    async run(program, fault, reads = false) {
      await writeFile(log, '');
      const env = shim({ roots: [home], log, reads, ...(fault === undefined ? { data: true } : { fault }) });
      const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
        env: { ...process.env, ...env },
        encoding: 'utf8',
      });
      expect(stderr).toBe('');
      return { stdout, operations: await readOperations(log) };
    },
  };
}
