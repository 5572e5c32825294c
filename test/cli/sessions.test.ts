import { createHash } from 'node:crypto';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { binary, type Machine, newMachine } from './nexus.ts';

const transcript = '4f3c2a1b-0d9e-4c8b-a7f6-5e4d3c2b1a09';
const bytes = Buffer.from(`{"type":"session"}\n${'\u0000é\r\n'.repeat(1000)}`);
const digest = createHash('sha256').update(bytes).digest('hex');

/** A machine whose archive holds one transcript of `main`. */
async function archive(body: Buffer = bytes): Promise<Machine> {
  const machine = await newMachine();
  const nexus = openSessions(await openLocalStore(path.join(machine.dataDir, 'store')));
  for (let offset = 0; offset < body.length; offset += 5_000_000)
    await nexus.append('main', transcript, offset, body.subarray(offset, offset + 5_000_000), {
      complete: true,
      about: { host: 'box1', trigger: 'cron' },
    });
  await nexus.close();
  return machine;
}

test('an archive lists its transcripts, as text and as JSON', async () => {
  const { nexus, json } = await archive();
  const list = await nexus(['sessions', 'list']);
  expect(list.status).toBe(0);
  expect(list.stdout).toMatch(new RegExp(`main +${transcript} +4\\.9 KiB +complete +cron +box1 +now\n`));
  const { answer } = await json(['sessions', 'list', '--agent', 'main']);
  expect(answer).toMatchObject({ command: 'sessions list', ok: true, schemaVersion: 1 });
  expect(answer['sessions']).toMatchObject([
    { agent: 'main', transcript, length: bytes.length, complete: true },
  ]);
  expect((await json(['sessions', 'list', '--agent', 'other'])).answer['sessions']).toEqual([]);
});

test('a card shows the digest of what is stored', async () => {
  const { nexus, json } = await archive();
  expect((await nexus(['sessions', 'show', `main/${transcript}`])).stdout).toContain(digest);
  const { answer } = await json(['sessions', 'show', transcript, '--agent', 'main']);
  expect(answer['session']).toMatchObject({ transcript, digest, length: bytes.length });
});

test('the bytes come back as they were, on stdout and in a private file', async () => {
  const { nexus, json, home } = await archive();
  expect((await nexus(['sessions', 'get', `main/${transcript}`])).stdout).toBe(bytes.toString());
  const { answer } = await json(['sessions', 'get', `main/${transcript}`, '-o', 'copy.jsonl']);
  const file = path.join(home, 'copy.jsonl');
  expect(answer).toMatchObject({ ok: true, path: file, bytes: bytes.length, digest });
  expect(await readFile(file)).toEqual(bytes);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test('the bytes come back over an endpoint too', async () => {
  const machine = await archive();
  const [, url = ''] = await machine.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  const env = { NEXUS_ENDPOINT: url, NEXUS_DATA_DIR: path.join(machine.home, 'elsewhere') };
  expect((await machine.nexus(['sessions', 'get', `main/${transcript}`], { env })).stdout).toBe(
    bytes.toString(),
  );
  expect((await machine.json(['sessions', 'list'], { env })).answer['sessions']).toMatchObject([
    { transcript },
  ]);
});

test('a file that exists is left as it is', async () => {
  const { json, home } = await archive();
  await writeFile(path.join(home, 'copy.jsonl'), 'mine');
  expect(await json(['sessions', 'get', `main/${transcript}`, '-o', 'copy.jsonl'])).toMatchObject({
    status: 69,
    answer: { ok: false, error: { code: 'conflict' } },
  });
  expect(await readFile(path.join(home, 'copy.jsonl'), 'utf8')).toBe('mine');
  expect((await readdir(home)).filter((name) => name.startsWith('.nexus-'))).toEqual([]);
});

test.each([
  [['sessions', 'get', `main/${transcript.replace('4', '5')}`], 69, 'not_found'],
  [['sessions', 'show', `other/${transcript}`], 69, 'not_found'],
  [['sessions', 'show', '../../etc/passwd'], 64, 'invalid'],
  [['sessions', 'list', '--agent', '../x'], 64, 'invalid'],
])('%j ends with %i', async (args, status, code) => {
  const { json } = await archive();
  const more = args.includes('get') ? ['-o', 'copy'] : [];
  expect(await json([...args, ...more])).toMatchObject({ status, answer: { ok: false, error: { code } } });
});

test('stored bytes that have changed are told, and no file is made of them', async () => {
  const { json, dataDir, home } = await archive();
  const blob = path.join(dataDir, 'store/blobs/sessions/inbox/main', `${transcript}.jsonl`);
  const changed = Buffer.from(bytes);
  changed[50] = 1;
  await writeFile(blob, changed);
  expect(await json(['sessions', 'get', `main/${transcript}`, '-o', 'copy'])).toMatchObject({
    status: 69,
    answer: { ok: false, error: { code: 'corrupt' } },
  });
  expect(await readdir(home)).not.toContain('copy');
  await truncate(blob, 100);
  expect((await json(['sessions', 'get', `main/${transcript}`, '-o', 'copy'])).status).toBe(69);
});

test('a reader who takes the first line only is served without a complaint', async () => {
  const { home } = await archive(Buffer.alloc(30_000_000, 'line\n'));
  const shell = `set -o pipefail; "$0" "$1" sessions get "main/$2" | head -n 1`;
  const ran = await execa('bash', ['-c', shell, process.execPath, binary, transcript], {
    env: { HOME: home },
    reject: false,
  });
  expect(ran).toMatchObject({ exitCode: 0, stdout: 'line', stderr: '' });
});
