import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
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

const patient = { timeout: 10_000 };
const fedIn = (said: string[]) => said.filter((line) => line === 'WATCHDOG=1 STATUS=Well.').length;

test('a service is ready, then alive again and again, then on its way to its end', async () => {
  const { env, told } = await newListener();
  const { stop, close, service } = newService(() => Promise.resolve('Well.'));
  const over = openNotifier(env, () => undefined).accompany(service);
  await vi.waitFor(async () => expect(fedIn(await told())).toBeGreaterThan(2), patient);
  stop.abort();
  await vi.waitFor(async () => expect((await told()).at(-1)).toMatch(/^STOPPING=1 /), patient);
  close();
  await over;
  expect((await told())[0]).toBe('READY=1 STATUS=Here.');
});

test('a service whose store answers no more is not called alive, and can still be stopped', async () => {
  const { env, told } = await newListener();
  let asked = 0;
  const { stop, close, service } = newService(() =>
    ++asked > 1 ? new Promise(() => undefined) : Promise.resolve('Well.'),
  );
  const over = openNotifier(env, () => undefined).accompany(service);
  await vi.waitFor(() => expect(asked).toBe(2), patient);
  await delay(300);
  expect(await told()).toEqual(['READY=1 STATUS=Here.', 'WATCHDOG=1 STATUS=Well.']);
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
  let asked = 0;
  const { stop, close, service } = newService(() => Promise.resolve(`Well, ${++asked}.`));
  const over = openNotifier({ ...env, PATH: '/nowhere' }, (text) => warnings.push(text)).accompany(service);
  await vi.waitFor(() => expect(asked).toBeGreaterThan(2), patient);
  stop.abort();
  close();
  await over;
  expect(warnings).toEqual([expect.stringMatching(/READY=1: .*systemd-notify/)]);
});

test('a watchdog of another process is not fed', async () => {
  const [others, own] = [await newListener(), await newListener()];
  const services = [others, own].map(({ env }, n) => {
    const { stop, close, service } = newService(() => Promise.resolve('Well.'));
    const pid = n === 0 ? '1' : String(process.pid);
    const over = openNotifier({ ...env, WATCHDOG_PID: pid }, () => undefined).accompany(service);
    return { stop, close, over };
  });
  await vi.waitFor(async () => expect(fedIn(await own.told())).toBeGreaterThan(2), patient);
  for (const { stop, close, over } of services) {
    stop.abort();
    close();
    await over;
  }
  expect((await others.told()).map((line) => line.split(' ')[0])).toEqual(['READY=1', 'STOPPING=1']);
});
