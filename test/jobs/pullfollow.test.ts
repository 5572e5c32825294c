import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { valueAt } from '../../src/settings.ts';
import { NexusError } from '../../src/errors.ts';
import { ledgerFile, openLedger } from '../../src/jobs/ledger.ts';
import { nobody } from '../../src/jobs/pullreport.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

let host: PullHost;
let stop: AbortController;
beforeEach(async () => {
  host = await makePullHost();
  stop = new AbortController();
});
afterEach(() => host.remove());

function follow(options: PullHostOptions = {}) {
  return host.follow({ ...options, signal: stop.signal });
}

async function until(what: () => Promise<boolean> | boolean): Promise<void> {
  for (let n = 0; n < 400; n++) {
    if (await what()) return;
    await sleep(20);
  }
  throw new Error('It did not come to that within 8 s.');
}

const filesAre = (count: number, agent?: string) =>
  until(async () => (await host.files(agent)).length === count);

test('mail is delivered as it arrives, until the signal, and the report sums it up', async () => {
  const following = follow();
  for (let n = 1; n <= 3; n++) {
    await host.receive();
    await filesAre(n);
  }
  await until(async () => (await host.pending()).length === 0);
  stop.abort();
  expect(await following).toMatchObject({ delivered: 3, failed: [], interrupted: 'SIGINT' });
});

test('what comes together is told together, and while an agent is told more is delivered', async () => {
  const told: number[] = [];
  const answer = Promise.withResolvers<void>();
  const following = host.follow({
    signal: stop.signal,
    times: { togetherMs: 600 },
    config: { agents: { main: { notify: 'cli' } } },
    async tell({ deliveries, agent }) {
      const batches = deliveries.batches(['untold'], agent.id);
      for (const { id } of batches) {
        told.push(deliveries.itemsOf(id).length);
        await answer.promise;
        deliveries.updateBatch(id, { state: 'done' });
      }
      return { notified: { ...nobody(), done: batches.length }, failed: [] };
    },
  });
  await host.receive();
  await filesAre(1);
  await host.receive();
  await until(() => told.length === 1);
  await host.receive();
  await filesAre(3);
  expect(told).toEqual([2]);
  answer.resolve();
  await until(() => told.length === 2);
  await until(async () => {
    const deliveries = host.deliveries();
    const done = deliveries.batches(['done']).length;
    deliveries.close();
    return done === 2;
  });
  stop.abort();
  expect(await following).toMatchObject({ delivered: 3, notified: { done: 2 } });
  expect(told).toEqual([2, 1]);
});

test('an outage is waited out, said once, and no failure when it is over', async () => {
  let down = true;
  let asked = 0;
  const warnings: string[] = [];
  const following = follow({
    warn: (message) => warnings.push(message),
    mailbox: (mailbox) => ({
      ...mailbox,
      async pending(request) {
        asked++;
        if (down) throw new NexusError('unavailable', 'Nobody answers.');
        return await mailbox.pending(request);
      },
    }),
  });
  await host.receive();
  await sleep(2500);
  expect(warnings).toEqual(['agent main: Nobody answers.']);
  expect(asked).toBeLessThan(15);
  down = false;
  await filesAre(1);
  await until(async () => (await host.pending()).length === 0);
  stop.abort();
  expect(await following).toMatchObject({ delivered: 1, failed: [] });
});

test('an item that cannot be delivered is no reason to ask without a break, and is tried again', async () => {
  let asked = 0;
  await host.receive();
  await rm(host.workspace(), { recursive: true });
  const following = follow({
    mailbox: (mailbox) => ({
      ...mailbox,
      pending: (request) => (asked++, mailbox.pending(request)),
    }),
  });
  await until(() => asked > 0);
  await sleep(1500);
  expect(asked).toBeLessThan(25);
  await mkdir(host.workspace());
  await filesAre(1);
  await until(async () => (await host.pending()).length === 0);
  stop.abort();
  expect(await following).toMatchObject({ delivered: 1, failed: [] });
});

test('an agent that comes to OpenClaw later is followed too', async () => {
  const following = follow();
  await mkdir(path.join(host.root, 'openclaw', 'agents', 'second'), { recursive: true });
  await mkdir(host.workspace('second'), { recursive: true });
  await host.receive({ agent: 'second' });
  await filesAre(1, 'second');
  stop.abort();
  expect(await following).toMatchObject({ delivered: 1 });
});

test('an agent that another run works on is waited for', async () => {
  const first = new AbortController();
  const one = host.follow({ signal: first.signal });
  await host.receive();
  await filesAre(1);
  const warnings: string[] = [];
  const two = follow({ warn: (message) => warnings.push(message) });
  await until(() => warnings.length > 0);
  expect(warnings[0]).toContain('nexus pull-webhooks');
  first.abort();
  await one;
  await host.receive();
  await filesAre(2);
  stop.abort();
  const report = await two;
  expect(report).toMatchObject({ delivered: 1 });
  expect(report.busy).toBeUndefined();
});

test('how it stands is kept for the status', async () => {
  const following = follow();
  await host.receive();
  await filesAre(1);
  await until(() => {
    const ledger = openLedger(ledgerFile(host.config()), () => undefined);
    const runs = ledger.runs('pull-webhooks', 10);
    ledger.close();
    return runs.some(({ report }) => valueAt(report, ['delivered']) === 1);
  });
  stop.abort();
  expect(await following).toMatchObject({ delivered: 1 });
});
