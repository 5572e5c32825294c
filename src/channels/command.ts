import type { Notice } from '../alerts.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
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
 * when there is no such program, `unavailable` when it fails, is killed, or takes longer than half a minute.
 */
export async function runFor(
  [program = '', ...args]: readonly string[],
  input: string,
  env: Environment,
  signal: AbortSignal,
): Promise<void> {
  const { execa } = await import('execa');
  const result = await execa(program, args, {
    input,
    env: withoutSecrets(env),
    extendEnv: false,
    cwd: '/',
    timeout: longestMs,
    forceKillAfterDelay: 1_000,
    cancelSignal: signal,
    maxBuffer: 64 * 1024,
    reject: false,
  });
  if (!result.failed) return;
  if (result.code === 'ENOENT') throw new NexusError('not_found', `There is no program ${program}.`);
  const how =
    result.timedOut || result.isCanceled
      ? 'did not end in time'
      : result.exitCode === undefined
        ? `failed (${result.signal ?? result.code ?? 'unknown'})`
        : `ended with status ${result.exitCode}`;
  const said = (result.stderr.trim().split('\n').at(-1) ?? '').slice(0, 300);
  throw new NexusError('unavailable', `${program} ${how}${said === '' ? '.' : `: ${said}`}`);
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
