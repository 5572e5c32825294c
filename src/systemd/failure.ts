import type { Environment } from '../configfile.ts';
import { failedWith, NexusError } from '../errors.ts';
import { sentenceIn } from '../logline.ts';
import { type Answer, runCommand } from './command.ts';

/** How a unit of systemd ended, and the last that it said. */
export interface UnitFailure {
  /** The id of that start, where systemd says it. */
  invocation?: string;
  /** One sentence. */
  reason: string;
  /** Its last lines, the newest last. */
  lines: string[];
}

const askMs = 10_000;
const mostLines = 5;
/** The lines of a stack among them say nothing to who is told. */
const mostRead = 50;

/**
 * What systemd knows of a unit that failed: from the variables that it gives to what `OnFailure=` starts (since
 * 251), else from systemctl; and the last lines of the journal that were errors, else the last of any kind. What
 * cannot be asked is left out: a failure is told in any case.
 */
export async function unitFailure(unit: string, env: Environment, user: boolean): Promise<UnitFailure> {
  if (!/^[A-Za-z0-9:_.@\\-]{1,255}$/.test(unit) || unit.startsWith('-'))
    throw new NexusError('usage', `${JSON.stringify(unit)} is not the name of a unit.`);
  const told = env['MONITOR_UNIT'] === unit;
  const shown = told ? {} : await show(unit, env, user);
  const known = {
    result: told ? env['MONITOR_SERVICE_RESULT'] : shown['Result'],
    code: told ? env['MONITOR_EXIT_CODE'] : exitCodes[shown['ExecMainCode'] ?? ''],
    status: told ? env['MONITOR_EXIT_STATUS'] : shown['ExecMainStatus'],
    invocation: told ? env['MONITOR_INVOCATION_ID'] : shown['InvocationID'],
  };
  const { invocation = '' } = known;
  const lines = await journal(unit, invocation, env, user);
  return {
    ...(invocation === '' ? {} : { invocation }),
    reason: endingOf(unit, known),
    lines,
  };
}

/** `CLD_EXITED` and its like, as systemctl shows them. */
export const exitCodes: Record<string, string> = { 1: 'exited', 2: 'killed', 3: 'dumped' };

const statuses: Record<string, string> = {
  1: 'a bug; its trace is in the log',
  3: 'some items failed',
  64: 'the command line makes no sense',
  69: 'Nexus, or the disk, cannot be used now',
  75: 'another job is at work',
  77: 'refused: key, owner or permission',
  78: 'the configuration is wrong',
  203: 'its program cannot be started',
  217: 'its user does not exist',
  226: 'its directories cannot be set up',
  243: 'its credentials cannot be loaded',
};

const results: Record<string, string> = {
  timeout: 'took too long and was ended',
  'oom-kill': 'was killed because memory ran out',
  watchdog: 'answered its watchdog no more and was ended',
  'start-limit-hit': 'failed too often in a short time; systemd does not start it any more',
  resources: 'could not be started: systemd lacked something for it',
  'core-dump': 'crashed',
};

export interface Known {
  result: string | undefined;
  code: string | undefined;
  status: string | undefined;
}

/** One sentence on how a unit ended. */
export function endingOf(unit: string, { result, code, status }: Known): string {
  const how = results[result ?? ''];
  if (how !== undefined) return `${unit} ${how}.`;
  if (code === 'killed' || code === 'dumped') return `${unit} was killed by signal ${status ?? 'unknown'}.`;
  if (status === undefined || status === '') return `${unit} has failed.`;
  const means = statuses[status];
  return `${unit} ended with status ${status}${means === undefined ? '' : ` (${means})`}.`;
}

/** True when a unit runs, for the system or for this user. */
export async function isActive(unit: string, env: Environment): Promise<boolean> {
  for (const user of [[], ['--user']]) {
    const answer = await tried('systemctl', [...user, 'is-active', '--quiet', '--', unit], env);
    if (answer?.status === 0) return true;
  }
  return false;
}

/** True when neither manager knows the unit: it was taken away, and is never active again. */
export async function isGone(unit: string, env: Environment): Promise<boolean> {
  const states: string[] = [];
  for (const user of [[], ['--user']]) {
    const answer = await tried('systemctl', [...user, 'show', '--property=LoadState', '--', unit], env);
    // A user's manager may not be there at all; the system's has to say so itself.
    if (answer?.status === 0) states.push(answer.stdout.trim());
    else if (user.length === 0) return false;
  }
  return states.length > 0 && states.every((state) => state === 'LoadState=not-found');
}

async function show(unit: string, env: Environment, user: boolean): Promise<Record<string, string>> {
  const asked = ['Result', 'ExecMainCode', 'ExecMainStatus', 'InvocationID'].join(',');
  const said = await ask(
    'systemctl',
    [...(user ? ['--user'] : []), 'show', `--property=${asked}`, '--', unit],
    env,
  );
  return Object.fromEntries(
    said.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

/** The last lines that one start of a unit wrote, none where there is no journal; who has just ended has written all. */
export async function linesOf(
  unit: string,
  invocation: string,
  env: Environment,
  user: boolean,
): Promise<string[]> {
  await tried('journalctl', ['--sync'], env);
  return await ask('journalctl', journalArgs(unit, invocation, user), env);
}

async function journal(unit: string, invocation: string, env: Environment, user: boolean): Promise<string[]> {
  const args = journalArgs(unit, invocation, user);
  const errors = await ask('journalctl', ['--priority=err', ...args], env);
  const said = errors.length > 0 ? errors : await ask('journalctl', args, env);
  return said.flatMap((line) => sentenceIn(line) ?? []).slice(-mostLines);
}

function journalArgs(unit: string, invocation: string, user: boolean): string[] {
  // With the id of its start only what it said itself, and not what systemd says of it.
  const which = /^[0-9a-f]{32}$/.test(invocation)
    ? [`_SYSTEMD_INVOCATION_ID=${invocation}`]
    : [user ? `--user-unit=${unit}` : `--unit=${unit}`];
  return [
    ...(user ? ['--user'] : []),
    '--no-pager',
    '--quiet',
    '--output=cat',
    `--lines=${mostRead}`,
    ...which,
  ];
}

async function ask(program: string, args: string[], env: Environment): Promise<string[]> {
  const answer = await tried(program, args, env);
  if (answer?.status !== 0) return [];
  return answer.stdout.split('\n').filter((line) => line !== '');
}

/** `undefined` where there is no such program. */
async function tried(program: string, args: string[], env: Environment): Promise<Answer | undefined> {
  try {
    return await runCommand(program, args, { env, timeoutMs: askMs });
  } catch (error) {
    if (failedWith(error, 'unavailable')) return undefined;
    throw error;
  }
}
