import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openLocalStore } from '../../src/stores/local.ts';
import { type Store, rowOf } from '../../src/stores/store.ts';
import { collect, text } from './outcomes.ts';

interface Worker {
  name: string;
  /** What it said, word by word, the time first. */
  said: { at: number; word: string; rest: string }[];
  status: Promise<number | NodeJS.Signals>;
  kill(): void;
}

function startWorker(directory: string, name: string, forMs: number): Worker {
  const worker = join(import.meta.dirname, 'worker.ts');
  const child = spawn(process.execPath, [worker, 'hammer', directory, name, String(forMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said: Worker['said'] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (data: string) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [word = '', ...others] = line.split(' ');
      said.push({ at: performance.now(), word, rest: others.join(' ') });
    }
  });
  const status = once(child, 'close').then(
    ([code, signal]: (number | NodeJS.Signals)[]) => code ?? signal ?? -1,
  );
  return { name, said, status, kill: () => child.kill('SIGKILL') };
}

function parse(line: string): { name: string; n: number } {
  return JSON.parse(line);
}

describe('four processes on one local store, one of them killed', () => {
  let directory: string;
  let store: Store;
  const opened: Store[] = [];
  let workers: Worker[];
  let killedAt: number;
  let statuses: (number | NodeJS.Signals)[];
  let log: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'nexus-processes-'));
    workers = ['w0', 'w1', 'w2', 'w3'].map((name) => startWorker(join(directory, 'data'), name, 2500));
    const victim = workers[0];
    while ((victim?.said.length ?? 0) < 50) await sleep(5);
    await sleep(400);
    victim?.kill();
    killedAt = performance.now();
    statuses = await Promise.all(workers.map((worker) => worker.status));
    store = await openLocalStore(join(directory, 'data'));
    opened.push(store);
    log = await text(store.open('sessions/inbox/main/shared.jsonl'));
  }, 20_000);
  afterAll(async () => {
    for (const worker of workers) worker.kill();
    await Promise.all(workers.map((worker) => worker.status));
    await Promise.all(opened.map((one) => one.close()));
    await rm(directory, { recursive: true });
  });

  const said = (word: string): { name: string; rest: string }[] =>
    workers.flatMap(({ name, said }) =>
      said.filter((line) => line.word === word).map(({ rest }) => ({ name, rest })),
    );

  test('ends well for all but the killed one', () => {
    expect(statuses).toEqual(['SIGKILL', 0, 0, 0]);
  });

  test('gives all of them the same id, and the next opening too', async () => {
    const ids = new Set(said('id').map((line) => line.rest));
    expect([...ids]).toEqual([await store.id()]);
  });

  test('keeps every acknowledged append at its place', () => {
    const appended = said('appended');
    expect(appended.length).toBeGreaterThan(20);
    for (const { rest } of appended) {
      const space = rest.indexOf(' ');
      const offset = Number(rest.slice(0, space));
      const line = `${rest.slice(space + 1)}\n`;
      expect(log.slice(offset, offset + line.length)).toBe(line);
    }
  });

  test('keeps nothing else but what the killed one may not have been told of', () => {
    const records = log.trimEnd().split('\n').map(parse);
    const counts = workers.map(({ name }) => records.filter((record) => record.name === name).length);
    const told = workers.map(({ said }) => said.filter((line) => line.word === 'appended').length);
    expect(counts.slice(1)).toEqual(told.slice(1));
    expect((counts[0] ?? 0) - (told[0] ?? 0)).toBeOneOf([0, 1]);
    for (const { name } of workers) {
      const numbers = records.filter((record) => record.name === name).map((record) => record.n);
      expect(numbers).toEqual(numbers.map((_, i) => i));
    }
  });

  test('lets one win each blob, and the blob is the winner’s', async () => {
    const created = said('created');
    expect(new Set(created.map((line) => line.rest)).size).toBe(created.length);
    for (const { name, rest } of created)
      expect(await text(store.open(`payloads/main/${rest}`))).toBe(name.repeat(1000));
    const stored = await collect(store.list('payloads/main/'));
    expect(stored.length - created.length).toBeOneOf([0, 1]);
    expect(stored.every((blob) => blob.length === 2000)).toBe(true);
  });

  test('lets one win each row, and the row is the winner’s', async () => {
    const inserted = said('inserted');
    expect(new Set(inserted.map((line) => line.rest)).size).toBe(inserted.length);
    for (const { name, rest } of inserted)
      expect(await rowOf(store, 'Deliveries', 'main', `d${rest}`)).toMatchObject({ name });
    const stored = await collect(store.rows('Deliveries', 'main'));
    expect(stored.length - inserted.length).toBeOneOf([0, 1]);
  });

  test('blocks none of those that live on', () => {
    for (const { said } of workers.slice(1)) {
      const appended = said.filter((line) => line.word === 'appended' && line.at > killedAt);
      expect(appended.length).toBeGreaterThan(0);
    }
  });
});
