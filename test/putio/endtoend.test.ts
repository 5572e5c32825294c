import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { valueAt } from '../../src/settings.ts';
import { completed, gateway, token as hooksToken } from '../openclaw/gateway.ts';
import { newPutioMachine } from './account.ts';
import { refusal, token } from './server.ts';

const minutes = 60_000;

/** The last look, and the last try, were two hours ago. */
async function lookedLongAgo(dataDir: string): Promise<void> {
  const file = path.join(dataDir, 'host', 'putio.json');
  const at = new Date(Date.now() - 120 * minutes).toISOString();
  const looks = await readFile(file, 'utf8');
  await writeFile(file, looks.replaceAll(/"(\w+)At":"[^"]*"/g, `"$1At":"${at}"`));
}

test('from register to the inbox: called back as put.io does, 202, pulled, with its transfer, confirmed', async () => {
  const { machine, putio, base, register, inbox } = await newPutioMachine();
  const registered = await register();
  expect(registered).toMatchObject({ status: 0 });
  expect(registered.stdout).toBe(
    `${base}/api/webhook/main?source=putio&secret=********: put.io calls it from now on, for every transfer that finishes.\n`,
  );
  expect(putio.callback).toMatch(/\/api\/webhook\/main\?source=putio&secret=[\w-]{43}$/);

  expect(await putio.finish(7, { error_message: null })).toBe(202);
  const pulled = await machine.json(['pull-webhooks']);
  expect(pulled).toMatchObject({ status: 0, answer: { delivered: 1 } });
  const [file] = await inbox();
  expect(file).toMatchObject({
    source: 'putio',
    confirmed: true,
    payload: { id: '7', is_private: 'False', size: '734003200', finished_at: expect.any(String) },
    transfer: {
      id: 7,
      name: 'Film 7 [é].mkv',
      fileId: 900_007,
      status: 'COMPLETED',
      size: 734_003_200,
      isPrivate: false,
      finishedAt: expect.stringMatching(/Z$/),
    },
  });
  expect(file).not.toHaveProperty('reconciled');
  expect(valueAt(file, ['payload', 'error_message'])).toBeUndefined();
  expect(JSON.stringify(valueAt(file, ['transfer']))).not.toContain('secret');
});

test('the agent is told of it, and the bytes are kept as put.io sent them', async () => {
  const { url, seen } = await gateway(completed({ status: 'ok' }));
  const { machine, putio, register } = await newPutioMachine();
  await machine.nexus(['config', 'set', 'notify.by', 'hooks']);
  await machine.nexus(['config', 'set', 'notify.hooksUrl', url]);
  await machine.nexus(['config', 'set', 'notify.hooksToken', hooksToken]);
  await register();
  await putio.finish(7);
  const pulled = await machine.json(['pull-webhooks']);
  expect(pulled).toMatchObject({ status: 0, answer: { delivered: 1, notified: { done: 1 } } });
  expect(JSON.stringify(seen.map(({ body }) => body))).toContain('from putio (1)');
  const { answer } = await machine.json(['webhooks', 'list', '--source', 'putio']);
  const id = String(valueAt(answer, ['items', '0', 'id']));
  const { stdout } = await machine.nexus(['webhooks', 'show', id, '--body']);
  expect(stdout).toMatch(/^id=7&name=Film\+7\+%5B%C3%A9%5D\.mkv&type=TORRENT&.*is_private=False&/);
});

test('a look that is killed anywhere leaves nothing out and finds nothing twice', async () => {
  for (const at of ['/transfers/list?', '/transfers/list/continue', '/events/list']) {
    const { machine, putio, register, inbox } = await newPutioMachine();
    await register();
    await lookedLongAgo(machine.dataDir);
    for (let id = 1; id <= 120; id++) putio.add(id, {}, 30 * minutes);
    const run = machine.start(['putio', 'reconcile']);
    putio.fault = async ({ path }) => {
      if (!path.startsWith(at)) return undefined;
      run.kill('SIGKILL');
      await run.ended;
      return { silent: true };
    };
    expect((await run.ended).signal).toBe('SIGKILL');
    putio.fault = () => undefined;
    const again = await machine.json(['putio', 'reconcile']);
    const stored = at === '/events/list' ? 120 : 0;
    expect(again.answer, at).toMatchObject({ ok: true, already: stored });
    expect(valueAt(again.answer, ['found', 'length']), at).toBe(120 - stored);
    await machine.nexus(['pull-webhooks']);
    expect(await inbox()).toHaveLength(120);
  }
}, 60_000);

test('a callback that is lost is found, delivered once, and its late callback is a duplicate', async () => {
  const { machine, putio, register, inbox } = await newPutioMachine();
  await register();
  const lost = putio.add(7, {}, 30 * minutes);
  const since = new Date(Date.now() - 3_600_000).toISOString();
  const found = await machine.json(['putio', 'reconcile', '--since', since]);
  expect(found).toMatchObject({ status: 0, answer: { ok: true, already: 0, found: [{ transfer: 7 }] } });
  await machine.nexus(['pull-webhooks']);
  expect(await inbox()).toMatchObject([
    { reconciled: true, confirmed: true, transfer: { id: 7, isPrivate: false }, payload: { id: '7' } },
  ]);
  expect(await putio.callAgain(lost)).toBe(200);
  expect(await putio.callAgain(lost, ['finished_at'])).toBe(200);
  expect((await machine.json(['putio', 'reconcile', '--since', since])).answer).toMatchObject({
    found: [],
    already: 1,
  });
  await machine.nexus(['pull-webhooks']);
  expect(await inbox()).toHaveLength(1);
});

test('a pull looks by itself, after it has delivered, and the next one delivers what was found', async () => {
  const { machine, putio, register, inbox } = await newPutioMachine();
  await register();
  await lookedLongAgo(machine.dataDir);
  putio.add(7, {}, 30 * minutes);
  const first = await machine.json(['pull-webhooks']);
  expect(first.answer).toMatchObject({ delivered: 0, reconciled: { found: 1, already: 0 } });
  const second = await machine.json(['pull-webhooks']);
  expect(second.answer).toMatchObject({ delivered: 1 });
  expect(second.answer).not.toHaveProperty('reconciled');
  expect(await inbox()).toMatchObject([{ reconciled: true, transfer: { id: 7 } }]);
});

test('the endpoint elsewhere takes what a host found, by a key that may pull', async () => {
  const { machine, putio, base, register } = await newPutioMachine();
  await register();
  const { answer } = await machine.json(['keys', 'add', 'box', '--scopes', 'pull,read']);
  const host = { NEXUS_CONFIG: path.join(machine.home, 'host.json'), NEXUS_ENDPOINT: base };
  const env = { ...host, NEXUS_API_KEY: String(answer['key']), NEXUS_DATA_DIR: path.join(machine.home, 'd') };
  await machine.nexus(['config', 'set', 'putio.apiBase', putio.base], { env });
  await machine.nexus(['config', 'set', 'putio.agent', 'main'], { env });
  putio.add(7, {}, 30 * minutes);
  expect((await machine.json(['putio', 'reconcile'], { env })).answer).toMatchObject({
    found: [{ transfer: 7 }],
  });
  expect((await machine.json(['putio', 'reconcile'], { env })).answer).toMatchObject({
    found: [],
    already: 1,
  });
  const refused = await machine.nexus(['putio', 'register', '--agent', 'main'], { env });
  expect(refused).toMatchObject({ status: 64 });
  expect(refused.stderr).toMatch(/configured on that machine/);
});

test("a put.io that does not answer delays no pull's mail and fails none, one that refuses the token does", async () => {
  const { machine, putio, register, inbox } = await newPutioMachine();
  await register();
  await putio.finish(7);
  putio.fault = () => refusal(503, 'Oops', 'no');
  const pulled = await machine.nexus(['pull-webhooks']);
  expect(pulled.status).toBe(0);
  expect(pulled.stderr).toMatch(/delivered unconfirmed/);
  expect(pulled.stderr).toMatch(/could not be looked through, and is again: put\.io failed to read/);
  expect(await inbox()).toMatchObject([{ confirmed: 'unavailable', transfer: { id: 7 } }]);
  putio.fault = () => refusal(401, 'invalid_grant', 'no');
  await machine.nexus(['config', 'set', 'putio.reconcileMinutes', '1']);
  await lookedLongAgo(machine.dataDir);
  const failed = await machine.json(['pull-webhooks']);
  expect(failed.status).toBe(3);
  expect(failed.answer['failed']).toMatchObject([
    { item: 'put.io', reason: expect.stringMatching(/does not know the token/) },
  ]);
  putio.fault = () => undefined;
  await lookedLongAgo(machine.dataDir);
  expect((await machine.nexus(['pull-webhooks'])).status).toBe(0);
});

test('--follow delivers as it is called back, and looks meanwhile', async () => {
  const { machine, putio, register, inbox } = await newPutioMachine();
  await register();
  const following = machine.start(['pull-webhooks', '--follow']);
  await putio.finish(7);
  await following.shows(/1 item delivered/);
  expect(await inbox()).toMatchObject([{ confirmed: true }]);
  await expect.poll(() => putio.asked.some(({ path }) => path.startsWith('/transfers/list'))).toBe(true);
  following.kill('SIGTERM');
  expect((await following.ended).status).toBe(143);
});

test('the token is in no file of Nexus, in no output and in no address', async () => {
  const { machine, putio, register } = await newPutioMachine();
  const runs = [
    await register(),
    await machine.nexus(['putio', 'status']),
    await machine.nexus(['putio', 'reconcile', '--json']),
    await machine.nexus(['config', 'list']),
    await machine.nexus(['pull-webhooks', '--json']),
  ];
  putio.fault = () => refusal(401, 'invalid_grant', `The token ${token} is wrong.`);
  runs.push(await machine.nexus(['putio', 'status', '--json']), await machine.nexus(['putio', 'reconcile']));
  for (const { stdout, stderr } of runs) expect(stdout + stderr).not.toContain(token);
  expect(putio.asked.some(({ path, body }) => `${path}${body}`.includes(token))).toBe(false);
  const kept = await readdir(machine.dataDir, { withFileTypes: true, recursive: true });
  const files = kept
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => path.join(parentPath, name));
  expect(files.length).toBeGreaterThan(2);
  for (const file of [...files, machine.configFile])
    expect((await readFile(file)).includes(token), file).toBe(false);
});

