import { chmod, chown, mkdir, readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { newMachine } from './nexus.ts';
import { archived, newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';
import { closedPort, listen } from './proxy.ts';

const root = process.geteuid?.() === 0;
const nobody = 65_534;

/** Gives a machine's files, OpenClaw's too, to another user. */
async function giveTo(uid: number, directory: string): Promise<void> {
  await chown(directory, uid, uid);
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true }))
    await chown(path.join(entry.parentPath, entry.name), uid, uid);
}

async function oneTranscript(): Promise<OpenClawMachine> {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  return machine;
}

/** The endpoint that a machine serves, and a key for it. */
async function servedBy(
  machine: { nexus: OpenClawMachine['nexus']; start: OpenClawMachine['start'] },
  keyArgs: string[],
) {
  const key = (await machine.nexus(['keys', 'add', ...keyArgs])).stdout.trim();
  const [, endpoint = ''] = await machine.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  return { key, endpoint };
}

describe('64', () => {
  test('an agent that OpenClaw does not have is told with those that it has', async () => {
    const machine = await newOpenClawMachine('files-2026.7.35');
    expect(await machine.nexus(['backfill', '--agent', 'main', '--agent', 'nobody'])).toMatchObject({
      status: 64,
      stdout: '',
      stderr: 'error: OpenClaw has no agent "nobody". It has: flickclaw, main, research.\n',
    });
  });

  test('a wrong flag is one sentence that says where to look', async () => {
    const { nexus } = await newMachine();
    expect(await nexus(['upload', '--sicne', 'x'])).toMatchObject({
      status: 64,
      stdout: '',
      stderr: "error: Unknown option '--sicne'. See `nexus upload --help`.\n",
    });
  });
});

describe('78', () => {
  test('no state of OpenClaw: says where it looked and what to set, and makes no data directory', async () => {
    const { nexus, home } = await newMachine();
    expect(await nexus(['backfill'])).toMatchObject({
      status: 78,
      stdout: '',
      stderr:
        `error: No OpenClaw state directory at ${home}/.openclaw. Set OPENCLAW_STATE_DIR to the directory ` +
        'that holds agents/ and openclaw.json, and run as its owner or as root.\n',
    });
    expect(await readdir(home)).toEqual([]);
  });

  test('a wrong configuration: every wrong field is named at once, in one sentence', async () => {
    const machine = await oneTranscript();
    await machine.configure({ concurrency: 0, afterUpload: 'move', retry: { tries: 'x' }, settleMinuts: 3 });
    const ran = await machine.nexus(['upload'], { env: { NEXUS_ENDPOINT: 'ftp://x' } });
    expect(ran).toMatchObject({ status: 78, stdout: '' });
    for (const field of ['concurrency', 'afterUpload', 'retry.tries', 'settleMinuts', 'endpoint'])
      expect(ran.stderr).toContain(field);
    expect(ran.stderr.split('\n')).toHaveLength(2);
  });

  test('a configuration whose secret others can read', async () => {
    const machine = await oneTranscript();
    await machine.configure({ apiKey: 'secret-of-mine' });
    await chmod(machine.configFile, 0o644);
    const ran = await machine.nexus(['upload']);
    expect(ran.status).toBe(78);
    expect(ran.stderr).toContain('chmod 600');
    expect(ran.stderr).not.toContain('secret-of-mine');
  });

  test('serve on an address of the network without any key', async () => {
    const { nexus } = await newMachine();
    const ran = await nexus(['serve', '--host', '0.0.0.0', '--port', '0']);
    expect(ran).toMatchObject({ status: 78, stdout: '' });
    expect(ran.stderr).toMatch(/^error: Without any key .*0\.0\.0\.0.*nexus keys add.*\n$/);
  });
});

describe('69', () => {
  test('an endpoint that cannot be reached, after the tries that were set', async () => {
    const machine = await oneTranscript();
    await machine.configure({ retry: { tries: 2, baseMs: 10 } });
    const endpoint = await closedPort();
    const env = { NEXUS_ENDPOINT: endpoint };
    const ran = await machine.json(['backfill'], { env });
    expect(ran.status).toBe(69);
    expect(ran.stderr).toMatch(
      /^error: The endpoint \S+ cannot be reached after 2 tries \(.*ECONNREFUSED.*\)\.\n$/,
    );
    expect(ran.answer).toMatchObject({ job: 'backfill', ok: false, done: 0, error: { code: 'unavailable' } });
  });

  test('what answers is not Nexus', async () => {
    const machine = await oneTranscript();
    const server = createServer((_request, response) => response.end('<h1>It works!</h1>'));
    const ran = await machine.nexus(['upload'], { env: { NEXUS_ENDPOINT: await listen(server) } });
    expect(ran.status).toBe(69);
    expect(ran.stderr).toContain('is not Nexus');
  });
});

