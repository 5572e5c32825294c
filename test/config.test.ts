import { spawnSync } from 'node:child_process';
import {
  chmod,
  chown,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import * as z from 'zod';
import {
  type Config,
  checkSettings,
  configSchema,
  listSettings,
  loadConfig,
  openclawEnvironment,
} from '../src/config.ts';
import {
  configPath,
  editSettings,
  type Environment,
  readSettings,
  type Settings,
} from '../src/configfile.ts';
import { keysIn } from '../src/settings.ts';
import { describe as told, NexusError } from '../src/errors.ts';

const binary = path.resolve(import.meta.dirname, '..', 'bin', 'nexus.js');

let home: string;
let file: string;

beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'nexus-config-'));
  file = path.join(home, 'config.json');
  onTestFinished(() => rm(home, { recursive: true, force: true }));
});

async function written(content: string | Settings, mode = 0o600): Promise<void> {
  await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content));
  await chmod(file, mode);
}

function load(env: Environment = {}, flags: Settings = {}): Promise<Config> {
  return loadConfig({ env: { HOME: home, ...env }, file, flags });
}

/** What a person is told of the configuration error that this ends in. */
async function complaint(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(error instanceof NexusError) || error.code !== 'config') throw new Error('No configuration error.');
  return told(error);
}

function outcomeOf(work: () => void): unknown {
  try {
    work();
    return 'fine';
  } catch (error) {
    return error instanceof NexusError ? error.code : error;
  }
}

/** What the file says now. */
async function settings(): Promise<unknown> {
  return JSON.parse(await readFile(file, 'utf8'));
}