test('a token in the file is hidden by `config list`, and the file is for its owner alone', async () => {
  const { machine } = await newPutioMachine();
  await machine.nexus(['config', 'set', 'putio.token', 'SECRET-IN-FILE']);
  const { stdout } = await machine.nexus(['config', 'list']);
  expect(stdout).toMatch(/^putio\.token +\*{8}$/m);
  expect(stdout).not.toContain('SECRET-IN-FILE');
  expect((await stat(machine.configFile)).mode & 0o777).toBe(0o600);
});

test('the API is asked over https alone, but on this machine', async () => {
  const { machine } = await newPutioMachine();
  const refused = await machine.nexus(['config', 'set', 'putio.apiBase', 'http://api.put.io']);
  expect(refused).toMatchObject({ status: 78 });
  expect(refused.stderr).toMatch(/must be https, as the token is sent there/);
  const path = await machine.nexus(['config', 'set', 'putio.apiBase', 'https://api.put.io/v2']);
  expect(path).toMatchObject({ status: 78 });
  expect(path.stderr).toMatch(/must have no path/);
});

test('putio status says whom put.io calls, when it last did, and what put.io says of calls that failed', async () => {
  const { machine, putio, base, register } = await newPutioMachine();
  const before = await machine.json(['putio', 'status']);
  expect(before).toMatchObject({ status: 3, answer: { ok: false, registered: false, account: 'flick' } });
  await register();
  await putio.finish(7);
  await machine.nexus(['putio', 'reconcile']);
  const well = await machine.json(['putio', 'status']);
  expect(well).toMatchObject({
    status: 0,
    answer: {
      ok: true,
      registered: true,
      agent: 'main',
      callback: `${base}/api/webhook/main?source=putio&secret=********`,
      lastCallbackAt: expect.stringMatching(/Z$/),
      callbackHasFailed: false,
      failedCallbacks: { count: 0 },
      look: { found: 0 },
    },
  });
  await putio.finish(8, { callback_url: 'http://127.0.0.1:1/?secret=hush' });
  const unwell = await machine.nexus(['putio', 'status']);
  expect(unwell.status).toBe(3);
  expect(unwell.stdout).toMatch(
    /^failed callbacks +1 in 7 days, the last (now|\d s ago): Connection failed$/m,
  );
  expect(unwell.stderr).toMatch(/put\.io warns that the callback has failed/);
});

