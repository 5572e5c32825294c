import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { valueAt } from '../../src/settings.ts';
import { newPutioMachine, type PutioMachine } from './account.ts';
import { refusal } from './server.ts';

const theirs = 'https://hooks.example.com/putio?key=their-secret';

async function putioSettings({ config }: PutioMachine): Promise<unknown> {
  const settings = valueAt(await config(), ['putio']);
  return Object.fromEntries(
    Object.entries(Object(settings)).filter(([name]) => !['apiBase', 'callbackSet'].includes(name)),
  );
}

/** Kills `nexus putio …` at its n-th request to put.io, before or after that is done. */
async function killedAt(at: PutioMachine, args: string[], request: number, done: boolean): Promise<boolean> {
  const run = at.machine.start(args);
  let count = 0;
  let killed = false;
  at.putio.fault = async ({ method, body }) => {
    if (++count !== request) return undefined;
    killed = true;
    const set = done && method === 'POST' ? valueAt(JSON.parse(body), ['callback_url']) : undefined;
    if (typeof set === 'string' || set === null) at.putio.callback = set;
    run.kill('SIGKILL');
    await run.ended;
    return { silent: true };
  };
  await run.ended;
  at.putio.fault = () => undefined;
  return killed;
}

const steps: [what: string, request: number, done: boolean][] = [
  ['before the callback is read', 1, false],
  ['before it is set', 2, false],
  ['when it is set', 2, true],
  ['before it is read back', 3, false],
];

test.each(steps)(
  'register, killed %s, is mended by running it again, and unregister restores',
  async (_, request, done) => {
    const at = await newPutioMachine();
    at.putio.callback = theirs;
    const args = ['putio', 'register', '--agent', 'main', '--endpoint-url', at.base, '--force'];
    expect(await killedAt(at, args, request, done)).toBe(true);
    expect((await at.machine.nexus(args)).status).toBe(0);
    expect(await putioSettings(at)).toEqual({ agent: 'main', callbackBefore: theirs });
    expect(await at.putio.finish(request)).toBe(202);
    await at.machine.nexus(['putio', 'unregister']);
    expect(at.putio.callback).toBe(theirs);
  },
);

test.each(steps)(
  'register, killed %s, leaves no older registration to look from',
  async (_, request, done) => {
    const at = await newPutioMachine();
    const file = path.join(at.machine.dataDir, 'host', 'putio.json');
    const old = new Date(Date.now() - 10 * 86_400_000).toISOString();
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, JSON.stringify({ main: { lookedAt: old, beganAt: old } }));
    const args = ['putio', 'register', '--agent', 'main', '--endpoint-url', at.base];
    expect(await killedAt(at, args, request, done)).toBe(true);
    expect((await at.machine.nexus(args)).status).toBe(0);
    at.putio.add(1, {}, 5 * 86_400_000);
    expect((await at.machine.json(['putio', 'reconcile'])).answer).toMatchObject({ found: [] });
  },
);

test('register that is refused leaves the place to look from as it was', async () => {
  const at = await newPutioMachine();
  const file = path.join(at.machine.dataDir, 'host', 'putio.json');
  const mark = { main: { lookedAt: new Date(Date.now() - 86_400_000).toISOString() } };
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify(mark));
  at.putio.fault = ({ method }) => (method === 'POST' ? refusal(403, 'NO', 'no') : undefined);
  expect((await at.register()).status).toBe(77);
  expect(JSON.parse(await readFile(file, 'utf8'))).toEqual(mark);
});

test.each(steps)('register, killed %s, is undone by unregister alone', async (_, request, done) => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  const args = ['putio', 'register', '--agent', 'main', '--endpoint-url', at.base, '--force'];
  expect(await killedAt(at, args, request, done)).toBe(true);
  expect((await at.machine.nexus(['putio', 'unregister'])).status).toBe(0);
  expect(at.putio.callback).toBe(theirs);
  expect(await putioSettings(at)).toEqual({});
});

test.each(steps)('unregister, killed %s, is mended by running it again', async (_, request, done) => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  await at.register(['--force']);
  expect(await killedAt(at, ['putio', 'unregister'], request, done)).toBe(true);
  expect((await at.machine.nexus(['putio', 'unregister'])).status).toBe(0);
  expect(at.putio.callback).toBe(theirs);
  expect(await putioSettings(at)).toEqual({});
});
