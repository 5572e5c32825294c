import { NexusError } from '../errors.ts';

/** What a program of the machine answered. */
export interface Answer {
  /** `undefined` when it could not be started or was killed. */
  status: number | undefined;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** All of its environment. */
  env: Record<string, string | undefined>;
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Runs a program of the machine and waits for it. Throws for nothing that it does; `unavailable` when there is none. */
export async function runCommand(
  file: string,
  args: readonly string[],
  { env, timeoutMs = 0, signal }: CommandOptions,
): Promise<Answer> {
  const { execa } = await import('execa');
  const said = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  const ran = await execa(file, [...args], {
    env: Object.fromEntries(said),
    extendEnv: false,
    stdin: 'ignore',
    reject: false,
    timeout: timeoutMs,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  if (ran.code === 'ENOENT')
    throw new NexusError('unavailable', `There is no ${file} on this machine's PATH.`, { cause: ran });
  return { status: ran.exitCode, stdout: ran.stdout, stderr: ran.stderr };
}
