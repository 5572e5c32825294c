import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type Machine, newMachine } from './nexus.ts';

function urlOf(machine: Machine, source: string, ...more: string[]) {
  return machine.nexus(['webhooks', 'url', '--agent', 'main', '--source', source, ...more]);
}

async function settings({ configFile }: Machine): Promise<unknown> {
  return JSON.parse(await readFile(configFile, 'utf8'));
}

test('a sender that takes a secret of ours gets one: the URL is alone on the first line, the file private', async () => {
  const machine = await newMachine();
  const ran = await urlOf(machine, 'github', '--url', 'https://nexus.example.net/');
  expect(ran.status).toBe(0);
  const [url, empty, ...rows] = ran.stdout.split('\n');
  expect([url, empty]).toEqual(['https://nexus.example.net/api/webhook/main?source=github', '']);
  const [, secret] = /^Secret +(\S{43})$/m.exec(rows.join('\n')) ?? [];
  expect(await settings(machine)).toEqual({
    mailboxes: { main: { sources: { github: { verify: 'github', secret } } } },
  });
  expect((await stat(machine.configFile)).mode & 0o777).toBe(0o600);
  expect(ran.stderr).not.toContain(secret);
});

test('it is printed again as it is, with a warning that it is a secret, and nothing is written', async () => {
  const machine = await newMachine();
  const first = await urlOf(machine, 'gitlab');
  const before = await stat(machine.configFile);
  const again = await urlOf(machine, 'gitlab');
  expect(again).toMatchObject({ status: 0, stdout: first.stdout });
  expect(again.stderr).toContain('show it to nobody but the sender');
  expect((await stat(machine.configFile)).mtimeMs).toBe(before.mtimeMs);
});

test('a sender that nobody knows gets a key in its URL, for this agent and the scope webhook alone, and once', async () => {
  const machine = await newMachine();
  const ran = await urlOf(machine, 'putio', '--url', 'https://nexus.example.net');
  const [, key] =
    /^https:\/\/nexus\.example\.net\/api\/webhook\/main\?source=putio&code=(nxk_[\w-]{43})\n/.exec(
      ran.stdout,
    ) ?? [];
  expect(key).toBeDefined();
  expect(ran.stderr).toContain('This is the first key');
  expect(await settings(machine)).toEqual({
    keys: [
      {
        name: 'webhook-main-putio',
        hash: expect.stringMatching(/^[0-9a-f]{64}$/),
        agents: ['main'],
        scopes: ['webhook'],
      },
    ],
  });
  const again = await urlOf(machine, 'putio');
  expect(again).toMatchObject({ status: 69, stdout: '' });
  expect(again.stderr).toContain('nexus keys remove webhook-main-putio');
});

test('names with odd characters, and names that look alike when joined, keep apart', async () => {
  const machine = await newMachine();
  const ran = await urlOf(machine, 'put io/x&y=é');
  expect(ran.stdout).toMatch(/\?source=put%20io%2Fx%26y%3D%C3%A9&code=nxk_/);
  const joined = async (agent: string, source: string) =>
    (await machine.nexus(['webhooks', 'url', '--agent', agent, '--source', source])).status;
  expect([
    await joined('a-b', 'c'),
    await joined('a', 'b-c'),
    await joined('a', 'x y'),
    await joined('a', 'x_y'),
  ]).toEqual([0, 0, 0, 0]);
});

test('where the sender makes the secret, the URL and the next command come first, and nothing is written', async () => {
  const machine = await newMachine();
  const { answer, status, stderr } = await machine.json([
    'webhooks',
    'url',
    '--agent',
    'main',
    '--source',
    'stripe',
    '--url',
    'https://n.example.net',
  ]);
  expect(status).toBe(0);
  expect(answer).toMatchObject({
    ok: true,
    configured: false,
    url: 'https://n.example.net/api/webhook/main?source=stripe',
    verify: 'stripe',
    next: 'nexus webhooks url --agent main --source stripe --url https://n.example.net --secret-from -',
  });
  expect(await stat(machine.configFile, { throwIfNoEntry: false })).toBeUndefined();
  expect(stderr).not.toContain('internal');
  const text = await urlOf(machine, 'stripe');
  expect(text.stderr).toContain('nexus webhooks url --agent main --source stripe --secret-from -');
});

