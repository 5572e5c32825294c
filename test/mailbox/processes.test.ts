import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ListedItem, Webhooks } from '../../src/mailbox.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { collect } from '../stores/outcomes.ts';

interface Worker {
  said: string[][];
  status: Promise<number | NodeJS.Signals>;
  kill(): void;
}

function startWorker(task: 'send' | 'pull', directory: string, forMs: number): Worker {
  const args = [join(import.meta.dirname, 'worker.ts'), task, directory, String(forMs)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const said: string[][] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (data: string) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop() ?? '';
    said.push(...lines.map((line) => line.split(' ')));
  });
  const status = once(child, 'close').then(
    ([code, signal]: (number | NodeJS.Signals)[]) => code ?? signal ?? -1,
  );
  return { said, status, kill: () => child.kill('SIGKILL') };
}

describe('three processes that receive the same deliveries, one of them killed, while a fourth takes them', () => {
  let directory: string;
  let webhooks: Webhooks;
  let items: ListedItem[];
  let workers: Worker[];
  let statuses: (number | NodeJS.Signals)[];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'nexus-mailbox-'));
    const data = join(directory, 'data');
    workers = [...(['send', 'send', 'send', 'pull'] as const)].map((task) => startWorker(task, data, 2500));
    const victim = workers[0];
    while ((victim?.said.length ?? 0) < 50) await sleep(5);
    await sleep(300);
    victim?.kill();
    statuses = await Promise.all(workers.map((worker) => worker.status));
    webhooks = openWebhooks(await openLocalStore(data));
    items = await collect(webhooks.list({ agent: 'main' }));
  }, 30_000);
  afterAll(async () => {
    for (const worker of workers) worker.kill();
    await Promise.all(workers.map((worker) => worker.status));
    await webhooks.close();
    await rm(directory, { recursive: true });
  });

  const told = (...words: string[]): string[][] =>
    workers.flatMap(({ said }) => said.filter(([word = '']) => words.includes(word)));

  test('end well but for the killed one', () => {
    expect(statuses).toEqual(['SIGKILL', 0, 0, 0]);
  });

  test('tell one id for each delivery, and one process that it was accepted', () => {
    const ids = new Map<string, Set<string>>();
    for (const [, delivery = '', id = ''] of told('accepted', 'duplicate'))
      ids.set(delivery, (ids.get(delivery) ?? new Set()).add(id));
    expect(ids.size).toBeGreaterThan(50);
    expect([...ids.values()].every((set) => set.size === 1)).toBe(true);
    const accepted = told('accepted').map(([, delivery]) => delivery);
    expect(new Set(accepted).size).toBe(accepted.length);
  });

  test('keep what was acknowledged to any sender, once, with its body', async () => {
    const kept = items.map(({ id }) => id);
    expect(new Set(kept).size).toBe(kept.length);
    expect(new Set(items.map(({ delivery }) => delivery)).size).toBe(items.length);
    const ids = new Set(told('accepted', 'duplicate').map(([, , id = '']) => id));
    expect([...ids].filter((id) => !kept.includes(id))).toEqual([]);
    for (const { id, bytes } of items) expect((await webhooks.body(id)).body).toHaveLength(bytes);
  });

  test('leave pending only what the fourth has not taken', () => {
    const pulled = new Set(told('pulled').map(([, id = '']) => id));
    expect(pulled.size).toBeGreaterThan(20);
    const pending = items.filter(({ state }) => state === 'pending').map(({ id }) => id);
    expect(pending.filter((id) => pulled.has(id))).toEqual([]);
  });
});
