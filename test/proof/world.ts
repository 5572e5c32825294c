import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';

export const binary = path.resolve(import.meta.dirname, '..', '..', 'bin', 'nexus.js');

/** A run of the built binary that has ended. */
export interface Ran {
  /** `null` where a signal ended it. */
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A run that goes on. */
export interface Running {
  pid: number;
  /** Ends this process alone, by its id. */
  kill: (signal: NodeJS.Signals) => void;
  ended: Promise<Ran>;
}

/** A run of which it is not known yet whether it will listen. */
export interface Starting extends Running {
  /** Where; rejects when it ends before. */
  listening: Promise<string>;
}

export interface Serving extends Running {
  url: string;
}

/** A machine with nothing on it but what a part puts there: home, OpenClaw's state, Nexus's data. */
export interface World {
  home: string;
  stateDir: string;
  dataDir: string;
  /** Replaces the configuration. */
  configure(settings: object): Promise<void>;
  start(args: readonly string[], env?: Record<string, string>): Starting;
  /** To its end; killed after two minutes, which a part takes for a hang. */
  run(args: readonly string[], env?: Record<string, string>): Promise<Ran>;
  /**
   * `nexus serve` on a port of loopback, a free one unless it is said, over `dataDir` unless `env` says otherwise;
   * resolves when it listens.
   */
  serve(env?: Record<string, string>, port?: number): Promise<Serving>;
}

export async function newWorld(directory: string): Promise<World> {
  const home = await mkdtemp(path.join(directory, 'world-'));
  const stateDir = path.join(home, '.openclaw');
  const dataDir = path.join(home, 'data');
  const config = path.join(home, 'config.json');
  await mkdir(stateDir);

  function start(args: readonly string[], env: Record<string, string> = {}): Starting {
    const child = spawn(process.execPath, [binary, ...args], {
      cwd: home,
      // PATH is all that a shell would have; every other name of this machine is left out.
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        OPENCLAW_STATE_DIR: stateDir,
        NEXUS_DATA_DIR: dataDir,
        NEXUS_CONFIG: config,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return running(child);
  }

  const world: World = {
    home,
    stateDir,
    dataDir,
    configure: (settings) => writeFile(config, JSON.stringify(settings), { mode: 0o600 }),
    start,
    async run(args, env) {
      const { ended, kill } = start(args, env);
      const hung = setTimeout(() => kill('SIGKILL'), 120_000);
      try {
        return await ended;
      } finally {
        clearTimeout(hung);
      }
    },
    async serve(env, port = 0) {
      const started = start(['serve', '--port', String(port)], env);
      return { ...started, url: await started.listening };
    },
  };
  await world.configure({});
  return world;
}

function running(child: ChildProcess): Starting {
  const { pid, stdout, stderr } = child;
  if (pid === undefined || stdout === null || stderr === null) throw new Error('nexus did not start.');
  let out = '';
  let err = '';
  stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  const lines = createInterface({ input: stderr });
  const listening = new Promise<string>((resolve, reject) => {
    lines.on('line', (line) => {
      err += `${line}\n`;
      const url = /Listening on (http:\S+),/.exec(line)?.[1];
      if (url !== undefined) resolve(url);
    });
    child.once('close', () => reject(new Error(`nexus ended before it listened: ${err}`)));
  });
  // Who does not serve does not wait for it.
  listening.catch(() => undefined);
  const ended = once(child, 'close').then(
    (): Ran => ({ status: child.exitCode, signal: child.signalCode, stdout: out, stderr: err }),
  );
  return { pid, kill: (signal) => void child.kill(signal), ended, listening };
}
