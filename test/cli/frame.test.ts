import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { binary, newMachine, oneObject } from './nexus.ts';

const leaves = [
  'backfill',
  'upload',
  'serve',
  'status',
  'store check',
  'store copy',
  'sessions list',
  'sessions show',
  'sessions get',
  'keys add',
  'keys list',
  'keys remove',
  'config get',
  'config set',
  'config unset',
  'config list',
  'config path',
];

describe('help', () => {
  test('is on stdout when it is asked for', async () => {
    const { nexus } = await newMachine();
    const ran = await nexus(['--help']);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    for (const name of ['backfill', 'upload', 'serve', 'status', 'sessions', 'keys', 'config'])
      expect(ran.stdout).toContain(`\n  ${name} `);
  });

  test.each([[[]], [['keys']], [['config']]])(
    'is on stderr with 64 when a command is missing: %j',
    async (args) => {
      const { nexus } = await newMachine();
      const ran = await nexus(args);
      expect(ran).toMatchObject({ status: 64, stdout: '' });
      expect(ran.stderr).toMatch(/^Usage: nexus/);
    },
  );

  test('of each command has an example that names it', async () => {
    const { nexus } = await newMachine();
    const shown = await Promise.all(leaves.map((leaf) => nexus([...leaf.split(' '), '--help'])));
    const without = leaves.filter((leaf, index) => !shown[index]?.stdout.includes(`$ nexus ${leaf}`));
    expect(without).toEqual([]);
  });
});