describe('77 and 3', () => {
  test('a wrong key is 77, and is not repeated', async () => {
    const machine = await oneTranscript();
    const { endpoint } = await servedBy(await newMachine(), ['one']);
    const ran = await machine.nexus(['backfill'], {
      env: { NEXUS_ENDPOINT: endpoint, NEXUS_API_KEY: 'nxk_wrong' },
    });
    expect(ran).toMatchObject({ status: 77, stdout: '' });
    expect(ran.stderr).toBe('error: This key is not known here.\n');
  });

  test('a key for another agent ships that one, and names the agent that is refused', async () => {
    const machine = await oneTranscript();
    await machine.openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { agent: 'work' });
    const server = await newMachine();
    const { endpoint, key } = await servedBy(server, ['one', '--agents', 'work', '--scopes', 'upload']);
    const env = { NEXUS_ENDPOINT: endpoint, NEXUS_API_KEY: key };
    const { status, answer } = await machine.json(['backfill'], { env });
    expect(status).toBe(3);
    expect(answer).toMatchObject({
      ok: false,
      done: 1,
      failed: [{ item: 'agent main', reason: 'The key "one" is not good for the agent "main".' }],
    });
    expect([...(await archived(server.dataDir)).keys()]).toEqual([`work/${ids.b}`]);
  });

  test('a key for other agents alone is 3 too: each agent is refused by name', async () => {
    const machine = await oneTranscript();
    const { endpoint, key } = await servedBy(await newMachine(), ['one', '--agents', 'work']);
    const env = { NEXUS_ENDPOINT: endpoint, NEXUS_API_KEY: key };
    const ran = await machine.nexus(['backfill'], { env });
    expect(ran.status).toBe(3);
    expect(ran.stderr).toBe('error: agent main: The key "one" is not good for the agent "main".\n');
  });

  test.skipIf(!root)('the data directory of another user is 77 (root)', async () => {
    const machine = await oneTranscript();
    expect((await machine.nexus(['backfill'])).status).toBe(0);
    await giveTo(nobody, machine.dataDir);
    const ran = await machine.nexus(['backfill']);
    expect(ran).toMatchObject({ status: 77, stdout: '' });
    expect(ran.stderr).toContain(`belongs to the user with uid ${nobody}`);
  });

  test.skipIf(!root).each([
    ['with the embedded store', {}],
    ['with an endpoint', { NEXUS_ENDPOINT: 'http://127.0.0.1:9' }],
  ])('the closed data directory of another user is 77, %s (root)', async (_how, env) => {
    const machine = await oneTranscript();
    await giveTo(nobody, machine.openclaw.root);
    await chmod(machine.home, 0o755);
    const closed = path.join(machine.home, 'closed');
    await mkdir(closed, { mode: 0o700 });
    const ran = await machine.nexus(['backfill'], { uid: nobody, env: { ...env, NEXUS_DATA_DIR: closed } });
    expect(ran).toMatchObject({ status: 77, stdout: '' });
    expect(ran.stderr).toMatch(/^error: [^\n]*closed\/\w+ is closed to uid 65534 [^\n]*\n$/);
  });

  test.skipIf(!root)(
    'files of another user are 3: they are named with owner, mode and the command to look (root)',
    async () => {
      const machine = await oneTranscript();
      const { openclaw } = machine;
      const closed = await openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 2));
      await openclaw.write(`${ids.c}.jsonl`, transcript(ids.c, 2), { agent: 'work' });
      await giveTo(nobody, openclaw.root);
      await giveTo(nobody, machine.home);
      await chown(closed, 0, 0);
      await chmod(closed, 0o600);
      await chown(openclaw.sessions('work'), 0, 0);
      await chmod(openclaw.sessions('work'), 0o700);

      const ran = await machine.nexus(['backfill'], { uid: nobody });
      expect(ran.status).toBe(3);
      expect(ran.stderr).toContain(
        `error: ${closed} cannot be read by uid ${nobody} (owned by uid 0, group 0, mode 600).`,
      );
      const directory = openclaw.sessions('work');
      expect(ran.stderr).toContain(
        `error: ${directory} cannot be read by uid ${nobody} (owned by uid 0, group 0, mode 700). ` +
          `Look with \`ls -ld '${directory}'\`.\n`,
      );
      expect(ran.stdout).toMatch(/^main +2 +1 +0 +0 +1 +0 /m);

      const status = await machine.nexus(['status'], { uid: nobody });
      expect(status.status).toBe(3);
      expect(status.stdout).toContain(
        `not well: work: ${directory} cannot be read by uid ${nobody} (owned by uid 0, group 0, mode 700). ` +
          `Look with \`ls -ld '${directory}'\`.\n`,
      );
      expect(status.stdout).toContain(`not well: main: ${closed} cannot be read by uid ${nobody}`);
    },
  );
});

test('an idle machine is 0: no agent has written anything yet', async () => {
  const machine = await newOpenClawMachine();
  expect(await machine.nexus(['backfill'])).toMatchObject({ status: 0, stderr: '' });
  expect(await machine.nexus(['upload'])).toMatchObject({ status: 0, stderr: '' });
});
