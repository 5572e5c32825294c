import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { onTestFinished } from 'vitest';

const binary = path.resolve(import.meta.dirname, '..', '..', 'bin', 'nexus.js');

export interface RunOptions {
  /** More environment; it knows nothing of this machine's Nexus or OpenClaw. */
  env?: Record<string, string>;
  cwd?: string;
  uid?: number;
}

/** What a run of the built binary left. */
export interface Ran {
  status: number | undefined;
  stdout: string;
  stderr: string;
}

/** A machine without a trace of Nexus or OpenClaw: an empty home, removed after the test. */
export interface Machine {
  home: string;
  configFile: string;
  dataDir: string;
  /** Runs the built binary to its end. Never throws for its exit status. */
  nexus(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** The same, with the one JSON object that stdout must be. */
  json(args: readonly string[], options?: RunOptions): Promise<Ran & { answer: Record<string, unknown> }>;
  /** Starts it; killed after the test where it has not ended. */
  start(args: readonly string[], options?: RunOptions): Started;
}

export type Started = ReturnType<typeof launch>;

export async function newMachine(): Promise<Machine> {
  const home = await mkdtemp(path.join(tmpdir(), 'nexus-home-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));

  async function nexus(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return left(await launch(home, args, options));
  }
  return {
    home,
    configFile: path.join(home, '.config', 'nexus', 'config.json'),
    dataDir: path.join(home, '.local', 'share', 'nexus'),
    nexus,
    async json(args, options) {
      const ran = await nexus([...args, '--json'], options);
      return { ...ran, answer: oneObject(ran.stdout) };
    },
    start(args, options = {}) {
      const started = launch(home, args, options);
      onTestFinished(async () => {
        started.kill('SIGKILL');
        await started;
      });
      return started;
    },
  };
}

function launch(home: string, args: readonly string[], { env = {}, cwd = home, uid }: RunOptions) {
  return execa(process.execPath, [binary, ...args], {
    cwd,
    // PATH is all that a shell would have; every other name of this machine is left out.
    env: { PATH: process.env['PATH'] ?? '', HOME: home, ...env },
    extendEnv: false,
    reject: false,
    stripFinalNewline: false,
    stdin: 'ignore',
    all: true,
    ...(uid === undefined ? {} : { uid }),
  });
}

/** What it left, once it has ended. */
export function left(ended: { exitCode?: number; stdout: string; stderr: string }): Ran {
  return { status: ended.exitCode, stdout: ended.stdout, stderr: ended.stderr };
}

/** The object that stdout is, and nothing beside it: one line of JSON. */
export function oneObject(stdout: string): Record<string, unknown> {
  if (!/^\{.*\}\n$/.test(stdout)) throw new Error(`Not exactly one JSON object: ${JSON.stringify(stdout)}`);
  const value: unknown = JSON.parse(stdout);
  return Object.fromEntries(Object.entries(value ?? {}));
}

/** Resolves with the first line of stderr or stdout that matches. */
export async function lineOf(started: Started, pattern: RegExp): Promise<RegExpExecArray> {
  for await (const line of started.iterable({ from: 'all' })) {
    const found = pattern.exec(line);
    if (found !== null) return found;
  }
  throw new Error(`It ended without a line like ${String(pattern)}.`);
}
