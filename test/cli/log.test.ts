import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import type { Read } from '../logparse.ts';
import { logged, type LoggedOptions } from './logged.ts';
import { newMachine, oneObject } from './nexus.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

const last = (entries: Read[]) => entries.at(-1)?.fields;

async function archiver(): Promise<
  OpenClawMachine & { run: (args: string[], options?: LoggedOptions) => ReturnType<typeof logged> }
> {
  const machine = await newOpenClawMachine();
  const { openclaw, dataDir, home } = machine;
  const known = { OPENCLAW_STATE_DIR: openclaw.stateDir, NEXUS_DATA_DIR: dataDir };
  return {
    ...machine,
    run: (args, options = {}) => logged(home, args, { ...options, env: { ...known, ...options.env } }),
  };
}

test('a run ends in one line that sums it up, and what failed is a line when it failed', async () => {
  const { openclaw, run } = await archiver();
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  const link = path.join(openclaw.sessions(), `${ids.b}.jsonl`);
  await symlink('/etc/hostname', link);
  const { status, entries, stdout } = await run(['upload']);
  expect(status).toBe(3);
  expect(stdout).toMatch(/^agent +found[^]*upload: 1 transcript stored/);
  expect(entries).toMatchObject([
    {
      priority: 3,
      fields: {
        message: `${link}: Not shipped: a symbolic link.`,
        job: 'upload',
        item: link,
        agent: 'main',
        code: 'invalid',
      },
    },
    { priority: 6, fields: { message: 'Agent done.', agent: 'main', stored: '1', failed: '1' } },
    {
      priority: 6,
      fields: { message: 'Run ended.', job: 'upload', ok: 'false', stored: '1', already: '0', failed: '1' },
    },
  ]);
  expect(last(entries)?.['ms']).toMatch(/^\d+$/);
});

test('of many failures of one kind the first twenty are named, by status too, and the others counted', async () => {
  const { openclaw, run } = await archiver();
  for (let n = 0; n < 30; n++)
    await symlink('/etc/hostname', path.join(openclaw.sessions(), `${ids.b.slice(0, -2)}${10 + n}.jsonl`));
  const uploaded = await run(['upload'], { asUnit: true });
  expect(uploaded.entries.filter(({ priority }) => priority === 3)).toHaveLength(21);
  expect(uploaded.entries.map(({ fields }) => fields)).toContainEqual(
    expect.objectContaining({
      message: '10 more failed alike; --json names them all.',
      code: 'invalid',
      failed: '10',
    }),
  );
  const looked = await run(['status'], { asUnit: true });
  const warned = looked.entries.filter(({ priority }) => priority === 4);
  expect(warned.map(({ fields }) => fields['message'])).toContain('main: 10 more are not shipped.');
  expect(warned.length).toBeLessThan(25);
  const { stdout } = await run(['upload', '--json']);
  expect(oneObject(stdout)['failed']).toHaveLength(30);
});

test('in a unit, whose stdout is the journal too, no table is among the lines', async () => {
  const { openclaw, run } = await archiver();
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  for (const args of [['upload'], ['pull-webhooks'], ['status'], ['backfill', '--all']]) {
    const { entries } = await run(args, { asUnit: true });
    expect(last(entries), args.join(' ')).toMatchObject({ job: args[0], ok: 'true' });
  }
});

