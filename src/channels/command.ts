import { type ChildProcess, spawn } from 'node:child_process';
import type { Notice } from '../alerts.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import { visible } from '../format.ts';
import { objectOf } from './text.ts';

const longestMs = 30_000;

/** Runs a command with the notice as JSON on its stdin. Throws `unavailable` unless it ends with status 0. */
export async function commandNotice(
  command: readonly string[],
  notice: Notice,
  id: string,
  env: Environment,
  signal: AbortSignal,
): Promise<string> {
  try {
    await runFor(command, `${JSON.stringify(objectOf(notice, id))}\n`, env, signal);
  } catch (error) {
    if (!(error instanceof NexusError) || error.code !== 'not_found') throw error;
    throw new NexusError('unavailable', error.message, { hint: 'Write its absolute path.' });
  }
  return `${command[0] ?? ''} ended with status 0`;
}

/**
 * Runs a program with `input` on its stdin and none of the secrets that this process was started with. `not_found`
 * when there is no such program, `unavailable` when it fails, is killed, or takes longer than half a minute. It is over
 * when the program itself is: what it left running is not waited for where it ended in time, and killed where it did not.
 */
export async function runFor(
  [program = '', ...args]: readonly string[],
  input: string,
  env: Environment,
  signal: AbortSignal,
): Promise<void> {
  const { code, status, killed, late, said } = await running(
    program,
    args,
    input,
    withoutSecrets(env),
    signal,
  );
  if (status === 0) return;
  if (code === 'ENOENT') throw new NexusError('not_found', `There is no program ${program}.`);
  const how = late
    ? 'did not end in time'
    : status === undefined
      ? `failed (${killed ?? code ?? 'unknown'})`
      : `ended with status ${status}`;
  const last = visible(said.trim().split('\n').at(-1) ?? '').slice(0, 300);
  throw new NexusError('unavailable', `${program} ${how}${last === '' ? '.' : `: ${last}`}`);
}

interface Ran {
  /** Why it could not be started. */
  code?: string;
  status?: number;
  killed?: string;
  late: boolean;
  said: string;
}

const mostSaid = 64 * 1024;

async function running(
  program: string,
  args: readonly string[],
  input: string,
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Omit<Ran, 'late' | 'said'>>();
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
  // It need not read what it is told.
  child.stdin?.on('error', () => undefined).end(input);

  const end = () => {
    late = true;
    killGroup(child, 'SIGTERM');
    kill = setTimeout(() => killGroup(child, 'SIGKILL'), 1_000);
  };
  let kill: NodeJS.Timeout | undefined;
  const timer = setTimeout(end, longestMs);
  if (signal.aborted) end();
  else signal.addEventListener('abort', end, { once: true });
  try {
    const ended = await promise;
    // The last that it said may still be on its way.
    await new Promise((soon) => setTimeout(soon, 20));
    if (late) killGroup(child, 'SIGKILL');
    return { ...ended, late, said };
  } finally {
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

/** What Nexus is started with for itself, and what systemd lends it. */
function withoutSecrets(env: Environment): Record<string, string> {
  const own = /^(NEXUS_|AZURE_|IDENTITY_|MSI_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_)/;
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value === undefined || own.test(name) ? [] : [[name, value]],
    ),
  );
}
