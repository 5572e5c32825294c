import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { newDryMachine } from './installed.ts';

test('a host of the system: what would be written and done', async () => {
  const { dryRun } = await newDryMachine();
  const { status, stdout } = await dryRun(['--system']);
  expect(status).toBe(0);
  await expect(stdout).toMatchFileSnapshot('../fixtures/systemd/system-host.txt');
});

test("a host of a user's own: what would be written and done", async () => {
  const { dryRun } = await newDryMachine();
  const { status, stdout } = await dryRun(['--user']);
  expect(status).toBe(0);
  await expect(stdout).toMatchFileSnapshot('../fixtures/systemd/user-host.txt');
});

test('an endpoint of the system needs no OpenClaw and has a user of its own', async () => {
  const { dryRun } = await newDryMachine();
  const { status, stdout } = await dryRun(['--system', '--role', 'endpoint'], { OPENCLAW_STATE_DIR: '' });
  expect(status).toBe(0);
  await expect(stdout).toMatchFileSnapshot('../fixtures/systemd/system-endpoint.txt');
});

test('a host without OpenClaw is told what to do', async () => {
  const { home, nexus } = await newDryMachine();
  const env = { OPENCLAW_STATE_DIR: path.join(home, 'nowhere'), PATH: '/usr/bin:/bin' };
  const { status, stderr } = await nexus(['install', '--dry-run', '--user'], { env });
  expect(status).toBe(78);
  expect(stderr).toContain('`--role endpoint`');
});

test.each(['NEXUS_API_KEY', 'NEXUS_PUTIO_TOKEN'])(
  'a secret in the environment (%s) is refused: units would not have it, or everybody would',
  async (name) => {
    const { dryRun } = await newDryMachine();
    const { status, stderr } = await dryRun(['--user'], { [name]: 'nxk_secret' });
    expect(status).toBe(78);
    expect(stderr).toContain(name);
    expect(stderr).not.toContain('nxk_secret');
  },
);

test('both kinds of installation at once make no sense', async () => {
  const { dryRun } = await newDryMachine();
  expect((await dryRun(['--user', '--system'])).status).toBe(64);
});

test('a job has no more network than its configuration needs', async () => {
  const { configFile, units } = await newDryMachine();
  const network = async (settings: object, unit = 'nexus-upload.service') => {
    await mkdir(path.dirname(configFile), { recursive: true });
    await writeFile(configFile, JSON.stringify(settings), { mode: 0o600 });
    const text = (await units(['--system'], { NEXUS_CONFIG: configFile })).get(unit) ?? '';
    if (text.includes('\nPrivateNetwork=yes\n')) return 'none';
    return text.includes('\nIPAddressDeny=any\nIPAddressAllow=localhost\n') ? 'local' : 'any';
  };
  expect(await network({})).toBe('none');
  expect(await network({}, 'nexus-pull-webhooks.service')).toBe('local');
  expect(await network({ endpoint: 'http://127.0.0.1:7788' })).toBe('local');
  expect(await network({ endpoint: 'https://nexus.example.com' })).toBe('any');
  expect(await network({ store: { kind: 'azure', account: 'someaccount' } })).toBe('any');
  expect(await network({ heartbeats: { upload: 'https://hc.example.com/1' } })).toBe('any');
});

test('sessions are open to the jobs only where files are moved', async () => {
  const { configFile, units } = await newDryMachine();
  await mkdir(path.dirname(configFile), { recursive: true });
  await writeFile(configFile, JSON.stringify({ afterUpload: 'keep' }), { mode: 0o600 });
  const keeping = (await units(['--system'], { NEXUS_CONFIG: configFile })).get('nexus-upload.service');
  expect(keeping).not.toMatch(/^BindPaths=.*sessions$/m);
  const archiving = (await units(['--system'])).get('nexus-upload.service');
  expect(archiving).toMatch(/^BindPaths=.*agents\/main\/sessions$/m);
});

