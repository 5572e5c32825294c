import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { Notice } from '../../src/alerts.ts';
import { commandNotice } from '../../src/channels/command.ts';
import { openChannels } from '../../src/channels/open.ts';
import { configSchema } from '../../src/config.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-command-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
});

const notice: Notice = {
  event: 'failed',
  host: 'box',
  subject: 'job/upload',
  title: 'Nexus on box: upload has failed.',
  error: 'x'.repeat(500_000),
  at: '2026-11-23T10:00:00.000Z',
};
const env = { PATH: process.env['PATH'] };
const shell = (script: string) => ['/bin/sh', '-c', script];
const send = (script: string, signal = new AbortController().signal) =>
  commandNotice(shell(script), notice, 'id', env, signal);

test('a command need not read what it is told', async () => {
  expect(await send('exit 0')).toBe('/bin/sh ended with status 0');
});

test('what a command leaves running is not waited for', async () => {
  const began = performance.now();
  await send('sleep 20 & exit 0');
  expect(performance.now() - began).toBeLessThan(3_000);
});

test('a command that hangs is ended at the signal with all that it began', async () => {
  const began = performance.now();
  const pids = path.join(directory, 'pids');
  const script = `trap '' TERM; sleep 20 & echo $! $$ > ${pids}; wait; sleep 20`;
  await expect(send(script, AbortSignal.timeout(500))).rejects.toThrow('/bin/sh did not end in time.');
  expect(performance.now() - began).toBeLessThan(5_000);
  for (const pid of (await readFile(pids, 'utf8')).trim().split(' '))
    await expect.poll(() => isRunning(Number(pid)), { timeout: 3_000 }).toBe(false);
});

test('what it says of its failure is one line without control characters', async () => {
  await expect(send(String.raw`printf 'one\n\033[31mtwo\n' >&2; exit 9`)).rejects.toThrow(
    /^\/bin\/sh ended with status 9: [^\p{C}]*two$/u,
  );
});

test('what it says last is heard, however late it comes through', async () => {
  // What it began says it, a while after it has ended itself.
  await expect(send('(sleep 0.3; echo the last words >&2) & exit 9')).rejects.toThrow(
    '/bin/sh ended with status 9: the last words',
  );
});

test('a signal that ends it is named', async () => {
  await expect(send('kill -9 $$')).rejects.toThrow('/bin/sh failed (SIGKILL).');
});

test('a command gets none of the secrets that the configuration takes from variables', async () => {
  const out = path.join(directory, 'env');
  const config = configSchema.parse({
    dataDir: directory,
    host: 'box',
    apiKey: { env: 'MY_KEY' },
    alerts: {
      channels: [
        { kind: 'command', command: shell(`env > ${out}`) },
        { kind: 'webhook', url: { env: 'MY_HOOK' } },
      ],
    },
  });
  const given = { ...env, MY_KEY: 's3cret', MY_HOOK: 's3cret', NEXUS_API_KEY: 's3cret', OTHER: 'kept' };
  await openChannels(config, given)[0]?.send(notice, 'id', new AbortController().signal);
  const seen = await readFile(out, 'utf8');
  expect(seen).toContain('OTHER=kept');
  expect(seen).not.toContain('s3cret');
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
