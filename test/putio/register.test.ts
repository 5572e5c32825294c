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

test('running it again changes nothing and says so', async () => {
  const at = await newPutioMachine();
  await at.register();
  const { callback } = at.putio;
  const args = ['putio', 'register', '--agent', 'main', '--endpoint-url', at.base];
  const again = await at.machine.json(args);
  expect(again).toMatchObject({ status: 0, answer: { ok: true, already: true, agent: 'main' } });
  expect(JSON.stringify(again.answer)).not.toContain(callback?.split('secret=')[1]);
  expect(at.putio.callback).toBe(callback);
  expect(at.putio.asked.filter(({ method }) => method === 'POST')).toHaveLength(1);
});

test("somebody else's callback is left alone without --force, and its secret is not shown", async () => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  const refused = await at.register();
  expect(refused.status).toBe(69);
  expect(refused.stderr).toMatch(
    /put\.io's callback is somebody else's: https:\/\/hooks\.example\.com\. .*Say --force/,
  );
  expect(refused.stderr).not.toContain('their-secret');
  expect(at.putio.callback).toBe(theirs);
  expect(await putioSettings(at)).toEqual({});
  expect(await at.config()).not.toHaveProperty('mailboxes');
});

test('with --force it is replaced, and unregister restores it', async () => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  expect((await at.register(['--force'])).status).toBe(0);
  expect(at.putio.callback).toContain('/api/webhook/main?source=putio&secret=');
  expect(await putioSettings(at)).toEqual({ agent: 'main', callbackBefore: theirs });
  expect((await at.machine.nexus(['config', 'list'])).stdout).not.toContain('their-secret');
  await at.register();
  const restored = await at.machine.nexus(['putio', 'unregister']);
  expect(restored).toMatchObject({ status: 0 });
  expect(restored.stdout).toBe('put.io calls https://hooks.example.com again, as before.\n');
  expect(at.putio.callback).toBe(theirs);
  expect(await putioSettings(at)).toEqual({});
});

test('unregister leaves none where there was none, and a callback that is not ours by now alone', async () => {
  const at = await newPutioMachine();
  await at.register();
  const gone = await at.machine.json(['putio', 'unregister']);
  expect(gone.answer).toEqual({ command: 'putio unregister', ok: true, restored: true, schemaVersion: 1 });
  expect(at.putio.callback).toBeNull();
  await at.register();
  at.putio.callback = theirs;
  const left = await at.machine.nexus(['putio', 'unregister']);
  expect(left.stdout).toMatch(/is not ours: it was left alone/);
  expect(at.putio.callback).toBe(theirs);
  expect(await putioSettings(at)).toEqual({});
});

test('what was there before is kept where ours is not there to be replaced, until --forget', async () => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  await at.register(['--force']);
  at.putio.callback = 'https://third.example/hook';
  const left = await at.machine.json(['putio', 'unregister']);
  expect(left.answer).toMatchObject({ restored: false, kept: 'https://hooks.example.com' });
  expect(await putioSettings(at)).toEqual({ callbackBefore: theirs });
  await at.machine.nexus(['putio', 'unregister', '--forget']);
  expect(await putioSettings(at)).toEqual({});
});

test('ours is known by what was set, when its source is gone and however its host is written', async () => {
  const at = await newPutioMachine();
  const base = at.base.replace('127.0.0.1', 'LOCALHOST');
  for (const url of [base, at.base]) {
    at.putio.callback = theirs;
    await at.machine.nexus(['putio', 'register', '--agent', 'main', '--endpoint-url', url, '--force']);
    expect(at.putio.callback).toContain(url);
    await at.machine.nexus(['config', 'unset', 'mailboxes.main.sources.putio']);
    expect((await at.machine.nexus(['putio', 'unregister'])).status).toBe(0);
    expect(at.putio.callback).toBe(theirs);
  }
});

test('what it is called by must be a URL, and the flag is named', async () => {
  const at = await newPutioMachine();
  const run = await at.machine.nexus(['putio', 'register', '--agent', 'main', '--endpoint-url', 'x y']);
  expect(run.status).toBe(64);
  expect(run.stderr).toMatch(/--endpoint-url must be an http or https URL/);
});

