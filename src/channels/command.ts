import type { Notice } from '../alerts.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import { visible } from '../format.ts';
import { runGroup } from '../systemd/command.ts';
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
  const { code, status, killed, late, said } = await runGroup(program, args, {
    input,
    env: withoutSecrets(env),
    signal,
    timeoutMs: longestMs,
  });
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

/** What Nexus is started with for itself, and what systemd lends it. */
function withoutSecrets(env: Environment): Record<string, string> {
  const own = /^(NEXUS_|AZURE_|IDENTITY_|MSI_|CREDENTIALS_DIRECTORY$|NOTIFY_SOCKET$|WATCHDOG_)/;
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value === undefined || own.test(name) ? [] : [[name, value]],
    ),
  );
}