test.each(['stripe', 'slack', 'shopify', 'linear', 'twilio', 'clerk', 'whatsapp'])(
  'the secret of %s is taken from stdin into the private file, and is in no output',
  async (source) => {
    const machine = await newMachine();
    const args = ['webhooks', 'url', '--agent', 'main', '--source', source, '--secret-from', '-'];
    const ran = await machine.nexus(args, { input: 'whsec_verysecret\nnot this\n' });
    expect(ran.status).toBe(0);
    expect(ran.stdout + ran.stderr).not.toContain('verysecret');
    expect(await settings(machine)).toMatchObject({
      mailboxes: { main: { sources: { [source]: { secret: 'whsec_verysecret' } } } },
    });
    expect((await stat(machine.configFile)).mode & 0o777).toBe(0o600);
  },
);

test("Meta's verify token is ours, and shown; another secret keeps it", async () => {
  const machine = await newMachine();
  const args = ['webhooks', 'url', '--agent', 'main', '--source', 'facebook', '--secret-from'];
  const first = await machine.nexus([...args, 'env:META_SECRET'], { env: { META_SECRET: 'appsecret' } });
  const [, token] = /^Verify token +(\S{43})$/m.exec(first.stdout) ?? [];
  expect(token).toBeDefined();
  await machine.nexus([...args, '-'], { input: 'another' });
  expect(await settings(machine)).toEqual({
    mailboxes: {
      main: { sources: { facebook: { verify: 'meta', secret: 'another', verifyToken: token } } },
    },
  });
});

test('a secret that is kept elsewhere is named in the file, and shown where it is to be had', async () => {
  const machine = await newMachine();
  const file = `${machine.home}/secret`;
  await writeFile(file, 'from-a-file\n', { mode: 0o600 });
  const ran = await urlOf(machine, 'github', '--secret-from', 'file:secret');
  expect(ran.stdout).toMatch(/^Secret +from-a-file$/m);
  expect(await settings(machine)).toMatchObject({
    mailboxes: { main: { sources: { github: { secret: { file } } } } },
  });
  const absent = await urlOf(machine, 'telegram', '--secret-from', 'env:NOT_HERE');
  expect(absent.status).toBe(0);
  expect(absent.stdout).not.toContain('secret_token');
  expect(absent.stderr).toContain('NOT_HERE');
});

test('Twilio signs the URL, so that the source keeps it where it is certain', async () => {
  const machine = await newMachine();
  const args = ['webhooks', 'url', '--agent', 'main', '--source', 'twilio', '--secret-from', '-'];
  await machine.nexus([...args, '--url', 'https://n.example.net'], { input: 'token' });
  expect(await settings(machine)).toMatchObject({
    mailboxes: {
      main: { sources: { twilio: { url: 'https://n.example.net/api/webhook/main?source=twilio' } } },
    },
  });
});

test('the base is --url, else serve.url, else where serve listens, with a warning that nobody outside gets there', async () => {
  const machine = await newMachine();
  const local = await urlOf(machine, 'github');
  expect(local.stdout).toMatch(/^http:\/\/127\.0\.0\.1:7788\/api/);
  expect(local.stderr).toContain('Services outside do not reach this URL');
  await machine.nexus(['config', 'set', 'serve.url', 'https://n.example.net/base']);
  const outside = await urlOf(machine, 'github');
  expect(outside.stdout).toMatch(/^https:\/\/n\.example\.net\/base\/api\/webhook/);
  expect(outside.stderr).not.toContain('do not reach');
  expect((await urlOf(machine, 'github', '--url', 'http://other')).stdout).toMatch(/^http:\/\/other\/api/);
});

test('on a host of an endpoint elsewhere it says where it belongs, and writes nothing', async () => {
  const machine = await newMachine();
  const ran = await machine.nexus(['webhooks', 'url', '--agent', 'main', '--source', 'github'], {
    env: { NEXUS_ENDPOINT: 'https://elsewhere.example.net' },
  });
  expect(ran).toMatchObject({ status: 64, stdout: '' });
  expect(ran.stderr).toContain('https://elsewhere.example.net');
  expect(await stat(machine.configFile, { throwIfNoEntry: false })).toBeUndefined();
});

