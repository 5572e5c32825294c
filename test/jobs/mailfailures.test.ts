import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import type { Failure } from '../../src/jobs/failures.ts';
import { fileNameOf, type Inbox } from '../../src/jobs/inbox.ts';
import { type Ledger, ledgerFile, openLedger } from '../../src/jobs/ledger.ts';
import type { Mailbox } from '../../src/mailbox.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

let host: PullHost;
let stuck: string;
let inTheWay: string;
const hour = 3_600_000;
const start = Date.now();

beforeEach(async () => {
  host = await makePullHost();
  onTestFinished(() => host.remove());
  stuck = await host.receive();
  inTheWay = path.join(host.inbox(), fileNameOf({ id: stuck, source: 'github' }));
  await mkdir(host.inbox(), { recursive: true });
  await writeFile(inTheWay, 'something else');
});

function inLedger<T>(work: (ledger: Ledger) => T): T {
  const ledger = openLedger(ledgerFile(host.config()), () => undefined);
  try {
    return work(ledger);
  } finally {
    ledger.close();
  }
}

const failures = (): Failure[] => inLedger((ledger) => ledger.allFailures());

/** As `nexus retry --all`. */
const retry = () =>
  inLedger((ledger) => {
    for (const { store, agent, item } of ledger.allFailures()) ledger.forgetFailure(store, agent, item);
  });

/** Pulls every so many hours, and answers the last report. */
async function pulls(times: number, everyMs: number, options: PullHostOptions = {}) {
  let report = await host.pull({ ...options, now: () => new Date(start) });
  for (let n = 1; n < times; n++)
    report = await host.pull({ ...options, now: () => new Date(start + n * everyMs) });
  return report;
}

test('an item that cannot be put into the inbox is counted with its reason, and stays pending', async () => {
  expect(await pulls(3, hour)).toMatchObject({ ok: false, failed: [{ item: stuck }], setAside: [] });
  expect(failures()).toMatchObject([
    {
      store: 'webhooks',
      agent: 'main',
      item: stuck,
      count: 3,
      firstAt: start,
      lastAt: start + 2 * hour,
      reason: expect.stringContaining('is there with other content'),
    },
  ]);
  expect(await host.pending()).toEqual([stuck]);
});

test.each([
  ['ten failures within less than a day', 12, hour],
  ['a day with less than ten failures', 9, 12 * hour],
])('%s set nothing aside', async (_, times, everyMs) => {
  expect(await pulls(times, everyMs)).toMatchObject({ ok: false, failed: [{ item: stuck }], setAside: [] });
});

describe('after ten failures over a day', () => {
  test('it is left alone, named, pending, and in nobody’s way', async () => {
    const after = await host.receive();
    const report = await pulls(11, 3 * hour);
    expect(report).toMatchObject({ ok: true, failed: [], setAside: [{ item: stuck }] });
    expect(report.setAside[0]?.reason).toMatch(/^Set aside after 10 failures: .* Run `nexus retry`/);
    expect(failures()).toMatchObject([{ item: stuck, count: 10 }]);
    expect(await host.pending()).toEqual([stuck]);
    expect(await host.files()).toContain(fileNameOf({ id: after, source: 'github' }));
    const later = await host.receive();
    expect(await pulls(1, hour)).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toContain(fileNameOf({ id: later, source: 'github' }));
  });

  test('it is tried again by nexus retry, and delivered once what was in its way is gone', async () => {
    await pulls(11, 3 * hour);
    await rm(inTheWay);
    expect(await pulls(1, hour)).toMatchObject({ delivered: 0, setAside: [{ item: stuck }] });
    retry();
    expect(await pulls(1, hour)).toMatchObject({ ok: true, delivered: 1, setAside: [] });
    expect(failures()).toEqual([]);
    expect(await host.pending()).toEqual([]);
  });

  test('it is forgotten when it was dropped', async () => {
    await pulls(11, 3 * hour);
    await host.webhooks.drop([stuck]);
    expect(await pulls(1, hour)).toMatchObject({ ok: true, setAside: [] });
    expect(failures()).toEqual([]);
  });

  test('one that stays looks at it no more, and delivers what comes after it', async () => {
    await pulls(11, 3 * hour);
    const stop = new AbortController();
    const following = host.follow({ signal: stop.signal });
    await host.receive();
    await expect.poll(async () => (await host.files()).length, { timeout: 8_000 }).toBe(2);
    await expect.poll(() => host.pending(), { timeout: 8_000 }).toEqual([stuck]);
    stop.abort();
    expect(await following).toMatchObject({ delivered: 1, failed: [], setAside: [{ item: stuck }] });
    expect(failures()).toMatchObject([{ count: 10 }]);
  });
});

test('an item whose body is gone is set aside too, and tried at once when its body is back', async () => {
  await rm(inTheWay);
  const broken = (mailbox: Mailbox): Mailbox => ({
    ...mailbox,
    async pending(request) {
      const { items, ...page } = await mailbox.pending(request);
      return { ...page, items: [], broken: items.map(({ id }) => ({ id, reason: 'Its body is gone.' })) };
    },
  });
  const report = await pulls(11, 3 * hour, { mailbox: broken });
  expect(report).toMatchObject({ ok: true, failed: [], setAside: [{ item: stuck }] });
  expect(await pulls(1, hour)).toMatchObject({ ok: true, delivered: 1, setAside: [] });
  expect(failures()).toEqual([]);
});

describe.each(['unavailable', 'busy', 'limited', 'unauthorized', 'forbidden', 'changed'] as const)(
  '%s counts against no item',
  (code) => {
    const no = () => Promise.reject(new NexusError(code, 'No.'));

    test('from the inbox', async () => {
      const inbox = (one: Inbox): Inbox => ({ ...one, write: no });
      expect(await pulls(11, 3 * hour, { inbox })).toMatchObject({ ok: false, failed: [{ item: stuck }] });
      expect(failures()).toEqual([]);
    });

    test('from Nexus', async () => {
      const mailbox = (one: Mailbox): Mailbox => ({ ...one, pending: no });
      expect(await pulls(11, 3 * hour, { mailbox })).toMatchObject({ ok: false });
      expect(failures()).toEqual([]);
    });
  },
);

test('an inbox that another ledger fills counts against no item', async () => {
  await rm(inTheWay);
  const inbox = (one: Inbox): Inbox => ({
    ...one,
    filledBy: () => Promise.reject(new NexusError('conflict', 'It is filled by another.')),
  });
  expect(await pulls(11, 3 * hour, { inbox })).toMatchObject({ ok: false, failed: [{ item: stuck }] });
  expect(failures()).toEqual([]);
});

test('a ledger that cannot be written counts nothing and keeps no mail from its agent', async () => {
  await pulls(1, hour);
  const well = await host.receive();
  inLedger(() => undefined);
  const warnings: string[] = [];
  const { DatabaseSync } = await import('node:sqlite');
  const db = new DatabaseSync(ledgerFile(host.config()));
  db.exec("CREATE TRIGGER full BEFORE UPDATE ON failures BEGIN SELECT RAISE(ABORT, 'no room'); END");
  db.close();
  const report = await host.pull({ warn: (message) => warnings.push(message) });
  expect(report).toMatchObject({ delivered: 1, failed: [{ item: stuck }] });
  expect(await readdir(host.inbox())).toContain(fileNameOf({ id: well, source: 'github' }));
  expect(warnings.join()).toContain('cannot be counted');
});
