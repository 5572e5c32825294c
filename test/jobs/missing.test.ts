import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { openLedger } from '../../src/jobs/ledger.ts';
import { type Host, ids, makeHost, transcript } from './host.ts';

let host: Host;

beforeEach(async () => {
  host = await makeHost();
  onTestFinished(() => host.remove());
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await host.write(`${ids.b}.jsonl`, transcript(ids.b, 2));
  await host.current([ids.a, ids.b]);
  await host.backfill();
});

function shippedPlaces(agent: string): number {
  const ledger = openLedger(path.join(host.dataDir, 'host', 'ledger.sqlite'), () => undefined);
  try {
    return ledger.shipped(ledger.latestStore() ?? '', agent).size;
  } finally {
    ledger.close();
  }
}

const agentHome = (agent = 'main') => path.join(host.stateDir, 'agents', agent);

test.each(['backfill', 'upload'] as const)(
  'where the state is empty, as before its disk is mounted, a %s fails and forgets nothing',
  async (job) => {
    await rename(host.stateDir, `${host.stateDir}.off`);
    await mkdir(host.stateDir);
    expect(await host[job]()).toMatchObject({
      ok: false,
      failed: [
        { item: host.stateDir, reason: expect.stringContaining('2 transcripts of main were archived') },
      ],
    });
    expect(shippedPlaces('main')).toBe(2);
    await rm(host.stateDir, { recursive: true });
    await rename(`${host.stateDir}.off`, host.stateDir);
    expect(await host[job]()).toMatchObject({ ok: true, done: 0, already: 2 });
  },
);

test('where agents/ is gone and the configuration is there, a run fails', async () => {
  await writeFile(path.join(host.stateDir, 'openclaw.json'), '{}');
  await rm(path.join(host.stateDir, 'agents'), { recursive: true });
  expect(await host.upload()).toMatchObject({ ok: false, failed: [{ item: host.stateDir }] });
});

test('one agent of which nothing is left fails, and the others are archived', async () => {
  await host.write(`${ids.c}.jsonl`, transcript(ids.c, 2), { agent: 'other' });
  await rm(agentHome(), { recursive: true });
  await mkdir(agentHome());
  expect(await host.upload()).toMatchObject({
    ok: false,
    done: 1,
    failed: [{ item: 'agent main', reason: expect.stringContaining('2 transcripts were archived') }],
    agents: { main: { found: 1, failed: 1 }, other: { found: 1, stored: 1 } },
  });
  expect(shippedPlaces('main')).toBe(2);
});

test('an agent that was removed from OpenClaw while others are there fails nothing', async () => {
  await host.write(`${ids.c}.jsonl`, transcript(ids.c, 2), { agent: 'other' });
  await host.current([ids.c], 'other');
  await rm(agentHome(), { recursive: true });
  await writeFile(path.join(host.stateDir, 'openclaw.json'), '{"agents":{"entries":{"other":{}}}}');
  expect(await host.upload()).toMatchObject({ ok: true, done: 1 });
});

test('an agent whose transcripts OpenClaw has deleted fails nothing: its index is there', async () => {
  await rm(path.join(host.sessions(), `${ids.a}.jsonl`));
  await rm(path.join(host.sessions(), `${ids.b}.jsonl`));
  await host.current([]);
  for (const job of ['upload', 'backfill'] as const)
    expect(await host[job]()).toMatchObject({ ok: true, done: 0 });
});

test('an agent that is left alone on purpose is not missed', async () => {
  await rm(path.join(host.stateDir, 'agents'), { recursive: true });
  expect(await host.upload({ config: { agents: { main: { skip: true } } } })).toMatchObject({ ok: true });
});
