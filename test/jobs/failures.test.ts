import { appendFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import type { Failure } from '../../src/jobs/failures.ts';
import { type Ledger, openLedger } from '../../src/jobs/ledger.ts';
import type { Nexus } from '../../src/nexus.ts';
import { type Host, ids, makeHost, transcript } from './host.ts';

let host: Host;
let place: string;
/** As OpenClaw calls what it compressed. */
const damaged = `${ids.a}.jsonl.deleted.2026-11-01T00-00-00.000Z.${'0d'.repeat(16)}.zst`;
const hour = 3_600_000;
const start = Date.now();

beforeEach(async () => {
  host = await makeHost();
  onTestFinished(() => host.remove());
  place = await host.write(damaged, 'this is no zstd', { ageMs: 10 * 86_400_000 });
});

async function inLedger<T>(work: (ledger: Ledger) => T): Promise<T> {
  const ledger = openLedger(path.join(host.dataDir, 'host', 'ledger.sqlite'), () => undefined);
  try {
    return await work(ledger);
  } finally {
    ledger.close();
  }
}

const failures = () => inLedger((ledger): Failure[] => ledger.allFailures());

/** Runs every so many hours, and answers what the last report says. */
async function runs(times: number, everyMs: number, from = start) {
  let report = await host.backfill({ now: () => new Date(from) });
  for (let n = 1; n < times; n++) report = await host.backfill({ now: () => new Date(from + n * everyMs) });
  return report;
}

test('what fails is counted with its reason, and when it failed first and last', async () => {
  await runs(3, hour);
  expect(await failures()).toMatchObject([
    {
      item: place,
      count: 3,
      firstAt: start,
      lastAt: start + 2 * hour,
      reason: expect.stringContaining('decompress'),
    },
  ]);
});

test('ten failures within less than a day set nothing aside', async () => {
  expect(await runs(12, hour)).toMatchObject({ ok: false, failed: [{ item: place }] });
});

test('a day with less than ten failures sets nothing aside', async () => {
  expect(await runs(9, 12 * hour)).toMatchObject({ ok: false, failed: [{ item: place }] });
});

describe('after ten failures over a day', () => {
  const last = start + 11 * 3 * hour;

  test('it is left alone, named, and fails the run no more; other transcripts are shipped', async () => {
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 2));
    const report = await runs(11, 3 * hour);
    expect(report).toMatchObject({ ok: true, failed: [], setAside: [{ item: place }] });
    expect(report.setAside?.[0]?.reason).toMatch(
      /^Set aside after 10 failures: .* Run `nexus retry` to try it again\.$/,
    );
    expect(report.agents['main']).toMatchObject({
      found: 2,
      failed: 0,
      skipped: { 'set aside after many failures': 1 },
    });
    expect((await failures())[0]?.count).toBe(10);
  });

  test('it is tried again when it was changed, and its count begins anew', async () => {
    await runs(11, 3 * hour);
    await appendFile(place, 'more');
    expect(await host.backfill({ now: () => new Date(last) })).toMatchObject({
      ok: false,
      failed: [{ item: place }],
    });
    expect(await failures()).toMatchObject([{ count: 1, firstAt: last }]);
  });

  test('it is tried again when it was forgotten, as nexus retry does, and a success clears it', async () => {
    await runs(11, 3 * hour);
    await inLedger((ledger) => {
      for (const { store, agent, item } of ledger.allFailures()) ledger.forgetFailure(store, agent, item);
    });
    expect(await host.backfill({ now: () => new Date(last) })).toMatchObject({ failed: [{ item: place }] });
    await writeFile(place, zstdCompressSync(Buffer.from(transcript(ids.a, 2))));
    expect(await host.backfill({ now: () => new Date(last + hour) })).toMatchObject({ ok: true, done: 1 });
    expect(await failures()).toEqual([]);
  });

  test('what is refused by its kind is left alone too, and forgotten when it is gone', async () => {
    const link = path.join(host.sessions(), `${ids.c}.jsonl`);
    await symlink('/etc/hostname', link);
    const report = await runs(11, 3 * hour);
    expect(report).toMatchObject({ ok: true, failed: [] });
    expect(report.setAside?.map(({ item }) => item).sort()).toEqual([place, link].sort());
    await rm(link);
    await host.backfill({ now: () => new Date(last) });
    expect((await failures()).map(({ item }) => item)).toEqual([place]);
  });
});

test.each(['unavailable', 'busy', 'limited', 'unauthorized', 'forbidden'] as const)(
  'an archive that answers %s counts against no transcript',
  async (code) => {
    await rm(place);
    await host.write(`${ids.b}.jsonl`, transcript(ids.b, 2));
    const through = (nexus: Nexus): Nexus => ({
      ...nexus,
      append: () => Promise.reject(new NexusError(code, 'No.')),
    });
    for (let n = 0; n < 12; n++) {
      const report = await host.backfill({ through, now: () => new Date(start + n * 3 * hour) });
      expect(report).toMatchObject({ ok: false, failed: [{ reason: 'No.' }] });
    }
    expect(await failures()).toEqual([]);
  },
);
