import { readFile, stat, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { newMachine } from './nexus.ts';

test('what is set is in the file, private, and in effect', async () => {
  const { nexus, configFile } = await newMachine();
  expect(await nexus(['config', 'set', 'agents.main.as', 'box1-main'])).toMatchObject({
    status: 0,
    stdout: '',
  });
  expect(await nexus(['config', 'set', 'retry.tries', '3'])).toMatchObject({ status: 0 });
  expect(JSON.parse(await readFile(configFile, 'utf8'))).toEqual({
    agents: { main: { as: 'box1-main' } },
    retry: { tries: 3 },
  });
  expect((await stat(configFile)).mode & 0o777).toBe(0o600);
  expect((await nexus(['config', 'get', 'agents.main.as'])).stdout).toBe('box1-main\n');
  expect((await nexus(['config', 'get', 'retry'])).stdout).toBe('{"tries":3,"baseMs":500,"maxMs":30000}\n');
});

test('a value is JSON where that fits the setting, and text where it does not', async () => {
  const { nexus, configFile } = await newMachine();
  await nexus(['config', 'set', 'apiKey', '12345']);
  await nexus(['config', 'set', 'host', 'true']);
  await nexus(['config', 'set', 'agents', '{"a.b": {"skip": true}}']);
  await nexus(['config', 'set', 'agents.a\\.b.as', 'ab']);
  expect(JSON.parse(await readFile(configFile, 'utf8'))).toEqual({
    apiKey: '12345',
    host: 'true',
    agents: { 'a.b': { skip: true, as: 'ab' } },
  });
});

test('a wrong value and an unknown setting are refused and change nothing', async () => {
  const { nexus, configFile } = await newMachine();
  await nexus(['config', 'set', 'concurrency', '3']);
  const before = await readFile(configFile, 'utf8');
  const wrong = await nexus(['config', 'set', 'concurrency', 'many']);
  expect(wrong).toMatchObject({ status: 78, stdout: '' });
  expect(wrong.stderr).toContain('whole number from 1 to 64');
  const unknown = await nexus(['config', 'set', 'concurency', '3']);
  expect(unknown.status).toBe(78);
  expect(unknown.stderr).toContain('did you mean concurrency?');
  expect(await readFile(configFile, 'utf8')).toBe(before);
});

test('what is unset is gone from the file, with the object that it leaves empty', async () => {
  const { nexus, configFile } = await newMachine();
  await nexus(['config', 'set', 'agents.main.as', 'x']);
  await nexus(['config', 'set', 'concurrency', '3']);
  expect((await nexus(['config', 'unset', 'agents.main.as'])).status).toBe(0);
  expect(JSON.parse(await readFile(configFile, 'utf8'))).toEqual({ concurrency: 3 });
});

test('a list masks secrets, as text and as JSON', async () => {
  const { nexus, json } = await newMachine();
  await nexus(['config', 'set', 'apiKey', 'verysecret']);
  const list = await nexus(['config', 'list']);
  expect(list.stdout).toMatch(/apiKey +\*+\n/);
  const { answer, stdout } = await json(['config', 'list']);
  expect(answer).toMatchObject({ command: 'config list', ok: true, schemaVersion: 1 });
  expect(answer['settings']).toMatchObject({ apiKey: '********', 'retry.tries': 6 });
  expect(list.stdout + stdout).not.toContain('verysecret');
});

test('a setting without a value is not found', async () => {
  const { json } = await newMachine();
  expect(await json(['config', 'get', 'endpoint'])).toMatchObject({
    status: 69,
    answer: { command: 'config get', ok: false, error: { code: 'not_found' } },
  });
});

test('--config and NEXUS_CONFIG name the file, --config first', async () => {
  const { nexus, home } = await newMachine();
  await writeFile(`${home}/a.json`, '{"host": "a"}');
  await writeFile(`${home}/b.json`, '{"host": "b"}');
  const env = { NEXUS_CONFIG: `${home}/a.json` };
  expect((await nexus(['config', 'get', 'host'], { env })).stdout).toBe('a\n');
  expect((await nexus(['config', 'get', 'host', '--config', 'b.json'], { env })).stdout).toBe('b\n');
  expect((await nexus(['--config', 'b.json', 'config', 'get', 'host'], { env })).stdout).toBe('b\n');
});

test('reading the configuration leaves no trace', async () => {
  const { nexus, configFile, dataDir } = await newMachine();
  await nexus(['config', 'list']);
  await nexus(['keys', 'list']);
  expect(await stat(configFile, { throwIfNoEntry: false })).toBeUndefined();
  expect(await stat(dataDir, { throwIfNoEntry: false })).toBeUndefined();
});

test('six processes that set at once lose nothing of each other', async () => {
  const { nexus, configFile } = await newMachine();
  const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
  await Promise.all(ids.map((id) => nexus(['config', 'set', `agents.${id}.as`, `${id}1`])));
  const expected = Object.fromEntries(ids.map((id) => [id, { as: `${id}1` }]));
  expect(JSON.parse(await readFile(configFile, 'utf8'))).toEqual({ agents: expected });
});
