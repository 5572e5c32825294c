import { readFileSync } from 'node:fs';
import { type Invocation, readCommandLine } from './commandline.ts';
import { configPath } from './configfile.ts';
import { interrupted, type StopSignal, stoppedBy } from './context.ts';
import { describe, exit, exitStatus, NexusError } from './errors.ts';
import { readHiddenLine } from './input.ts';
import { bug, codeIn, logIn } from './logline.ts';
import { createOutput, type Output } from './output.ts';
import { unlikeUnits } from './systemd/asinstalled.ts';

/**
 * Runs one command line, without `node` and the script, and resolves with the exit status. What a command opens it
 * has closed by then. The first SIGINT or SIGTERM asks the command to end, a further SIGINT kills where it stands.
 */
export async function main(argv: readonly string[]): Promise<number> {
  const version = ownVersion();
  const read = readCommandLine(argv, version);
  const json = read.kind !== 'text' && read.json;
  const { env } = process;
  const ofFlags = read.kind === 'text' ? {} : read.log;
  const ofEnvironment = logIn(env['NEXUS_LOG_LEVEL'], env['NEXUS_LOG_FORMAT']);
  const output = createOutput({
    stdout: process.stdout,
    stderr: process.stderr,
    json,
    env,
    log: {
      level: ofFlags.level ?? ofEnvironment.level,
      format: ofFlags.format ?? ofEnvironment.format,
    },
    facts: read.kind === 'text' || read.name === '' ? {} : { job: read.name },
  });
  if (read.kind === 'text') {
    if (read.asked) output.result(read.text);
    else output.info(read.text);
  }
  if (read.kind === 'error') output.error(describe(read.error), { code: read.error.code });
  if (read.kind === 'error' && read.json) output.result(failure(read.name, false, read.error));
  if (read.kind !== 'command') return settle(output, read.kind === 'text' && read.asked ? exit.done : usage);

  const stop = stopOnSignals(output);
  try {
    const status = await run(read, output, stop.signal, version);
    const signal = stoppedBy(stop.signal);
    return signal === undefined ? status : signal === 'SIGINT' ? 130 : 143;
  } finally {
    stop.ignore();
  }
}

const usage = exitStatus(new NexusError('usage', ''));

async function run(
  command: Invocation,
  output: Output,
  signal: AbortSignal,
  version: string,
): Promise<number> {
  const began = performance.now();
  try {
    const { env } = process;
    const file = configPath(env, command.configFile);
    output.debug(`nexus ${version}, configured by ${file}.`);
    // Under systemd it is a unit itself.
    if (env['INVOCATION_ID'] === undefined) {
      const warning = unlikeUnits(command.name, file, env);
      if (warning !== undefined) output.warn(warning);
    }
    const status = await command.run({
      env,
      output,
      signal,
      readHiddenLine: (prompt) =>
        readHiddenLine(prompt, {
          stdin: process.stdin,
          prompt: (text) => void process.stderr.write(text),
          signal,
          interrupt: () => void process.kill(process.pid, 'SIGINT'),
        }),
      now: () => new Date(),
      version,
      configPath: file,
    });
    return await settle(output, status ?? exit.done);
  } catch (error) {
    const stopped = signal.aborted && (error === signal.reason || isAbort(error));
    if (error instanceof NexusError) output.error(describe(error), { code: error.code });
    else if (!stopped) output.error(...bug(error));
    if (nothingDone[command.name] !== undefined)
      output.summary('Run ended.', {
        ok: false,
        code: stopped ? 'interrupted' : codeIn(error),
        ms: Math.round(performance.now() - began),
      });
    if (output.json && !output.answered) output.result(failure(command.name, stopped, error));
    return settle(output, exitStatus(error));
  }
}

/** Waits for what was written. A result that got lost is told and makes a good status a bad one. */
async function settle(output: Output, status: number): Promise<number> {
  try {
    await output.flush();
    return status;
  } catch (error) {
    output.error(describe(error), { code: codeIn(error) });
    return status === exit.done ? exitStatus(error) : status;
  }
}

const nothingShipped = { done: 0, already: 0, skipped: 0, bytes: 0, durationMs: 0, agents: {} };

/** By job: the counts of a report of a run that did nothing. */
const nothingDone: Partial<Record<string, object>> = {
  backfill: nothingShipped,
  upload: nothingShipped,
  'pull-webhooks': {
    delivered: 0,
    already: 0,
    durationMs: 0,
    agents: {},
    notified: { done: 0, admitted: 0, repeated: 0, failed: 0, waiting: 0 },
  },
};

/** The one object on stdout of a command that failed. Jobs name themselves `job`, as their reports do. */
function failure(name: string, stopped: boolean, error: unknown): object {
  const code = error instanceof NexusError ? error.code : stopped ? 'interrupted' : 'internal';
  const reason = { code, message: describe(error) };
  // The fields of a report, so that a script reads the same ones whatever happened.
  const nothing = nothingDone[name];
  if (nothing === undefined) return { command: name, ok: false, error: reason, schemaVersion: 1 };
  const failed = [{ item: name, reason: reason.message }];
  return { schemaVersion: 1, job: name, ok: false, ...nothing, failed, error: reason };
}

function stopOnSignals(output: Output): { signal: AbortSignal; ignore: () => void } {
  const controller = new AbortController();
  function onSignal(name: NodeJS.Signals): void {
    const stopping: StopSignal = name === 'SIGINT' ? 'SIGINT' : 'SIGTERM';
    if (!controller.signal.aborted) {
      output.info(stopping === 'SIGINT' ? 'Stopping; Ctrl-C again stops at once.' : 'Stopping.');
      controller.abort(interrupted(stopping));
    } else if (stopping === 'SIGINT') {
      // Without a handler of ours the signal does what it does by default.
      ignore();
      process.kill(process.pid, stopping);
    }
  }
  function ignore(): void {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return { signal: controller.signal, ignore };
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

function ownVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  const known = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return known ? String(manifest.version) : '0.0.0';
}