describe('merging', () => {
  test('without a file every setting has its default and nothing is created', async () => {
    const config = await load();
    expect(config).toMatchObject({
      dataDir: path.join(home, '.local/share/nexus'),
      afterUpload: 'archive',
      retry: { tries: 6, baseMs: 500, maxMs: 30_000 },
      serve: { host: '127.0.0.1', port: 7788 },
      keys: [],
      store: { kind: 'local', prefix: '', timeoutMs: 30_000 },
    });
    expect(await readdir(home)).toEqual([]);
  });

  test('the environment goes over the file and flags go over the environment', async () => {
    await written({ host: 'file', endpoint: 'http://file', concurrency: 2 });
    const config = await load(
      { NEXUS_HOST_NAME: 'environment', NEXUS_ENDPOINT: 'http://environment' },
      { endpoint: 'http://flag', concurrency: undefined },
    );
    expect(config).toMatchObject({ host: 'environment', endpoint: 'http://flag', concurrency: 2 });
  });

  test('objects are merged field by field', async () => {
    await written({ serve: { port: 1234 }, retry: { tries: 2 } });
    const config = await load({}, { serve: { host: '::1', port: undefined } });
    expect(config).toMatchObject({ serve: { host: '::1', port: 1234 }, retry: { tries: 2, baseMs: 500 } });
  });

  test('an empty variable says nothing', async () => {
    await written({ endpoint: 'http://file' });
    expect((await load({ NEXUS_ENDPOINT: '' })).endpoint).toBe('http://file');
  });

  test('what a hosted endpoint needs can be said by the environment alone', async () => {
    const mailboxes = { main: { sources: { github: { verify: 'github', secret: { env: 'S' } } } } };
    const {
      serve,
      mailboxes: known,
      store,
    } = await load({
      PORT: '8181',
      NEXUS_SERVE_HOST: '0.0.0.0',
      NEXUS_SERVE_URL: 'https://nexus.example',
      NEXUS_TRUST_PROXY: '1',
      NEXUS_MAILBOXES: JSON.stringify(mailboxes),
      NEXUS_STORE: 'azure',
      NEXUS_STORE_ACCOUNT: 'archive',
      NEXUS_STORE_PREFIX: 'team',
    });
    expect(serve).toEqual({ port: 8181, host: '0.0.0.0', url: 'https://nexus.example', trustProxy: 1 });
    expect(known).toMatchObject(mailboxes);
    expect(store).toMatchObject({ kind: 'azure', account: 'archive', prefix: 'team' });
  });

  test('mailboxes of the environment lie over those of the file', async () => {
    const one = (verify: string) => ({ verify, secret: 'said' });
    await written({ mailboxes: { main: { maxItems: 5, sources: { a: one('github'), b: one('github') } } } });
    const { mailboxes } = await load({
      NEXUS_MAILBOXES: JSON.stringify({ main: { sources: { b: one('stripe') } } }),
    });
    expect(mailboxes).toMatchObject({
      main: { maxItems: 5, sources: { a: { verify: 'github' }, b: { verify: 'stripe' } } },
    });
  });

  test('a PORT that is no number means something else, and what is no JSON is named with its variable', async () => {
    expect((await load({ PORT: 'tcp://10.0.0.1:80' })).serve.port).toBe(7788);
    expect(await complaint(load({ PORT: '70000' }))).toContain('serve.port (in PORT)');
    expect(await complaint(load({ NEXUS_TRUST_PROXY: 'yes' }))).toContain('(in NEXUS_TRUST_PROXY)');
    expect(await complaint(load({ NEXUS_MAILBOXES: '{main' }))).toContain('(in NEXUS_MAILBOXES)');
  });

  test('data lies in XDG_DATA_HOME where that is an absolute path', async () => {
    expect((await load({ XDG_DATA_HOME: '/data' })).dataDir).toBe('/data/nexus');
    expect((await load({ XDG_DATA_HOME: 'data' })).dataDir).toBe(path.join(home, '.local/share/nexus'));
  });

  test('a tilde in the file is the home directory', async () => {
    await written({ dataDir: '~/archive', openclaw: { stateDir: '~/claw' } });
    const config = await load();
    expect(config.dataDir).toBe(path.join(home, 'archive'));
    expect(config.openclaw.stateDir).toBe(path.join(home, 'claw'));
  });

  test('without any home it names what to set', async () => {
    expect(await complaint(loadConfig({ env: {} }))).toContain('Set HOME, XDG_CONFIG_HOME or NEXUS_CONFIG.');
    expect(await complaint(loadConfig({ env: {}, file }))).toContain('NEXUS_DATA_DIR');
    expect((await loadConfig({ env: { NEXUS_DATA_DIR: '/data' }, file })).dataDir).toBe('/data');
  });

  test('the file is where the flag, NEXUS_CONFIG, XDG_CONFIG_HOME or the home says, in this order', () => {
    const env = { HOME: '/h', XDG_CONFIG_HOME: '/x', NEXUS_CONFIG: '/n/c.json' };
    expect(configPath(env, '/flag.json')).toBe('/flag.json');
    expect(configPath(env)).toBe('/n/c.json');
    expect(configPath({ ...env, NEXUS_CONFIG: undefined })).toBe('/x/nexus/config.json');
    expect(configPath({ HOME: '/h' })).toBe('/h/.config/nexus/config.json');
  });

  test("OpenClaw's state directory in the file yields to OpenClaw's own variables", async () => {
    await written({ openclaw: { stateDir: '/claw' } });
    const config = await load();
    expect(openclawEnvironment(config, { HOME: '/h' })['OPENCLAW_STATE_DIR']).toBe('/claw');
    expect(openclawEnvironment(config, { OPENCLAW_PROFILE: 'p' })['OPENCLAW_STATE_DIR']).toBeUndefined();
  });
});