test('putio status says that a callback with another secret does not work', async () => {
  const { machine, putio, register } = await newPutioMachine();
  await register();
  putio.callback = (putio.callback ?? '').replace(/secret=.*/, 'secret=another');
  const { status, answer } = await machine.json(['putio', 'status']);
  expect(status).toBe(3);
  expect(answer).toMatchObject({ ok: false, registered: false, verified: false });
  const { stdout } = await machine.nexus(['putio', 'status']);
  expect(stdout).toMatch(/^registered +no: the secret in the URL is none of main here/m);
});

test('putio status on a host elsewhere names whom put.io calls, and does not say that it works', async () => {
  const { machine, putio, base } = await newPutioMachine();
  const { answer: key } = await machine.json(['keys', 'add', 'box', '--scopes', 'pull,read']);
  const host = { NEXUS_CONFIG: path.join(machine.home, 'host.json'), NEXUS_ENDPOINT: base };
  const env = { ...host, NEXUS_API_KEY: String(key['key']), NEXUS_DATA_DIR: path.join(machine.home, 'd') };
  await machine.nexus(['config', 'set', 'putio.apiBase', putio.base], { env });
  putio.callback = 'https://nexus.example.net/api/webhook/main?source=putio&secret=x';
  const { stdout } = await machine.nexus(['putio', 'status'], { env });
  expect(stdout).toMatch(/^registered +names main at nexus\.example\.net, not verified/m);
});