test.each([
  [[]],
  [['--agent', 'main']],
  [['--agent', '../x', '--source', 'github']],
  [['--agent', 'main', '--source', '']],
  [['--agent', 'main', '--source', 'a\u001bb']],
  [['--agent', 'main', '--source', 'x'.repeat(101)]],
  [['--agent', 'main', '--source', 'github', '--verify', 'githup']],
  [['--agent', 'main', '--source', 'github', '--url', 'nexus.example.net']],
  [['--agent', 'main', '--source', 'github', '--url', 'https://n.example.net/?a=b']],
  [['--agent', 'main', '--source', 'github', '--header', 'x-signature']],
  [['--agent', 'main', '--source', 'mine', '--verify', 'hmac']],
  [['--agent', 'main', '--source', 'putio', '--secret-from', 'env:A']],
  [['--agent', 'main', '--source', 'github', '--secret-from', 'pastedsecret']],
  [['--agent', 'main', '--source', 'stripe', '--secret-from', '-']],
])('%j is refused, writes nothing and repeats no secret', async (args) => {
  const machine = await newMachine();
  const { status, answer, stdout, stderr } = await machine.json(['webhooks', 'url', ...args]);
  expect(status).toBe(64);
  expect(answer).toMatchObject({ command: 'webhooks url', ok: false });
  expect(stdout + stderr).not.toContain('pastedsecret');
  expect(await stat(machine.configFile, { throwIfNoEntry: false })).toBeUndefined();
});

test('a source that proves itself one way is not changed to another by the way', async () => {
  const machine = await newMachine();
  await urlOf(machine, 'github');
  const before = await settings(machine);
  const ran = await urlOf(machine, 'github', '--verify', 'none');
  expect(ran.status).toBe(64);
  expect(ran.stderr).toContain('nexus config unset mailboxes.main.sources.github');
  expect(await settings(machine)).toEqual(before);
});

test('eight at once, of as many sources, lose nothing of each other', async () => {
  const machine = await newMachine();
  const names = ['github', 'github-2', 'gitlab', 'telegram', 'a', 'b', 'c', 'd'];
  const ran = await Promise.all(names.map((name) => urlOf(machine, name)));
  expect(ran.map(({ status }) => status)).toEqual(names.map(() => 0));
  const written = await settings(machine);
  expect(written).toMatchObject({ keys: [{}, {}, {}, {}] });
  expect(written).toMatchObject({
    mailboxes: {
      main: {
        sources: { github: {}, 'github-2': { verify: 'github' }, gitlab: {}, telegram: {} },
      },
    },
  });
});

test('config shows a secret only when it is asked for by its own name', async () => {
  const machine = await newMachine();
  const made = await urlOf(machine, 'github');
  const [, secret = ''] = /^Secret +(\S+)$/m.exec(made.stdout) ?? [];
  await machine.nexus(['config', 'set', 'notify.hooksToken', 'hookstoken']);
  await machine.nexus(['config', 'set', 'mailboxes.main.sources.github.perMinute', '60']);
  for (const args of [
    ['config', 'list'],
    ['config', 'list', '--json'],
    ['config', 'get', 'mailboxes'],
    ['config', 'get', 'mailboxes.main.sources.github'],
  ]) {
    const { stdout, stderr, status } = await machine.nexus(args);
    expect(status).toBe(0);
    expect(stdout).toContain('********');
    expect(stdout + stderr).not.toContain(secret);
    expect(stdout + stderr).not.toContain('hookstoken');
  }
  const asked = await machine.nexus(['config', 'get', 'mailboxes.main.sources.github.secret']);
  expect(asked.stdout).toBe(`${secret}\n`);
  const wrong = await machine.nexus(['config', 'set', 'mailboxes.main.sources.github.verfy', 'none']);
  expect(wrong.status).toBe(78);
  expect(wrong.stderr).toContain('did you mean mailboxes.main.sources.github.verify?');
});

test('keys for replicas are printed hashed, with those that are in effect, and let in who has the key', async () => {
  const machine = await newMachine();
  await machine.nexus(['keys', 'add', 'old']);
  const before = await settings(machine);
  const ran = await machine.nexus(['keys', 'add', 'new', '--scopes', 'read', '--print-config']);
  expect(await settings(machine)).toEqual(before);
  const [key = '', line = ''] = ran.stdout.split('\n');
  expect(line).not.toContain(key);
  const [, value = ''] = /^NEXUS_KEYS='(.*)'$/.exec(line) ?? [];
  const replica = await newMachine();
  const env = { NEXUS_KEYS: value };
  expect((await replica.nexus(['keys', 'list'], { env })).stdout).toMatch(/\nold +all .*\nnew +all +read\n/);
  const [, url] = await replica.start(['serve', '--port', '0'], { env }).shows(/Listening on (\S+?),/);
  const ask = async (headers: Record<string, string>) =>
    (await fetch(`${url}/api/sessions`, { headers })).status;
  expect([await ask({}), await ask({ 'x-functions-key': key })]).toEqual([401, 200]);
});
