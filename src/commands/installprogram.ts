import { realpathSync } from 'node:fs';
import path from 'node:path';
import type { Environment } from '../configfile.ts';
import type { Surroundings } from '../context.ts';
import { errnoOf } from '../diskerrors.ts';
import { NexusError } from '../errors.ts';

/** The program that units run, and where its parts lie. */
export interface Program {
  version: string;
  node: string;
  script: string;
  /** The directory of the package. */
  root: string;
  /** The file of `openclaw`, where it is on the PATH. */
  openclaw: string | undefined;
}

/** This Node and this Nexus, as units call them: by names that an upgrade of either leaves, where there are any. */
export function thisProgram({ env, version }: Surroundings, home: string | undefined): Program {
  const said = process.argv[1];
  if (said === undefined) throw new NexusError('config', 'It cannot be told where nexus itself lies.');
  const script = realpathSync(said);
  return {
    version,
    node: lastingName(process.execPath, [process.argv0, ...namedOnPath('node', env)]),
    script: lastingName(script, [said, ...namedOnPath('nexus', env)]),
    root: path.dirname(path.dirname(script)),
    openclaw: openclawIn(env, home),
  };
}

/**
 * The file, or where its path has a version in it the first of these names that leads to it and has none: nvm, pnpm and
 * Homebrew remove the old version's directory, and leave links to the new one.
 */
export function lastingName(file: string, names: readonly string[]): string {
  const real = realOf(file);
  if (real === undefined || !isVersioned(file)) return file;
  return (
    names.find(
      (name) => path.isAbsolute(name) && !isVersioned(name) && !isPassing(name) && realOf(name) === real,
    ) ?? file
  );
}

/** `…/v24.21.0/bin/node`, `…/Cellar/node/24.1.0_1/…`, `…/nexus@0.1.0/…`. */
export function isVersioned(file: string): boolean {
  return /(^|[^\d.])\d+\.\d+\.\d+/.test(file);
}

/** Links of a shell or a session, as fnm makes them. */
function isPassing(file: string): boolean {
  return ['/proc/', '/run/user/', '/tmp/', '/var/tmp/'].some((place) => file.startsWith(place));
}

function namedOnPath(name: string, env: Environment): string[] {
  return (env['PATH'] ?? '').split(':').map((directory) => path.join(directory, name));
}

/** sudo leaves out of the PATH where a user's package managers put programs. */
const inHome = ['.local/bin', '.npm-global/bin', '.local/share/pnpm', '.volta/bin', '.bun/bin', 'bin'];

function openclawIn(env: Environment, home: string | undefined): string | undefined {
  const others = home === undefined ? [] : inHome.map((directory) => path.join(home, directory));
  const beside = [path.dirname(process.execPath), ...others];
  return [...namedOnPath('openclaw', env), ...beside.map((directory) => path.join(directory, 'openclaw'))]
    .filter((file) => path.isAbsolute(file))
    .find((file) => realOf(file) !== undefined);
}

/** Without links; `undefined` where there is no such file, or it cannot be seen. */
export function realOf(file: string): string | undefined {
  try {
    return realpathSync(file);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
