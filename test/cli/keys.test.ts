import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type Machine, newMachine } from './nexus.ts';

test('a key is printed once, alone on stdout, and the file has its hash only', async () => {
  const { nexus, configFile } = await newMachine();
  const added = await nexus(['keys', 'add', 'laptop', '--agents', 'main,work', '--scopes', 'upload,read']);
  expect(added.status).toBe(0);
  expect(added.stdout).toMatch(/^nxk_[\w-]{43}\n$/);
  const file = await readFile(configFile, 'utf8');
  expect(file).not.toContain(added.stdout.trim());
  expect(JSON.parse(file)).toMatchObject({
    keys: [{ name: 'laptop', agents: ['main', 'work'], scopes: ['upload', 'read'] }],
  });
  const list = await nexus(['keys', 'list']);
  expect(list.stdout).toMatch(/laptop +main,work +upload,read\n/);
  expect(list.stdout).not.toMatch(/[0-9a-f]{64}/);
});

test('a key is for all agents and scopes when not said, and --json gives name and key', async () => {
  const { json } = await newMachine();
  const { answer } = await json(['keys', 'add', 'all']);
  expect(answer).toEqual({ name: 'all', key: expect.stringMatching(/^nxk_/) });
  expect((await json(['keys', 'list'])).answer).toEqual({
    command: 'keys list',
    ok: true,
    keys: [{ name: 'all', agents: '*', scopes: ['upload', 'pull', 'webhook', 'read'] }],
    schemaVersion: 1,
  });
});

test.each([
  [['keys', 'add', 'a', '--scopes', 'everything'], 64, 'usage'],
  [['keys', 'add', 'a', '--agents', '../x'], 64, 'usage'],
  [['keys', 'add', '-x y'], 64, 'usage'],
  [['keys', 'add', 'laptop'], 64, 'usage'],
  [['keys', 'remove', 'desktop'], 64, 'usage'],
])('%j is refused with %i', async (args, status, code) => {
  const { nexus, json, configFile } = await newMachine();
  await nexus(['keys', 'add', 'laptop']);
  const before = await readFile(configFile, 'utf8');
  expect(await json(args)).toMatchObject({ status, answer: { ok: false, error: { code } } });
  expect(await readFile(configFile, 'utf8')).toBe(before);
});

async function serving({ start }: Machine): Promise<(key?: string) => Promise<number>> {
  const [, url] = await start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  return async (key) => {
    const headers: Record<string, string> = key === undefined ? {} : { 'x-functions-key': key };
    const response = await fetch(`${url}/api/sessions`, { headers });
    await response.arrayBuffer();
    return response.status;
  };
}

test('a running server learns of keys that come and go', async () => {
  const machine = await newMachine();
  const ask = await serving(machine);
  expect(await ask()).toBe(200);
  const key = (await machine.nexus(['keys', 'add', 'one'])).stdout.trim();
  await expect.poll(async () => await ask()).toBe(401);
  expect([await ask(key), await ask('nxk_wrong')]).toEqual([200, 401]);
  await machine.nexus(['keys', 'add', 'two']);
  await machine.nexus(['keys', 'remove', 'one']);
  await expect.poll(async () => await ask(key)).toBe(401);
  expect(await ask()).toBe(401);
});

test('a server whose last key is removed lets nobody in, instead of everybody', async () => {
  const machine = await newMachine();
  const key = (await machine.nexus(['keys', 'add', 'one'])).stdout.trim();
  const ask = await serving(machine);
  expect(await ask(key)).toBe(200);
  await machine.nexus(['keys', 'remove', 'one']);
  await expect.poll(async () => await ask(key)).toBe(401);
  expect(await ask()).toBe(401);
});