test('a pull that stays fails for what lasts at put.io', async () => {
  const { machine, putio, register } = await newPutioMachine();
  await register();
  putio.fault = () => refusal(401, 'invalid_grant', 'no');
  const following = machine.start(['pull-webhooks', '--follow', '--json']);
  await following.shows(/put\.io could not be looked through/);
  following.kill('SIGTERM');
  const { stdout } = await following.ended;
  expect(valueAt(JSON.parse(stdout), ['failed'])).toMatchObject([
    { item: 'put.io', reason: expect.stringMatching(/does not know the token/) },
  ]);
});

test('a host elsewhere looks no more when the account calls another agent', async () => {
  const { machine, putio, register, base } = await newPutioMachine();
  await register();
  await machine.nexus(['putio', 'register', '--agent', 'other', '--endpoint-url', base, '--force']);
  await machine.nexus(['config', 'set', 'putio.agent', 'main']);
  putio.add(7, {}, 30 * minutes);
  await lookedLongAgo(machine.dataDir);
  const pulled = await machine.json(['pull-webhooks']);
  expect(pulled).toMatchObject({ status: 3, answer: { failed: [{ item: 'put.io' }] } });
  expect(JSON.stringify(pulled.answer)).toMatch(/nexus config unset putio\.agent/);
  const forced = await machine.json(['putio', 'reconcile', '--force']);
  expect(forced.answer).toMatchObject({ found: [{ transfer: 7 }] });
});

test('reconcile says what to do where it cannot', async () => {
  const { machine, putio } = await newPutioMachine();
  const run = async (args: string[], env: Record<string, string> = {}) => {
    const { status, stderr } = await machine.nexus(['putio', 'reconcile', ...args], { env });
    return `${status} ${stderr}`;
  };
  expect(await run([])).toMatch(/^64 .*Say it with --agent, or once with `nexus config set putio\.agent ID`/);
  expect(await run(['--agent', 'main', '--since', '2026-01-01'])).toMatch(/^64 .*at most 29 days back/);
  expect(await run(['--agent', 'main'], { NEXUS_PUTIO_TOKEN: '' })).toMatch(
    /^78 .*There is no token for put\.io\. Make one at https:\/\/app\.put\.io/,
  );
  putio.fault = () => ({
    ...refusal(429, 'RATE_LIMIT', 'slow'),
    headers: { 'x-ratelimit-reset': apiReset() },
  });
  expect(await run(['--agent', 'main'])).toMatch(
    /^75 .*It takes requests again at \d\d:\d\d:\d\d UTC, in \d+ s/,
  );
  putio.fault = () => undefined;
  putio.add(1, { name: 'Nine' }, 10 * minutes);
  const found = await machine.nexus(['putio', 'reconcile', '--agent', 'main']);
  expect(found.stdout).toMatch(
    /^ITEM +TRANSFER +NAME\nmain\.\w+ +1 +Nine\nputio reconcile: 1 transfer found that never called back, 0 known, of what finished since /,
  );
});

function apiReset(): string {
  return String(Math.floor(Date.now() / 1000) + 60);
}