describe('validation', () => {
  test('every wrong field is named at once, with where it came from', async () => {
    await written({
      concurrency: 0,
      afterUpload: 'burn',
      retry: { tries: 'many' },
      agents: { main: { as: 'a/b' } },
    });
    const sentence = await complaint(load({ NEXUS_ENDPOINT: 'ftp://x' }, { serve: { port: 70_000 } }));
    for (const field of ['concurrency', 'afterUpload', 'retry.tries', 'agents.main.as'])
      expect(sentence).toContain(`${field} (in ${file})`);
    expect(sentence).toContain('endpoint (in NEXUS_ENDPOINT)');
    expect(sentence).toContain('serve.port (on the command line)');
  });

  test('an unknown field is refused, with the one that was probably meant', async () => {
    await written({ endpiont: 'http://x', retry: { trys: 3 }, whatever: 1 });
    const sentence = await complaint(load());
    expect(sentence).toContain('did you mean endpoint?');
    expect(sentence).toContain('did you mean retry.tries?');
    expect(sentence).toContain(`whatever (in ${file}) is no setting`);
  });

  test.each([
    'not a url',
    'file:///etc/passwd',
    'https://user:secret@nexus.example.com',
    'https://nexus.example.com/?code=secret',
    'https://nexus.example.com/#x',
  ])('%s is no endpoint, and is not repeated', async (endpoint) => {
    await written({ endpoint });
    const sentence = await complaint(load());
    expect(sentence).toContain('endpoint');
    expect(sentence).not.toContain('secret');
  });

  test('a relative path in the file is refused, since a timer stands elsewhere', async () => {
    await written({ dataDir: 'archive' });
    expect(await complaint(load())).toContain('absolute');
  });

  test('two keys of one name are refused', async () => {
    const key = { name: 'a', hash: 'f'.repeat(64), agents: '*', scopes: ['read'] };
    await written({ keys: [key, key] });
    expect(await complaint(load())).toContain('keys');
  });

  test.each(['__proto__', 'constructor', 'toString'])(
    'a field called %s is an unknown field',
    async (name) => {
      await written(`{"${name}": {"endpoint": "http://x"}}`);
      expect(await complaint(load())).toContain(name);
    },
  );

  test('no configuration of any shape ends in anything but a configuration or a configuration error', async () => {
    const names = ['dataDir', 'endpoint', 'agents', 'retry', 'serve', 'keys', 'store', 'other'];
    const anything = fc.dictionary(fc.constantFrom(...names), fc.jsonValue({ maxDepth: 3 }));
    fc.assert(
      fc.property(anything, (value) => {
        expect(['fine', 'config']).toContain(outcomeOf(() => checkSettings(value, { HOME: '/h' })));
      }),
      { numRuns: 300 },
    );
  });
});

describe('the file', () => {
  test.each([
    ['{"a": 1,}', 'line 1, column 9'],
    ['{\n  "host": nonsense\n}', 'line 2, column 12'],
    ['{"apiKey": "verysecret" // here\n}', 'line 1, column 25'],
    ['{"apiKey": "verysecret', 'line 1, column 23'],
    ['', 'its end (line 1)'],
  ])('%j is refused with the place of the mistake and without its content', async (content, place) => {
    await written(content);
    const sentence = await complaint(load());
    expect(sentence).toContain(file);
    expect(sentence).toContain(place);
    expect(sentence).not.toMatch(/secret|nonsense/);
  });

  test.each(['[]', 'null', '"text"'])('%s is refused, since it is no object', async (content) => {
    await written(content);
    expect(await complaint(load())).toContain('one JSON object');
  });

  test.each([0o644, 0o640, 0o620, 0o602, 0o604])(
    'a file with a secret and mode %o is refused',
    async (mode) => {
      await written({ apiKey: 'k' }, mode);
      const sentence = await complaint(load());
      expect(sentence).toContain(`chmod 600 ${file}`);
    },
  );

  test('a file without secrets may be read by others, and written by nobody else', async () => {
    await written({ host: 'h' }, 0o664);
    expect((await load()).host).toBe('h');
    await chmod(file, 0o666);
    expect(await complaint(load())).toContain('chmod 600');
  });

  test.skipIf(process.geteuid?.() !== 0)(
    'a file of another user than root is refused (as root)',
    async () => {
      await written({ host: 'h' });
      await chown(file, 12_345, 12_345);
      expect(await complaint(load())).toContain('belongs to uid 12345');
    },
  );

  test('what cannot be read as a file is a configuration error and not an absent file', async () => {
    expect(await complaint(loadConfig({ env: { HOME: home }, file: home }))).toContain('not a regular file');
    await written('{}');
    expect(await complaint(loadConfig({ env: { HOME: home }, file: `${file}/x` }))).toContain('ENOTDIR');
  });
});

