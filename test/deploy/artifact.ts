import { mkdir, mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { freePort } from '../freeport.ts';

export const project = path.resolve(import.meta.dirname, '..', '..');

export interface Artifact {
  zip: string;
  /** As its package.json says. */
  version: string;
}

/** Makes it by the step of the workflow that does, which works at another place each time. */
export async function makeArtifact(directory: string): Promise<Artifact> {
  await mkdir(directory, { recursive: true });
  await execa(path.join(project, '.ci', 'artifact'), [directory], { env: { TMPDIR: directory } });
  const zip = path.join(directory, 'nexus.zip');
  const manifest: unknown = JSON.parse((await execa('unzip', ['-p', zip, 'package.json'])).stdout);
  return { zip, version: String(Object(manifest).version) };
}

export async function unpack(zip: string, directory: string): Promise<void> {
  await execa('unzip', ['-q', zip, '-d', directory]);
}

/** A running artifact. */
export interface Site {
  port: number;
  url: string;
  /** Its home when it started, which was empty; beside what was unpacked. */
  home: string;
  /** What it wrote to stderr so far. */
  said: () => string;
  kill: (signal: NodeJS.Signals) => Promise<number | undefined>;
  /** Resolves when it has ended, whoever ended it. */
  ended: Promise<void>;
}

/**
 * Starts what was unpacked as the platforms do: with its settings as environment, a port and an empty home. Resolves
 * when it listens or has ended.
 */
export async function startSite(
  directory: string,
  settings: Record<string, string>,
  command = [process.execPath, 'bin/nexus.js', 'serve'],
): Promise<Site> {
  const home = await mkdtemp(`${directory}-home-`);
  const port = await freePort();
  const [program = '', ...words] = command;
  const child = execa(program, words, {
    cwd: directory,
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      NEXUS_DATA_DIR: `${home}/data`,
      ...settings,
      PORT: String(port),
    },
    extendEnv: false,
    reject: false,
    buffer: false,
    stdin: 'ignore',
  });
  let said = '';
  child.stdout.resume();
  const ended = child.then(() => undefined);
  await new Promise<void>((resolve) => {
    child.stderr.on('data', (part: Buffer | string) => {
      said += part.toString();
      if (said.includes('Listening on ')) resolve();
    });
    ended.then(resolve, resolve);
  });
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    home,
    said: () => said,
    ended,
    async kill(signal) {
      child.kill(signal);
      return (await child).exitCode;
    },
  };
}

/** Settings where the storage account is Azurite, which is called by its connection string. */
export function asOf(settings: Record<string, string>): Record<string, string> {
  return { ...settings, NEXUS_STORE_ACCOUNT: '' };
}
