import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { openLocalStore } from '../../src/stores/local.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;
let receiver: Receiver;

/** Runs at an endpoint that is not there. */
const down = { env: { NEXUS_ENDPOINT: 'http://127.0.0.1:9' } };
const quick = { retry: { tries: 1, baseMs: 1, maxMs: 1 } };

beforeEach(async () => {
  [machine, receiver] = await Promise.all([newOpenClawMachine(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await machine.configure({
    ...quick,
    alerts: { afterFailures: 1, channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
  });
  receiver.answer(404);
  await machine.nexus(['backfill']);
  await machine.nexus(['upload'], down);
  await machine.nexus(['upload']);
});

test('a channel that did not take the last it was sent is a problem until it has', async () => {
  expect((await machine.json(['status'])).answer).toMatchObject({
    ok: false,
    problems: [
      {
        problem: expect.stringMatching(/^1 alert did not go out by webhook json, the oldest from .*404/),
        next: expect.stringContaining('nexus alerts test'),
      },
    ],
  });

  receiver.answer(200);
  // As though its pause were over.
  const store = await openLocalStore(path.join(machine.dataDir, 'host', 'alerts'));
  let paused = 0;
  for await (const row of store.rows('Alerts', 'latched')) {
    if (Number(row['until'] ?? 0) <= 0) continue;
    paused++;
    await store.put('Alerts', { ...row, until: 0 });
  }
  await store.close();
  expect(paused).toBeGreaterThan(0);
  const before = receiver.received.length;
  expect((await machine.nexus(['status', '--alert'])).status).toBe(3);
  expect(receiver.received.length).toBe(before + 1);
  expect(receiver.received.at(-1)?.body).toContain('"event":"recovered"');
  expect((await machine.nexus(['status'])).status).toBe(0);
});

test('a channel that was taken out of the configuration is none', async () => {
  await machine.configure(quick);
  expect((await machine.nexus(['status'])).status).toBe(0);
});

test('of many channels the list of alerts names those that did not take it, and counts the others', async () => {
  const dead = { kind: 'webhook', url: `${receiver.url}/hook` };
  const files = Array.from({ length: 9 }, (_, n) => ({ kind: 'command', command: ['/bin/true', `${n}`] }));
  await machine.configure({ ...quick, alerts: { afterFailures: 1, channels: [...files, dead] } });
  await machine.nexus(['upload'], down);
  const { stdout } = await machine.nexus(['alerts', 'list']);
  expect(stdout).toMatch(/webhook json: .*404.*, command \/bin\/true, and 8 more \(--json\)/);
});
