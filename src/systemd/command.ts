import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
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

/** How a program ended that may begin others. */
export interface GroupAnswer {
  /** Why it could not be started. */
  code?: string;
  status?: number;
  killed?: string;
  /** It did not end in time, and was ended. */
  late: boolean;
  /** The last of its stderr. */
  said: string;
}

export interface GroupOptions {
  input: string;
  /** All of its environment. */
  env: Record<string, string>;
  signal: AbortSignal;
  timeoutMs: number;
}

const mostSaid = 64 * 1024;

const lastWordsMs = 1_000;

/**
 * Runs a program with `input` on its stdin, and at the signal or after the time ends it with all that it began. It is
 * over when the program itself is, which execa's is not: what it left running is not waited for where it ended in time.
 */
export async function runGroup(
  program: string,
  args: readonly string[],
  { input, env, signal, timeoutMs }: GroupOptions,
): Promise<GroupAnswer> {
  const { promise, resolve } = Promise.withResolvers<Omit<GroupAnswer, 'late' | 'said'>>();
  let child: ChildProcess;
  try {
    // A group of its own, so that what it starts can be ended with it.
    child = spawn(program, args, { env, cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'pipe'] });
  } catch (error) {
    // A name or an argument that no program can have.
    return { code: codeIn(error), late: false, said: '' };
  }
  let late = false;
  let said = '';
  child.once('error', (error) => resolve({ code: codeIn(error) }));
  child.once('exit', (status, killed) =>
    resolve({ ...(status === null ? {} : { status }), ...(killed === null ? {} : { killed }) }),
  );
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    said = (said + part).slice(-mostSaid);
  });
  const closed = Promise.withResolvers<void>();
  const spoken = new AbortController();
  child.once('close', () => closed.resolve());
  // It need not read what it is told.
  child.stdin?.on('error', () => undefined).end(input);

  const end = () => {
    late = true;
    killGroup(child, 'SIGTERM');
    kill = setTimeout(() => killGroup(child, 'SIGKILL'), 1_000);
  };
  let kill: NodeJS.Timeout | undefined;
  const timer = setTimeout(end, timeoutMs);
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  try {
    const ended = await promise;
    // The last that it said may still be on its way; what it left running may hold the pipe open for ever.
    await Promise.race([
      closed.promise,
      delay(lastWordsMs, undefined, { signal: spoken.signal }).catch(() => undefined),
    ]);
    if (late) killGroup(child, 'SIGKILL');
    return { ...ended, late, said };
  } finally {
    spoken.abort();
    clearTimeout(timer);
    clearTimeout(kill);
    signal.removeEventListener('abort', end);
    child.stdin?.destroy();
    child.stderr?.destroy();
  }
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // It has ended.
    if (codeIn(error) !== 'ESRCH') throw error;
  }
}

function codeIn(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}