describe('writing', () => {
  const edit = (change: Settings) => editSettings(file, (settings) => ({ ...settings, ...change }));

  test('makes a private file in a private directory whatever the umask, holding only what was said', async () => {
    file = path.join(home, 'new', 'directory', 'config.json');
    const before = process.umask(0);
    onTestFinished(() => void process.umask(before));
    await edit({ apiKey: 'k' });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file))).mode & 0o777).toBe(0o700);
    expect(await settings()).toEqual({ apiKey: 'k' });
  });

  test('makes a readable file private', async () => {
    await written({ host: 'h' }, 0o644);
    await edit({ apiKey: 'k' });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await settings()).toEqual({ host: 'h', apiKey: 'k' });
  });

  test('leaves a malformed file as it is', async () => {
    await written('{"host": ');
    expect(await complaint(edit({ host: 'x' }))).toContain('not JSON');
    expect(await readFile(file, 'utf8')).toBe('{"host": ');
  });

  test('leaves the file as it is when the edit throws', async () => {
    await written({ host: 'h' });
    const refused = editSettings(file, () => {
      throw new NexusError('config', 'No.');
    });
    expect(await complaint(refused)).toBe('No.');
    expect(await readFile(file, 'utf8')).toBe('{"host":"h"}');
  });

  test('a file that finds no room for all of it leaves the one that was there', async () => {
    const long = { host: 'h', apiKey: 'k'.repeat(900) };
    await written(long);
    const before = await readFile(file, 'utf8');
    // The kernel takes the first KiB of a longer write, as a disk does that is full then, and a signal follows.
    const set = [
      process.execPath,
      binary,
      'config',
      'set',
      'serve.url',
      `https://${'x'.repeat(200)}.example`,
    ];
    const limited = ['-c', 'trap "" XFSZ; ulimit -f 1; exec "$@"', 'bash', ...set];
    const env = { HOME: home, NEXUS_CONFIG: file, NODE_DISABLE_COMPILE_CACHE: '1' };
    const ran = spawnSync('bash', limited, { env, encoding: 'utf8' });
    expect(await readFile(file, 'utf8')).toBe(before);
    expect(ran.status).not.toBe(0);
  });

  test('a link to the file stays a link', async () => {
    const target = path.join(home, 'dotfiles.json');
    await writeFile(target, '{"host":"h"}', { mode: 0o600 });
    await symlink(target, file);
    await edit({ apiKey: 'k' });
    expect((await lstat(file)).isSymbolicLink()).toBe(true);
    expect(JSON.parse(await readFile(target, 'utf8'))).toEqual({ host: 'h', apiKey: 'k' });
    expect((await readdir(home)).filter((name) => !name.endsWith('.lock')).toSorted()).toEqual([
      'config.json',
      'dotfiles.json',
    ]);
  });

  test('twenty writers at once lose nothing of each other', async () => {
    await Promise.all(Array.from({ length: 20 }, (_, index) => edit({ [`field${index}`]: index })));
    expect(Object.keys(Object(await settings()))).toHaveLength(20);
  });

  test.each(['nexus', 'nexus.conf', '.nexus.json', 'a.b.c'])(
    'writes a file called %s under that name',
    async (name) => {
      file = path.join(home, name);
      await edit({ host: 'h' });
      expect(await settings()).toEqual({ host: 'h' });
    },
  );
});

test('every setting is documented', () => {
  const all = listSettings();
  expect(all.map(({ name }) => name)).toEqual(
    expect.arrayContaining([
      'dataDir',
      'apiKey',
      'openclaw.stateDir',
      'retry.maxMs',
      'serve.port',
      'store.kind',
    ]),
  );
  expect(all.filter(({ description }) => !description.endsWith('.'))).toEqual([]);
  expect(all.filter(({ secret }) => secret).map(({ name }) => name)).toEqual([
    'apiKey',
    'notify.hooksToken',
    'putio.token',
    'putio.callbackBefore',
    'store.connectionString',
  ]);
});

