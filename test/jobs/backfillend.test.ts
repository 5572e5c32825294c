import { mkdir, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { openLedger, type Run } from '../../src/jobs/ledger.ts';
import { streakOf } from '../../src/jobs/streak.ts';
import { type Host, ids, makeHost, transcript } from './host.ts';

let host: Host;
let link: string;

beforeEach(async () => {
  host = await makeHost();
  onTestFinished(() => host.remove());
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  link = path.join(host.sessions(), `${ids.b}.jsonl`);
  await symlink('/etc/hostname', link);
  await host.backfill();
});

function ofBackfill(): { verdict: string; last: Run | undefined } {
  const ledger = openLedger(path.join(host.dataDir, 'host', 'ledger.sqlite'), () => undefined);
  try {
    return { verdict: streakOf(ledger, 'backfill').verdict, last: ledger.runs('backfill', 1)[0] };
  } finally {
    ledger.close();
  }
}

test('an upload that leaves a failed backfill nothing to do ends its failure', async () => {
  await host.upload();
  expect(ofBackfill().verdict).toBe('failed');
  await rm(link);
  await host.write(`${ids.b}.jsonl`, transcript(ids.b, 2));
  expect(await host.upload()).toMatchObject({ ok: true, done: 1 });
  expect(ofBackfill()).toMatchObject({
    verdict: 'well',
    last: { ok: true, report: { agents: { main: { found: 2, already: 2, failed: 0 } } } },
  });
});

test('an upload that leaves something which a backfill alone would find does not', async () => {
  await rm(link);
  await mkdir(path.join(host.sessions(), 'archive'));
  await host.write(`archive/${ids.c}.jsonl`, transcript(ids.c, 2));
  expect(await host.upload()).toMatchObject({ ok: true });
  expect(ofBackfill().verdict).toBe('failed');
  await host.backfill();
});

test('nor does an upload of one agent alone', async () => {
  await rm(link);
  expect(await host.upload({ agents: ['main'] })).toMatchObject({ ok: true });
  expect(ofBackfill().verdict).toBe('failed');
});