test('the directory of the textfile is open to what writes it, and to nothing else', async () => {
  const { configFile, units } = await newDryMachine();
  const settings = { metrics: { textfile: '/var/lib/textfile/nexus.prom' } };
  await mkdir(path.dirname(configFile), { recursive: true });
  await writeFile(configFile, JSON.stringify(settings), { mode: 0o600 });
  const found = await units(['--system', '--role', 'both'], { NEXUS_CONFIG: configFile });
  const open = [...found].filter(([, text]) => /^BindPaths=.*-\/var\/lib\/textfile( |$)/m.test(text));
  expect(open.map(([unit]) => unit).sort()).toEqual([
    'nexus-backfill.service',
    'nexus-pull-webhooks.service',
    'nexus-status.service',
    'nexus-upload.service',
  ]);
});

test('a secret that the configuration names as a credential is loaded by the units that use it', async () => {
  const { configFile, units } = await newDryMachine();
  const settings = {
    endpoint: 'https://nexus.example.com',
    apiKey: { credential: 'key' },
    notify: { hooksToken: { credential: 'hooks' } },
    alerts: { channels: [{ kind: 'webhook', url: { credential: 'hooks' } }] },
    heartbeats: { upload: { credential: 'monitor' } },
  };
  await mkdir(path.dirname(configFile), { recursive: true });
  await writeFile(configFile, JSON.stringify(settings), { mode: 0o600 });
  const found = await units(['--system'], { NEXUS_CONFIG: configFile });
  const loads = (unit: string) => found.get(unit)?.match(/^LoadCredential=.*$/gm);
  const [hooks, key, monitor] = ['hooks', 'key', 'monitor'].map(
    (name) => `LoadCredential=${name}:/etc/nexus/credentials/${name}`,
  );
  expect(loads('nexus-pull-webhooks.service')).toEqual([hooks, key, monitor]);
  expect(loads('nexus-upload.service')).toEqual([hooks, key, monitor]);
  // Who cannot be told of a failure keeps no job from its work.
  const goesWithout = (unit: string) => found.get(unit)?.match(/^SetCredential=.*$/gm);
  expect(goesWithout('nexus-pull-webhooks.service')).toEqual(['SetCredential=monitor:\\n']);
  expect(goesWithout('nexus-upload.service')).toEqual([
    'SetCredential=hooks:\\n',
    'SetCredential=monitor:\\n',
  ]);
});

test('as JSON it names all that would be done', async () => {
  const { configFile, json } = await newDryMachine();
  await mkdir(path.dirname(configFile), { recursive: true });
  await writeFile(configFile, '{}', { mode: 0o600 });
  const state = path.join(path.dirname(path.dirname(path.dirname(configFile))), '.openclaw');
  const env = { NEXUS_CONFIG: configFile, OPENCLAW_STATE_DIR: state, PATH: '/usr/bin:/bin' };
  const { answer } = await json(['install', '--dry-run', '--system', '--role', 'both'], { env });
  expect(answer).toMatchObject({
    sysusers: { path: '/etc/sysusers.d/nexus.conf', text: expect.stringContaining('u nexus ') },
    gives: { endpoint: 'http://127.0.0.1:7788' },
    enable: expect.arrayContaining(['nexus-serve.service', 'nexus-upload.timer', 'nexus-backfill.service']),
    otherUnits: [],
  });
  expect(answer).not.toHaveProperty('refused');
});

test('an archive that the jobs have already is not hidden behind an endpoint that has none', async () => {
  const machine = await newDryMachine();
  const { configFile, home } = machine;
  const dataDir = path.join(home, 'data');
  await mkdir(path.dirname(configFile), { recursive: true });
  await mkdir(path.join(dataDir, 'store'), { recursive: true });
  await writeFile(configFile, JSON.stringify({ dataDir }), { mode: 0o600 });
  const { status, stdout } = await machine.dryRun(['--system', '--role', 'both'], {
    NEXUS_CONFIG: configFile,
  });
  expect(status).toBe(0);
  expect(stdout).toContain('# not before this is done: ');
  expect(stdout).toContain('sudo mv <home>/data/store /var/lib/nexus/.local/share/nexus/store');
});