test('an inherited JOURNAL_STREAM says nothing of a stderr that goes elsewhere', async () => {
  const { openclaw, run } = await archiver();
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  const { status, stderr } = await run(['upload'], { format: 'people' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const refused = await run(['upload', '--agent', 'nobody'], { format: 'people' });
  expect(refused.stderr).toMatch(/^error: [^<]*\n$/);
});

test('with --json stdout has one object and the log its lines, in every format', async () => {
  const { openclaw, run } = await archiver();
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  for (const format of ['journal', 'json'] as const) {
    const { stdout, entries } = await run(['upload', '--json', '--log-level', 'debug'], { format });
    expect(oneObject(stdout)).toMatchObject({ job: 'upload', ok: true });
    expect(entries.length).toBe(3);
    expect(String(last(entries)?.['ok'])).toBe('true');
  }
});

test('as JSON each entry has its time, level, message and fields, numbers as numbers', async () => {
  const { run } = await archiver();
  const { entries } = await run(['upload', '--log-format', 'json'], { format: 'json' });
  expect(last(entries)).toMatchObject({
    level: 'info',
    message: 'Run ended.',
    job: 'upload',
    ok: true,
    bytes: 0,
  });
});

test('the level leaves out what says less', async () => {
  const { run } = await archiver();
  const counts = [];
  for (const level of ['error', 'warn', 'info', 'debug'])
    counts.push((await run(['upload', `--log-level=${level}`])).entries.map(({ priority }) => priority));
  expect(counts).toEqual([[], [], [6], [7, 7, 6]]);
});

test.each([
  ['before the command', ['--log-format', 'json', 'upload'], {}, undefined],
  ['after it', ['upload', '--log-format=json'], {}, undefined],
  ['over the environment', ['upload', '--log-format', 'json'], { NEXUS_LOG_FORMAT: 'text' }, undefined],
  ['in the environment', ['upload'], { NEXUS_LOG_FORMAT: 'json' }, undefined],
  ['in the environment over the file', ['upload'], { NEXUS_LOG_FORMAT: 'json' }, 'text'],
  ['in the file', ['upload'], {}, 'json'],
])('the format can be said %s', async (_, args, env, format) => {
  const machine = await newMachine();
  if (format !== undefined) {
    await mkdir(path.dirname(machine.configFile), { recursive: true });
    await writeFile(machine.configFile, JSON.stringify({ log: { format } }), { mode: 0o600 });
  }
  const { entries } = await logged(machine.home, args, {
    format: 'json',
    env: { NEXUS_LOG_FORMAT: '', ...env },
  });
  expect(entries.map(({ fields }) => fields['code'])).toEqual(['config', 'config']);
});

test('a command line or a configuration that is wrong is told in the format that was asked for', async () => {
  const machine = await newMachine();
  const json = { format: 'json' as const, env: { NEXUS_LOG_FORMAT: '' } };
  const mistyped = await logged(machine.home, ['upload', '--log-format', 'json', '--what'], json);
  expect(mistyped.entries.map(({ fields }) => fields['code'])).toEqual(['usage']);
  const level = await logged(machine.home, ['upload', '--log-level', 'loud', '--log-format=json'], json);
  expect(level).toMatchObject({ status: 64, entries: [{ fields: { level: 'error' } }] });
  await mkdir(path.dirname(machine.configFile), { recursive: true });
  const wrong = { log: { format: 'json', level: 'loud' }, concurrency: 'many' };
  await writeFile(machine.configFile, JSON.stringify(wrong), { mode: 0o600 });
  const { status, entries } = await logged(machine.home, ['upload'], json);
  expect(status).toBe(78);
  expect(entries[0]?.fields['message']).toMatch(/concurrency .* must be .*log\.level .* must be one of/);
});

test('serve logs requests as facts, and health only for who looks closely', async () => {
  const machine = await newMachine();
  const seen: (string | undefined)[][] = [];
  for (const level of ['info', 'debug']) {
    const { entries, stdout, status } = await logged(
      machine.home,
      ['serve', '--port', '0', '--log-level', level],
      {
        async meanwhile(stderr) {
          await expect.poll(stderr, { timeout: 10_000 }).toContain('Listening on');
          const [, url = ''] = /Listening on (http:\S+),/.exec(await stderr()) ?? [];
          for (const path of ['/healthz', '/readyz', '/api/sessions?code=x', '/nothing'])
            await fetch(url + path);
          await expect.poll(stderr).toContain('(no route) 404');
        },
      },
    );
    expect({ stdout, status }).toEqual({ stdout: '', status: 143 });
    const asked = entries.filter(({ fields }) => fields['request'] !== undefined);
    seen.push(asked.map(({ priority, fields }) => `${priority} ${String(fields['message'])}`));
    expect(asked.find(({ fields }) => fields['route'] === '/api/sessions')?.fields).toMatchObject({
      job: 'serve',
      method: 'GET',
      status: '200',
      bytes: '27',
    });
  }
  const others = ['6 GET /api/sessions 200', '6 GET (no route) 404'];
  expect(seen).toEqual([others, ['7 GET /healthz 200', '7 GET /readyz 200', ...others]]);
}, 30_000);

test('a bug is one entry of the log with its stack', async () => {
  const { run, home } = await archiver();
  const hook = path.join(home, 'bug.mjs');
  const bug = `import os from 'node:os';
    import { syncBuiltinESMExports } from 'node:module';
    os.hostname = () => { throw new TypeError('of a bug'); };
    syncBuiltinESMExports();`;
  await writeFile(hook, bug);
  const env = { NODE_OPTIONS: `--import=${hook}` };
  const message = 'internal error: TypeError: of a bug';
  const journal = await run(['upload'], { env });
  expect(journal.status).toBe(1);
  const entry = journal.entries.find(({ priority }) => priority === 3);
  expect(entry?.fields).toEqual({ message, job: 'upload', code: 'internal' });
  expect(entry?.stack.length).toBeGreaterThan(2);
  const json = await run(['upload'], { env, format: 'json' });
  expect(json.entries.find(({ fields }) => fields['level'] === 'error')?.fields).toMatchObject({
    message,
    stack: expect.stringMatching(/^TypeError: of a bug\n +at /),
  });
  const { stderr } = await run(['upload'], { env, format: 'people' });
  expect(stderr).toMatch(/^error: internal error: TypeError: of a bug\n +at /);
});
