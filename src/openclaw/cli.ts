import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isObject, type Json } from './configfile.ts';
import { oneLine, type Outcome, refused, type TellRequest, unclear } from './outcome.ts';
import { codeOf } from './unreadable.ts';

/** The `openclaw` that is run. */
export interface CommandLine {
  env: Record<string, string>;
  /** Who runs it, where that is another user than this process. */
  as?: { uid: number; gid: number };
  /** How long the agent may work on it, after which OpenClaw ends its run. */
  turnSeconds: number;
}

/** Starting `openclaw` and being admitted takes some seconds before the agent begins. */
const startMs = 30_000;
const longestOutput = 4 * 1024 * 1024;

/**
 * Tells an agent by `openclaw agent`, in a session of the batch's own. When the wait is over the program is killed by
 * SIGKILL, with all that it started: on another signal it would end the agent's run, and so would `--timeout`, while
 * of this the gateway knows nothing and the run goes on. Facts from OpenClaw's documentation ("openclaw agent") and
 * from runs of 2026.7.35 and 2026.9.6.
 */
export async function tellByCommandLine(command: CommandLine, request: TellRequest): Promise<Outcome> {
  const directory = await mkdtemp(join(tmpdir(), 'nexus-message-'));
  try {
    const file = join(directory, 'message.txt');
    await writeFile(file, request.message, { mode: 0o600, flag: 'wx' });
    if (command.as !== undefined)
      for (const path of [file, directory]) await chown(path, command.as.uid, command.as.gid);
    return await run(command, request, file);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function run(command: CommandLine, request: TellRequest, file: string): Promise<Outcome> {
  const { execa } = await import('execa');
  const { agent, batch, waitSeconds, signal } = request;
  const flags = ['--agent', agent, '--session-key', `agent:${agent}:inbox-${batch}`, '--message-file', file];
  const deadline = ['--json', '--timeout', String(Math.max(command.turnSeconds, waitSeconds + 60))];
  const child = execa('openclaw', ['agent', ...flags, ...deadline], {
    env: command.env,
    extendEnv: false,
    ...(command.as === undefined ? {} : { uid: command.as.uid, gid: command.as.gid }),
    cwd: '/',
    stdin: 'ignore',
    // A group of its own, so that a signal to this process does not reach it, and all of it can be ended.
    detached: true,
    maxBuffer: longestOutput,
    reject: false,
  });
  const waited = new AbortController();
  const stop = AbortSignal.any([signal, waited.signal]);
  let over = false;
  const killed = pause(request.requestMs ?? startMs + waitSeconds * 1000, undefined, { signal: stop })
    .catch((error: unknown) => {
      if (!stop.aborted) throw error;
    })
    .then(() => {
      if (waited.signal.aborted) return;
      over = true;
      killGroup(child.pid);
    });
  try {
    const result = await child;
    if (over && !result.isMaxBuffer && result.exitCode === undefined)
      return signal.aborted
        ? { state: 'failed', reason: 'It was interrupted while the agent worked on it.', refused: false }
        : { state: 'admitted' };
    return outcomeOf(result);
  } finally {
    waited.abort();
    await killed;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    // It has just ended.
    if (codeOf(error) !== 'ESRCH') throw error;
  }
}

interface Ended {
  exitCode?: number | undefined;
  signal?: string | undefined;
  code?: string | undefined;
  stdout: string;
  stderr: string;
}

/** What OpenClaw prints before anything can have begun. */
const before =
  /ECONNREFUSED|unknown option|does not recognize option|requires credentials|unknown agent|Unknown agent id/i;

function outcomeOf({ exitCode, signal, code, stdout, stderr }: Ended): Outcome {
  if (code === 'ENOENT')
    return refused(
      'There is no `openclaw` on PATH to tell the agent by. Put it there, or turn on its hooks.',
    );
  if (code === 'EACCES' || code === 'EPERM')
    return refused(`\`openclaw\` cannot be run (${code}). Look at who may run it.`);
  const answer = answerIn(stdout) ?? answerIn(stderr);
  const reference = typeof answer?.['runId'] === 'string' ? { reference: answer['runId'].slice(0, 200) } : {};
  if (exitCode === 0 && answer !== undefined) {
    // Releases before 2026.8 run the agent themselves where there is no gateway, and then say no status.
    const status = answer['status'] ?? (ranHere(answer) ? 'ok' : undefined);
    if (status === 'ok') return { state: 'done' };
    if (status === 'in_flight' || status === 'accepted') return { state: 'admitted', ...reference };
    return unclear(`The agent's run ended with the status ${oneLine(JSON.stringify(status ?? null))}.`);
  }
  const failure = isObject(answer?.['error']) ? answer['error']['message'] : undefined;
  const said = oneLine(typeof failure === 'string' ? failure : lastLine(stderr));
  if (answer?.['origin'] === 'gateway' || answer?.['status'] !== undefined)
    return unclear(`The agent's run ended in an error${said === '' ? '' : `: ${said}`}.`);
  if (before.test(typeof failure === 'string' ? failure : stderr))
    return refused(`\`openclaw agent\` refused the message: ${said}.`);
  const how = signal === undefined ? `exit status ${exitCode ?? 'unknown'}` : signal;
  return unclear(`\`openclaw agent\` failed (${how})${said === '' ? '' : `: ${said}`}.`);
}

function ranHere(answer: Json): boolean {
  const { payloads, meta } = answer;
  if (!Array.isArray(payloads) || !isObject(meta)) return false;
  const wrong = payloads.some((payload: unknown) => isObject(payload) && payload['isError'] === true);
  return !wrong && meta['error'] === undefined && meta['aborted'] !== true;
}

/** The JSON object that it ends with: older releases may print lines before it. */
function answerIn(output: string): Json | undefined {
  for (const start of [0, ...[...output.matchAll(/^\{/gm)].map(({ index }) => index)]) {
    try {
      const value: unknown = JSON.parse(output.slice(start));
      if (isObject(value)) return value;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return undefined;
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
