import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { tellAgent } from '../../src/openclaw/notify.ts';
import type { Outcome, TellRequest } from '../../src/openclaw/outcome.ts';
import { temporary } from './fixtures.ts';

/** An `openclaw` on a PATH of its own, a real program that notes how it was called and then does as the test says. */
function openclaw(script: string): { directory: string; called: () => Called } {
  const directory = temporary();
  const note = join(directory, 'called.json');
  writeFileSync(
    join(directory, 'openclaw'),
    `#!${process.execPath}
const fs = require('node:fs');
const args = process.argv.slice(2);
const file = args[args.indexOf('--message-file') + 1];
const called = { args, message: fs.readFileSync(file, 'utf8'), mode: fs.statSync(file).mode & 0o777, file,
  env: Object.keys(process.env), pid: process.pid };
fs.writeFileSync(${JSON.stringify(`${note}.new`)}, JSON.stringify(called));
fs.renameSync(${JSON.stringify(`${note}.new`)}, ${JSON.stringify(note)});
const say = (value) => console.log(JSON.stringify(value, undefined, 2));
${script}
`,
    { mode: 0o755 },
  );
  return {
    directory,
    called: () => {
      const called: Called = JSON.parse(readFileSync(note, 'utf8'));
      return called;
    },
  };
}

interface Called {
  args: string[];
  message: string;
  mode: number;
  file: string;
  env: string[];
  pid: number;
}

function tell(directory: string, more: Partial<TellRequest> = {}): Promise<Outcome> {
  return tellAgent(
    { by: 'cli', env: { PATH: directory, HOME: directory }, turnSeconds: 3600 },
    {
      agent: 'main',
      batch: 'b-1',
      attempt: 1,
      message: 'hello\nthere „friend“',
      waitSeconds: 10,
      signal: new AbortController().signal,
      ...more,
    },
  );
}

test('it is asked for one turn in a session of the batch, with the message in a file that nobody else reads', async () => {
  vi.stubEnv('NEXUS_API_KEY', 'of this process');
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const { directory, called } = openclaw(
    "say({ runId: 'r', status: 'ok', summary: 'completed', result: {} });",
  );
  expect(await tell(directory)).toEqual({ state: 'done' });
  const { args, message, mode, file, env } = called();
  expect(args).toEqual([
    'agent',
    '--agent',
    'main',
    '--session-key',
    'agent:main:inbox-b-1',
    '--message-file',
    file,
    '--json',
    '--timeout',
    '3600',
  ]);
  expect(message).toBe('hello\nthere „friend“');
  expect(mode).toBe(0o600);
  expect(env.sort()).toEqual(expect.arrayContaining(['HOME', 'PATH']));
  expect(env).not.toContain('NEXUS_API_KEY');
  expect(existsSync(dirname(file))).toBe(false);
});

test.each<[what: string, script: string, outcome: object]>([
  [
    'a failure of the run is not known to be refused',
    "say({ ok: false, runId: 'r', origin: 'gateway', error: { type: 'cli_error', message: 'LLM request failed.' } }); process.exitCode = 1;",
    { state: 'failed', refused: false, reason: "The agent's run ended in an error: LLM request failed." },
  ],
  [
    'a time-out of the run is not done, though older releases exit with 0',
    "say({ runId: 'r', status: 'timeout', summary: 'aborted', result: {} });",
    { state: 'failed', refused: false },
  ],
  [
    'a run that is under way already is admitted',
    "say({ runId: 'r', status: 'in_flight' });",
    { state: 'admitted', reference: 'r' },
  ],
  [
    'a gateway that is not there refuses',
    "console.error('Gateway agent call connection closed; the Gateway may still be running this turn.'); say({ ok: false, error: { type: 'cli_error', message: 'Gateway not reachable at ws://127.0.0.1:18789 (ECONNREFUSED).' } }); process.exitCode = 1;",
    { state: 'failed', refused: true, reason: expect.stringContaining('ECONNREFUSED') },
  ],
  [
    'an unknown agent is refused',
    `say({ ok: false, error: { type: 'cli_error', message: 'Unknown agent id "main".' } }); process.exitCode = 1;`,
    { state: 'failed', refused: true },
  ],
  [
    'a release that does not know the flags refuses',
    'console.error("error: unknown option \'--session-key\'"); process.exitCode = 1;',
    { state: 'failed', refused: true },
  ],
  [
    'a connection that broke is not known to be refused',
    "say({ ok: false, error: { type: 'cli_error', message: 'gateway closed (1006)' } }); process.exitCode = 1;",
    { state: 'failed', refused: false },
  ],
  [
    'a run without a gateway, as before 2026.8, is done when it ended well',
    "console.log('EMBEDDED FALLBACK: gateway closed'); say({ payloads: [{ text: 'hello', mediaUrl: null }], meta: { durationMs: 5 } });",
    { state: 'done' },
  ],
  [
    'a run without a gateway that failed is not done',
    "say({ payloads: [{ text: 'no', isError: true }], meta: { durationMs: 5 } });",
    { state: 'failed', refused: false },
  ],
  ['an exit that says nothing is not done', '', { state: 'failed', refused: false }],
])('%s', async (_, script, outcome) => {
  expect(await tell(openclaw(script).directory)).toMatchObject(outcome);
});

test('no openclaw on PATH is refused with what to do', async () => {
  expect(await tell(temporary())).toEqual({
    state: 'failed',
    refused: true,
    reason: 'There is no `openclaw` on PATH to tell the agent by. Put it there, or turn on its hooks.',
  });
});

test('an interruption ends it without the signal at which it would end the run', async () => {
  const { directory, called } = openclaw(
    "process.on('SIGTERM', () => fs.writeFileSync(process.env.HOME + '/aborted', '')); setInterval(() => {}, 1000);",
  );
  const stop = new AbortController();
  const telling = tell(directory, { signal: stop.signal });
  while (!existsSync(join(directory, 'called.json'))) await sleep(20);
  stop.abort();
  expect(await telling).toMatchObject({ state: 'failed', refused: false });
  expect(existsSync(join(directory, 'aborted'))).toBe(false);
  expect(() => process.kill(called().pid, 0)).toThrow('ESRCH');
  expect(existsSync(dirname(called().file))).toBe(false);
});

test('a wait that is over leaves the run to the gateway, and what was started with it is ended', async () => {
  const { directory, called } = openclaw(
    "require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' }); setInterval(() => {}, 1000);",
  );
  expect(await tell(directory, { waitSeconds: 0, requestMs: 500 })).toEqual({ state: 'admitted' });
  expect(() => process.kill(called().pid, 0)).toThrow('ESRCH');
});
