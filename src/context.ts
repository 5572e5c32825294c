import type { Config } from './config.ts';
import type { Environment } from './configfile.ts';
import type { Output } from './output.ts';

/** What every command is handed, whether or not there is a valid configuration. */
export interface Surroundings {
  env: Environment;
  output: Output;
  /** Aborted by SIGINT or SIGTERM; its reason is an `Interrupted`. A command finishes the item in hand and ends. */
  signal: AbortSignal;
  /** One line of stdin, asked for by this text and not shown where it is typed. `usage` when it is empty. */
  readHiddenLine: (prompt: string) => Promise<string>;
  now: () => Date;
  version: string;
  /** Absolute path of the configuration file, whether or not it exists. */
  configPath: string;
}

export interface Context extends Surroundings {
  config: Config;
}

/** A subcommand: resolves with its exit status, 0 when it says none. Throws a NexusError for what went wrong. */
export type Command<Options, Given = Context> = (context: Given, options: Options) => Promise<number | void>;

export type StopSignal = 'SIGINT' | 'SIGTERM';

/** The reason of an aborted `signal`. */
export interface Interrupted extends Error {
  name: 'AbortError';
  stoppedBy: StopSignal;
}

export function interrupted(stoppedBy: StopSignal): Interrupted {
  return Object.assign(new Error(`Stopped by ${stoppedBy}.`), { name: 'AbortError' as const, stoppedBy });
}

/** Which signal aborted it, if one did. */
export function stoppedBy(signal: AbortSignal): StopSignal | undefined {
  if (!signal.aborted) return undefined;
  const reason: unknown = signal.reason;
  return reason instanceof Error && 'stoppedBy' in reason && reason.stoppedBy === 'SIGTERM'
    ? 'SIGTERM'
    : 'SIGINT';
}