test("another agent's place at put.io is taken with --force alone, and what was before both is restored", async () => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  await at.register(['--force']);
  const other = ['putio', 'register', '--agent', 'other', '--endpoint-url', at.base];
  const refused = await at.machine.nexus(other);
  expect(refused.status).toBe(69);
  expect(refused.stderr).toMatch(/goes to the agent main here/);
  expect((await at.machine.nexus([...other, '--force'])).status).toBe(0);
  expect(await putioSettings(at)).toEqual({ agent: 'other', callbackBefore: theirs });
  await at.machine.nexus(['putio', 'unregister']);
  expect(at.putio.callback).toBe(theirs);
});

test('a new secret replaces ours without --force', async () => {
  const at = await newPutioMachine();
  await at.register();
  const { callback } = at.putio;
  await at.machine.nexus(['config', 'unset', 'mailboxes.main.sources.putio']);
  expect((await at.register()).status).toBe(0);
  expect(at.putio.callback).not.toBe(callback);
  expect(await at.putio.finish(1)).toBe(202);
});

test.each([
  ['reads', 'GET', refusal(401, 'invalid_scope', 'no')],
  ['does not let it be set', 'POST', refusal(403, 'UNAVAILABLE_VALUE', 'no')],
  ['does not let it be set, as if the token were wrong', 'POST', refusal(401, 'invalid_grant', 'no')],
])(
  'where put.io refuses the setting (%s), the URL for single transfers is printed',
  async (_, method, fault) => {
    const at = await newPutioMachine();
    at.putio.callback = theirs;
    at.putio.fault = (asked) => (asked.method === method ? fault : undefined);
    const refused = await at.register(['--force']);
    expect(refused.status).toBe(77);
    expect(refused.stderr).toMatch(/put\.io does not let this token/);
    expect(refused.stderr).toMatch(/give it to POST \/v2\/transfers\/add as `callback_url`/);
    const url = refused.stdout.trim();
    expect(url).toMatch(/\/api\/webhook\/main\?source=putio&secret=[\w-]{43}$/);
    expect(await putioSettings(at)).toEqual({});
    at.putio.fault = () => undefined;
    expect(await at.putio.finish(3, { callback_url: url })).toBe(202);
  },
);

test('a URL that put.io does not take, and a token that is none, say what to do and leave nothing', async () => {
  const at = await newPutioMachine();
  at.putio.callback = theirs;
  at.putio.fault = ({ method }) =>
    method === 'POST' ? refusal(400, 'INVALID_CALLBACK_URL', 'Invalid callback URL') : undefined;
  const refused = await at.register(['--force']);
  expect(refused.status).toBe(64);
  expect(refused.stderr).toMatch(/does not take this callback URL .* --endpoint-url/);
  expect(await putioSettings(at)).toEqual({});
  const fresh = await newPutioMachine();
  const env = { NEXUS_PUTIO_TOKEN: 'wrong' };
  const run = ['putio', 'register', '--agent', 'main', '--endpoint-url', fresh.base];
  const unknown = await fresh.machine.nexus(run, { env });
  expect(unknown.status).toBe(77);
  expect(unknown.stderr).toMatch(/put\.io does not know the token/);
  expect(await fresh.config()).not.toHaveProperty('mailboxes');
});

test('an answer that is not what was set is no success', async () => {
  const at = await newPutioMachine();
  at.putio.fault = ({ method }) => (method === 'POST' ? { body: { status: 'OK' } } : undefined);
  const run = await at.register();
  expect(run.status).toBe(69);
  expect(run.stderr).toMatch(/put\.io took the callback, and says that it has none\. Run this again/);
});

test('an endpoint without a name for outside is refused before anything is asked', async () => {
  const at = await newPutioMachine();
  const run = await at.machine.nexus(['putio', 'register', '--agent', 'main']);
  expect(run.status).toBe(64);
  expect(run.stderr).toMatch(/Say with --endpoint-url, or `nexus config set serve\.url URL`/);
  expect(at.putio.asked).toEqual([]);
});

test('a source that proves itself in another way is not made into one with a secret', async () => {
  const at = await newPutioMachine();
  await at.machine.nexus(['config', 'set', 'mailboxes.main.sources.putio', '{"verify":"none"}']);
  const run = await at.register();
  expect(run.status).toBe(69);
  expect(run.stderr).toMatch(/proves itself by none, and put\.io can only by a secret in the URL/);
});
