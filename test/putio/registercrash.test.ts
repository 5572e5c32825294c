import { expect, test } from 'vitest';
import { valueAt } from '../../src/settings.ts';
import { newPutioMachine, type PutioMachine } from './account.ts';

const theirs = 'https://hooks.example.com/putio?key=their-secret';

async function putioSettings({ config }: PutioMachine): Promise<unknown> {
  const settings = valueAt(await config(), ['putio']);
  return Object.fromEntries(Object.entries(Object(settings)).filter(([name]) => name !== 'apiBase'));
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
    expect(await putioSettings(at)).toEqual({ agent: 'main', before: theirs });
    expect(await at.putio.finish(request)).toBe(202);
    await at.machine.nexus(['putio', 'unregister']);
    expect(at.putio.callback).toBe(theirs);
  },
);

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
