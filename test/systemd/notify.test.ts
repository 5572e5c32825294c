import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { openNotifier } from '../../src/systemd/notify.ts';

/** A `systemd-notify` that writes down what it is told. */
async function newListener(): Promise<{ env: Record<string, string>; told: () => Promise<string[]> }> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-notify-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const log = path.join(directory, 'told');
  await writeFile(log, '');
  await writeFile(path.join(directory, 'systemd-notify'), `#!/bin/sh\necho "$*" >> ${log}\n`);
  await chmod(path.join(directory, 'systemd-notify'), 0o755);
  return {
    env: { PATH: `${directory}:/usr/bin:/bin`, NOTIFY_SOCKET: '/run/none', WATCHDOG_USEC: '300000' },
    told: async () => (await readFile(log, 'utf8')).trimEnd().split('\n').filter(Boolean),
  };
}

function newService(alive: () => Promise<string>) {
  const stop = new AbortController();
  const { promise: closed, resolve: close } = Promise.withResolvers<void>();
  return { stop, close, service: { status: 'Here.', alive, signal: stop.signal, closed } };
}

test('a service is ready, then alive again and again, then on its way to its end', async () => {
  const { env, told } = await newListener();
  const { stop, close, service } = newService(() => Promise.resolve('Well.'));
  const over = openNotifier(env, () => undefined).accompany(service);
  await delay(500);
  stop.abort();
  await delay(100);
  close();
  await over;
  const said = await told();
  expect(said[0]).toBe('READY=1 STATUS=Here.');
  expect(said.filter((line) => line === 'WATCHDOG=1 STATUS=Well.').length).toBeGreaterThan(2);
  expect(said.at(-1)).toMatch(/^STOPPING=1 /);
});

test('a service whose store never answers is not called alive, and can still be stopped', async () => {
  const { env, told } = await newListener();
  const { stop, close, service } = newService(() => new Promise(() => undefined));
  const over = openNotifier(env, () => undefined).accompany(service);
  await delay(400);
  expect(await told()).toEqual(['READY=1 STATUS=Here.']);
  stop.abort();
  close();
  await over;
});

test('without systemd nobody is told anything', async () => {
  const { env, told } = await newListener();
  const { stop, close, service } = newService(() => Promise.resolve('Well.'));
  const over = openNotifier({ ...env, NOTIFY_SOCKET: '' }, () => undefined).accompany(service);
  stop.abort();
  close();
  await over;
  expect(await told()).toEqual([]);
});

test('that systemd cannot be told is said once, and the service goes on', async () => {
  const { env } = await newListener();
  const warnings: string[] = [];
  const { stop, close, service } = newService(() => Promise.resolve('Well.'));
  const over = openNotifier({ ...env, PATH: '/nowhere' }, (text) => warnings.push(text)).accompany(service);
  await delay(300);
  stop.abort();
  close();
  await over;
  expect(warnings).toEqual([expect.stringMatching(/READY=1: .*systemd-notify/)]);
});

test('a watchdog of another process is not fed', async () => {
  const { env, told } = await newListener();
  const { stop, close, service } = newService(() => Promise.resolve('Well.'));
  const over = openNotifier({ ...env, WATCHDOG_PID: '1' }, () => undefined).accompany(service);
  await delay(300);
  stop.abort();
  close();
  await over;
  expect((await told()).filter((line) => line.startsWith('WATCHDOG'))).toEqual([]);
});
