import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { acquireLock, holderOf, openLockFile } from '../src/processlock.ts';

let directory: string;
let file: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nexus-lock-'));
  file = join(directory, 'main.lock');
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function holdInAnotherProcess(): Promise<{ pid: number | undefined; kill(): Promise<void> }> {
  const worker = join(import.meta.dirname, 'stores', 'worker.ts');
  const child = spawn(process.execPath, [worker, 'hold', file, 'upload'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return {
    pid: child.pid,
    async kill() {
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

test('a lock that another process holds is not given, and names its holder', async () => {
  const other = await holdInAnotherProcess();
  try {
    expect(await acquireLock(file, { waitMs: 0 })).toBeUndefined();
    expect(await acquireLock(file, { waitMs: 30 })).toBeUndefined();
    expect(JSON.parse((await holderOf(file)) ?? '')).toEqual({ pid: other.pid, name: 'upload' });
  } finally {
    await other.kill();
  }
});

test('a lock is free as soon as its holder is killed', async () => {
  const other = await holdInAnotherProcess();
  await other.kill();
  const lock = await acquireLock(file, { waitMs: 0, holder: 'me' });
  expect(lock).toBeDefined();
  expect(await holderOf(file)).toBe('me');
  await lock?.release();
});

test('a waiter gets the lock when its holder is killed', async () => {
  const other = await holdInAnotherProcess();
  const waiting = acquireLock(file, { waitMs: 5000 });
  await other.kill();
  const lock = await waiting;
  expect(lock).toBeDefined();
  await lock?.release();
});

test('a lock excludes others in its own process until it is released', async () => {
  const lock = await acquireLock(file, { waitMs: 0 });
  expect(await acquireLock(file, { waitMs: 10 })).toBeUndefined();
  const waiting = acquireLock(file, { waitMs: 1000 });
  await lock?.release();
  await lock?.release();
  const next = await waiting;
  expect(next).toBeDefined();
  expect(await acquireLock(file, { waitMs: 0 })).toBeUndefined();
  await next?.release();
});

test('a released lock leaves an empty private file and nothing beside it', async () => {
  const lock = await acquireLock(file, { waitMs: 0, holder: 'me' });
  expect(await readdir(directory)).toEqual(['main.lock', 'main.lock.holder']);
  await lock?.release();
  expect(await readdir(directory)).toEqual(['main.lock']);
  const { size, mode } = await stat(file);
  expect([size, mode & 0o777]).toEqual([0, 0o600]);
  expect(await holderOf(file)).toBeUndefined();
});

test('who takes a lock without a name does not pass for its dead holder', async () => {
  await (await holdInAnotherProcess()).kill();
  expect(await holderOf(file)).toBeDefined();
  const lock = await acquireLock(file, { waitMs: 0 });
  expect(await holderOf(file)).toBeUndefined();
  await lock?.release();
});

test('a lock file kept open is taken in turns, one at a time, in the order of asking', async () => {
  const lockFile = openLockFile(file);
  const order: number[] = [];
  let inside = 0;
  await Promise.all(
    [0, 1, 2, 3, 4].map(async (n) => {
      const lock = await lockFile.acquire(1000);
      inside++;
      await new Promise(setImmediate);
      expect(inside).toBe(1);
      order.push(n);
      inside--;
      await lock?.release();
    }),
  );
  lockFile.close();
  expect(order).toEqual([0, 1, 2, 3, 4]);
});

test('a lock in a directory that is not there is unavailable', async () => {
  await expect(acquireLock(join(directory, 'nowhere', 'x.lock'), { waitMs: 0 })).rejects.toMatchObject({
    code: 'unavailable',
  });
});
