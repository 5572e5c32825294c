import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { onTestFinished } from 'vitest';

export const binary = path.resolve(import.meta.dirname, '..', '..', 'bin', 'nexus.js');

export interface RunOptions {
  /** More environment; it knows nothing of this machine's Nexus or OpenClaw. */
  env?: Record<string, string>;
  cwd?: string;
  uid?: number;
  /** What stdin has; else it has nothing. */
  input?: string;
}

/** What a run of the built binary left. */
export interface Ran {
  /** `undefined` when a signal killed it. */
  status: number | undefined;
  signal: string | undefined;
  stdout: string;
  stderr: string;
}

/** A run that goes on. Killed after the test where it has not ended. */
export interface Started {
  /** Resolves when stdout and stderr so far have a match. */
  shows: (pattern: RegExp) => Promise<RegExpExecArray>;
  /** Closes the reading end of stdout. */
  stopReading: () => void;
  kill: (signal: NodeJS.Signals) => void;
  ended: Promise<Ran>;
}

/** A machine without a trace of Nexus or OpenClaw: an empty home, removed after the test. */
export interface Machine {
  home: string;
  configFile: string;
  dataDir: string;
  /** Runs the built binary to its end. Never throws for its exit status. */
  nexus: (args: readonly string[], options?: RunOptions) => Promise<Ran>;
  /** The same with `--json`, and the one object that stdout must be. */
  json: (args: readonly string[], options?: RunOptions) => Promise<Ran & { answer: Record<string, unknown> }>;
  start: (args: readonly string[], options?: RunOptions) => Started;
}

export async function newMachine(): Promise<Machine> {
  const home = await mkdtemp(path.join(tmpdir(), 'nexus-home-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));

  function start(args: readonly string[], options: RunOptions = {}): Started {
    const started = launch(home, args, options);
    onTestFinished(async () => {
      started.kill('SIGKILL');
      await started.ended;
    });
    return started;
  }
  async function nexus(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return await launch(home, args, options).ended;
  }
  return {
    home,
    configFile: path.join(home, '.config', 'nexus', 'config.json'),
    dataDir: path.join(home, '.local', 'share', 'nexus'),
    start,
    nexus,
    async json(args, options) {
      const ran = await nexus([...args, '--json'], options);
      return { ...ran, answer: oneObject(ran.stdout) };
    },
  };
}

function launch(
  home: string,
  args: readonly string[],
  { env = {}, cwd = home, uid, input }: RunOptions,
): Started {
  const child = execa(process.execPath, [binary, ...args], {
    cwd,
    // PATH is all that a shell would have; every other name of this machine is left out.
    env: { PATH: process.env['PATH'] ?? '', HOME: home, ...env },
    extendEnv: false,
    reject: false,
    stripFinalNewline: false,
    ...(input === undefined ? { stdin: 'ignore' as const } : { input }),
    ...(uid === undefined ? {} : { uid }),
  });
  let shown = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer | string) => (shown += part.toString()));
  const ended = finish();

  async function finish(): Promise<Ran> {
    const { exitCode, signal, stdout, stderr } = await child;
    return { status: exitCode, signal, stdout, stderr };
  }
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    stopReading: () => void child.stdout.destroy(),
    shows(pattern) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const found = pattern.exec(shown);
          if (found !== null) resolve(found);
        };
        for (const stream of [child.stdout, child.stderr]) stream.on('data', look);
        look();
        ended.then(() => reject(new Error(`It ended without showing ${pattern}: ${shown}`)), reject);
      });
    },
  };
}

/** The object that stdout is, and nothing beside it: one line of JSON. */
export function oneObject(stdout: string): Record<string, unknown> {
  if (!/^\{.*\}\n$/.test(stdout)) throw new Error(`Not exactly one JSON object: ${JSON.stringify(stdout)}`);
  const value: unknown = JSON.parse(stdout);
  return Object.fromEntries(Object.entries(value ?? {}));
}