test('a file that others can read is refused for a secret of every place that the schema has for one', async () => {
  const marked: string[][] = [];
  const schema: unknown = z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' });
  (function walk(at: unknown, keys: string[]): void {
    if (typeof at !== 'object' || at === null) return;
    if (Reflect.get(at, 'secret') === true) marked.push(keys);
    for (const [name, below] of Object.entries(at)) {
      if (name === 'properties')
        for (const [key, one] of Object.entries(Object(below))) walk(one, [...keys, key]);
      else if (name === 'additionalProperties') walk(below, [...keys, 'any']);
      else if (name === 'anyOf') for (const branch of Object.values(Object(below))) walk(branch, keys);
      else if (name === 'items') walk(below, [...keys, '0']);
    }
  })(schema, []);
  expect(marked.map((keys) => keys.join('.'))).toEqual([
    'apiKey',
    'notify.hooksToken',
    'mailboxes.any.sources.any.secret',
    'mailboxes.any.sources.any.secret.0',
    'mailboxes.any.sources.any.verifyToken',
    'putio.token',
    'putio.callbackBefore',
    'alerts.channels.0.url',
    'alerts.channels.0.token',
    'heartbeats.any',
    'store.connectionString',
  ]);
  for (const keys of marked) {
    const holding = keys.reduceRight<unknown>(
      (value, key) => (key === '0' ? [value] : { [key]: value }),
      'a secret',
    );
    await written(JSON.stringify(holding), 0o644);
    await expect(readSettings(file), keys.join('.')).rejects.toThrow('holds a secret');
  }
  await written('{"mailboxes":{"secret":{"sources":{"verifyToken":{"secret":{"env":"A"}}}}}}', 0o644);
  await expect(readSettings(file)).resolves.toBeDefined();
});

test('the keys of the environment are added to those of the file, and go before one of the same name', async () => {
  const key = (name: string, digit: string) => ({
    name,
    hash: digit.repeat(64),
    agents: '*',
    scopes: ['read'],
  });
  await written({ keys: [key('a', '1'), key('b', '1')] });
  const env = { NEXUS_KEYS: JSON.stringify([key('b', '2'), key('c', '2')]) };
  const { keys } = await load(env);
  expect(keys.map(({ name, hash }) => name + hash[0])).toEqual(['a1', 'b2', 'c2']);
  for (const wrong of ['nxk_notalist', '{}', '[{"name":"x"}]'])
    await expect(load({ NEXUS_KEYS: wrong })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/keys.*NEXUS_KEYS/),
    });
});

test('a key with dots is known with them where it is there, and by what escapes them where it is not', () => {
  const settings = { mailboxes: { main: { sources: { 'put.io': { verify: 'secret' }, put: 1 } } } };
  const path = ['mailboxes', 'main', 'sources'];
  expect(keysIn(settings, 'mailboxes.main.sources.put.io')).toEqual([...path, 'put.io']);
  expect(keysIn(settings, 'mailboxes.main.sources.put.io.secret')).toEqual([...path, 'put.io', 'secret']);
  expect(keysIn(settings, 'mailboxes.main.sources.ci\\.v2.verify')).toEqual([...path, 'ci.v2', 'verify']);
  expect(keysIn(settings, 'mailboxes.main.sources.ci.v2')).toEqual([...path, 'ci', 'v2']);
  expect(keysIn({}, 'retry.tries')).toEqual(['retry', 'tries']);
});

test('a mailbox of an agent whose name is a path of the endpoint’s own is refused, and one that is no name', async () => {
  for (const agent of ['pending', 'items', 'mailboxes']) {
    await written({ mailboxes: { [agent]: {} } });
    await expect(load(), agent).rejects.toThrow(/must not be a path of the endpoint's own.*\.as NAME/);
  }
  await written({ mailboxes: { 'a.b': {} } });
  await expect(load()).rejects.toThrow('must be the id of an agent');
});

test('a file nested too deep to be looked through is refused with a sentence', async () => {
  await written(`{"mailboxes":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`);
  expect(await complaint(load())).toContain('levels deep');
});