test('the version is that of the package, also beside other flags', async () => {
  const { nexus } = await newMachine();
  const manifest: unknown = JSON.parse(
    await readFile(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  const version = String(Object(manifest).version);
  expect(await nexus(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
  expect(await nexus(['--config', 'x', '-V'])).toMatchObject({
    status: 0,
    stdout: `${version}\n`,
    stderr: '',
  });
});

describe('a command line that makes no sense', () => {
  test.each([
    [['backfil'], /Did you mean backfill\?/],
    [['keys', 'lst'], /Did you mean list\?/],
    [['backfill', '--verfy'], /Did you mean --verify\?/],
    [['backfill', '--concurrency', '0'], /whole number from 1 to 64/],
    [['backfill', '--concurrency', '4x'], /whole number/],
    [['backfill', '--since', '2026-02-30'], /2026-10-01/],
    [['backfill', '--until', 'yesterday'], /2026-10-01/],
    [['serve', '--port', '65536'], /from 0 to 65535/],
    [['keys', 'add'], /missing required argument 'name'/i],
    [['keys', 'add', 'a', 'b'], /too many arguments/i],
    [['keys', 'add', 'a', '--scopes', 'upload,'], /single commas/],
    [['sessions', 'get', 'no-agent'], /--agent/],
    [['sessions', 'get', 'main/x', '--json'], /--output/],
    [['config', 'get', 'retry.trys'], /Did you mean retry\.tries\?/],
  ])('%j exits 64 with one line on stderr', async (args, sentence) => {
    const { nexus } = await newMachine();
    const ran = await nexus(args);
    expect(ran.status).toBe(64);
    expect(ran.stderr).toMatch(sentence);
    expect(ran.stderr).toMatch(/^error: [A-Z"].*\n$/);
    expect(oneObjectOrNothing(ran.stdout)).toBe(!args.includes('--json') ? 'nothing' : 'object');
  });

  test.each([
    [['config', 'set', 'store', 'connectionString']],
    [['config', 'set', 'api', 'key']],
    [['config', 'get']],
    [['store', 'check']],
    [['store', 'copy', '--to', 'azure', '--from']],
    [['keys', 'remove', '--as']],
    [['backfill', '--concurrency']],
  ])('does not repeat a secret that got into it: %j', async (args) => {
    const { nexus } = await newMachine();
    const secret = `DefaultEndpointsProtocol=https;AccountKey=${'c2VjcmV0'.repeat(8)}`;
    for (const json of [[], ['--json']]) {
      const { status, stdout, stderr } = await nexus([...args, secret, ...json]);
      expect(status).toBe(64);
      expect(stdout + stderr).not.toContain('c2VjcmV0');
    }
  });

  test('is one JSON object too where --json was said', async () => {
    const { json } = await newMachine();
    const { status, answer } = await json(['backfill', '--bogus']);
    expect(status).toBe(64);
    expect(answer).toMatchObject({ job: 'backfill', ok: false, error: { code: 'usage' }, schemaVersion: 1 });
    expect((await json(['keys', 'remove'])).answer).toMatchObject({ command: 'keys remove', ok: false });
  });
});

function oneObjectOrNothing(stdout: string): string {
  if (stdout === '') return 'nothing';
  oneObject(stdout);
  return 'object';
}

describe('a wrong configuration', () => {
  test.each([['backfill'], ['upload'], ['serve'], ['status'], ['sessions list'], ['keys list']])(
    'ends %s with 78',
    async (name) => {
      const { nexus } = await newMachine();
      const ran = await nexus(name.split(' '), { env: { NEXUS_ENDPOINT: 'nowhere' } });
      expect(ran).toMatchObject({ status: 78, stdout: '' });
      expect(ran.stderr).toContain('NEXUS_ENDPOINT');
    },
  );

  test('is one JSON object with --json', async () => {
    const { json } = await newMachine();
    const { status, answer } = await json(['upload'], { env: { NEXUS_ENDPOINT: 'nowhere' } });
    expect(status).toBe(78);
    expect(answer).toMatchObject({ job: 'upload', ok: false, error: { code: 'config' }, schemaVersion: 1 });
  });

  test('does not keep the path of the file from being told', async () => {
    const { nexus, configFile } = await newMachine();
    const ran = await nexus(['config', 'path'], { env: { NEXUS_ENDPOINT: 'nowhere' } });
    expect(ran).toMatchObject({ status: 0, stdout: `${configFile}\n`, stderr: '' });
  });

  test('without any home names what to set', async () => {
    const { nexus } = await newMachine();
    const ran = await nexus(['keys', 'list'], { env: { HOME: '' } });
    expect(ran.status).toBe(78);
    expect(ran.stderr).toContain('HOME');
  });
});

describe('stdout', () => {
  test('that nobody reads is no error', async () => {
    const { home } = await newMachine();
    const shell = `set -o pipefail; "$0" "$1" config list | true`;
    const ran = await execa('bash', ['-c', shell, process.execPath, binary], {
      env: { HOME: home },
      reject: false,
    });
    expect(ran).toMatchObject({ exitCode: 0, stderr: '' });
  });

  test.skipIf(process.platform !== 'linux')(
    'that is full is told, since the result is lost (Linux)',
    async () => {
      const { home } = await newMachine();
      const shell = `"$0" "$1" keys add laptop > /dev/full`;
      const ran = await execa('bash', ['-c', shell, process.execPath, binary], {
        env: { HOME: home },
        reject: false,
      });
      expect(ran.exitCode).toBe(69);
      expect(ran.stderr).toContain('ENOSPC');
    },
  );
});

describe('a signal', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends a command in order, with %i', async (signal, status) => {
    const { start } = await newMachine();
    const serving = start(['serve', '--port', '0']);
    await serving.shows(/Listening on/);
    serving.kill(signal);
    const ended = await serving.ended;
    expect(ended).toMatchObject({ status, signal: undefined });
    expect(ended.stderr).toContain('Stopping');
  });

  test('SIGINT a second time kills what does not end', async () => {
    const { start } = await newMachine();
    const serving = start(['serve', '--port', '0']);
    const [, port] = await serving.shows(/Listening on http:\/\/127\.0\.0\.1:(\d+)/);
    // A request that never ends holds the server back.
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('POST /api/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n');
    socket.write('Content-Length: 100\r\n\r\n{');
    await new Promise((resolve) => setTimeout(resolve, 300));
    serving.kill('SIGINT');
    await serving.shows(/Stopping/);
    serving.kill('SIGINT');
    expect(await serving.ended).toMatchObject({ status: undefined, signal: 'SIGINT' });
    socket.destroy();
  });
});
