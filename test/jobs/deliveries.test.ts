import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NexusError, type ErrorCode } from '../../src/errors.ts';
import { type BatchState, deliveriesFile } from '../../src/jobs/deliveries.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

let host: PullHost;
beforeEach(async () => {
  host = await makePullHost();
});
afterEach(() => host.remove());

const containing = (text: string): unknown => expect.stringContaining(text);
const inDays = (days: number) => () => new Date(Date.now() + days * 86_400_000);
const file = () => deliveriesFile(host.config());

/** What the ledger says, of a moment. */
function ledger<T>(ask: (deliveries: ReturnType<PullHost['deliveries']>) => T): T {
  const deliveries = host.deliveries();
  try {
    return ask(deliveries);
  } finally {
    deliveries.close();
  }
}

function messagesIn(): unknown[] {
  const db = new DatabaseSync(file());
  try {
    return db
      .prepare('SELECT message FROM batches')
      .all()
      .map((row) => row['message']);
  } finally {
    db.close();
  }
}

/** A batch of one item that waits to be told, and its id. */
async function batchToTell(): Promise<string> {
  await host.receive();
  await host.pull({ config: { agents: { main: { notify: 'hooks' } } } });
  return ledger((deliveries) => deliveries.batches(['untold'])[0]?.id ?? '');
}

describe('the message of a batch', () => {
  test('is kept while it may have to be sent again', async () => {
    const batch = await batchToTell();
    ledger((deliveries) => {
      deliveries.updateBatch(batch, { state: 'admitted', attempts: 1, message: 'hello' });
      deliveries.updateBatch(batch, { state: 'untold', attempts: 0, lastError: 'No.' });
      expect(deliveries.messageOf(batch)).toBe('hello');
    });
  });

  test.each<BatchState>(['done', 'failed', 'none'])('goes when the batch is %s', async (state) => {
    const batch = await batchToTell();
    ledger((deliveries) => {
      deliveries.updateBatch(batch, { state: 'admitted', message: 'hello' });
      deliveries.updateBatch(batch, { state });
      expect(deliveries.messageOf(batch)).toBeUndefined();
      expect(deliveries.batches([state])).toMatchObject([{ id: batch }]);
    });
    expect(messagesIn()).toEqual([null]);
  });
});

describe('what was acknowledged more than a year ago', () => {
  test('is forgotten also by a run that cannot reach Nexus', async () => {
    const id = await host.receive();
    await host.pull();
    const open = () => Promise.reject(new NexusError('unavailable', 'Nobody answers.'));
    await expect(host.pull({ open, now: inDays(367) })).rejects.toThrow('Nobody answers.');
    expect(ledger((deliveries) => deliveries.known([id]).size)).toBe(0);
  });

  test('is forgotten daily by a run that does not end', async () => {
    const id = await host.receive();
    await host.pull();
    let days = 0;
    const stop = new AbortController();
    const pruned: number[] = [];
    const following = host.follow({
      signal: stop.signal,
      now: () => inDays(days)(),
      ledger: (deliveries) => ({
        ...deliveries,
        prune(before) {
          pruned.push(before);
          deliveries.prune(before);
        },
      }),
    });
    await sleep(700);
    expect(pruned).toEqual([]);
    days = 367;
    for (let n = 0; n < 100 && pruned.length === 0; n++) await sleep(20);
    expect(ledger((deliveries) => deliveries.known([id]).size)).toBe(0);
    await sleep(700);
    expect(pruned).toHaveLength(1);
    stop.abort();
    await following;
  });
});

test('a ledger of the version before is taken over, without the messages that nobody sends any more', async () => {
  const id = await host.receive();
  await host.pull();
  const db = new DatabaseSync(file());
  db.exec(`DROP TRIGGER deliveries_without_sum; DROP TRIGGER batches_without_sum;
    ALTER TABLE deliveries DROP COLUMN sum; ALTER TABLE batches DROP COLUMN sum;
    ALTER TABLE deliveries DROP COLUMN incoming;
    UPDATE batches SET message = 'old'; PRAGMA user_version = 1`);
  db.close();
  await host.receive();
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
  expect(ledger((deliveries) => deliveries.known([id]).get(id))).toBe('delivered');
  expect(messagesIn()).toEqual([null, null]);
});

describe('what was delivered when the agent had another id in Nexus, and cannot be acknowledged', () => {
  const refusing = (code: ErrorCode): PullHostOptions => ({
    mailbox: (mailbox) => ({
      ...mailbox,
      acknowledge: (ids, of) =>
        ids.some((id) => id.startsWith('before.'))
          ? Promise.reject(new NexusError(code, 'No.'))
          : mailbox.acknowledge(ids, of),
    }),
  });

  beforeEach(async () => {
    await host.receive({ agent: 'before' });
    await host.pull({ ...refusing('unavailable'), config: { agents: { main: { as: 'before' } } } });
  });

  test('is named with what to do, stops nothing, and is given up after 30 days', async () => {
    await host.receive();
    const report = await host.pull({ ...refusing('forbidden'), now: inDays(29) });
    expect(report).toMatchObject({ ok: false, delivered: 1 });
    expect(report.failed).toEqual([
      { item: 'the mailbox of before', reason: containing('nexus webhooks drop --agent before') },
    ]);
    expect(await host.pull({ ...refusing('forbidden'), now: inDays(31) })).toMatchObject({
      ok: true,
      failed: [],
    });
    expect(ledger((deliveries) => deliveries.unacknowledged('main'))).toEqual([]);
  });

  test('because Nexus is not reached is not given up', async () => {
    expect(await host.pull({ ...refusing('unavailable'), now: inDays(31) })).toMatchObject({ ok: false });
    expect(ledger((deliveries) => deliveries.unacknowledged('main'))).toHaveLength(1);
  });
});

test('a Nexus that answers the same page again and again is not taken for one that has no more', async () => {
  let asked = 0;
  const report = await host.pull({
    mailbox: (mailbox) => ({
      ...mailbox,
      pending() {
        asked++;
        return Promise.resolve({ items: [], next: { agent: 'main', row: '0mq5x1k2a0000' } });
      },
    }),
  });
  expect(report.failed).toEqual([{ item: 'agent main', reason: containing('a page of what is pending') }]);
  expect(asked).toBe(2);
});

describe('an inbox that is filled by another data directory too', () => {
  const warnings: string[] = [];
  const pull = (data: string) =>
    host.pull({ config: { dataDir: path.join(host.root, data) }, warn: (message) => warnings.push(message) });
  beforeEach(() => {
    warnings.length = 0;
  });

  test('gets nothing from the second one, whose items stay pending and are named', async () => {
    await host.receive();
    await pull('data');
    await host.receive();
    const refused = await pull('other');
    expect(refused).toMatchObject({ ok: false, delivered: 0 });
    expect(refused.failed).toEqual([
      { item: expect.anything(), reason: containing(`filled by the ledger ${path.join(host.root, 'data')}`) },
    ]);
    expect(await host.files()).toHaveLength(1);
    expect(await pull('data')).toMatchObject({ ok: true, delivered: 1 });
  });

  test('at once gets each item once', async () => {
    for (let n = 0; n < 20; n++) await host.receive();
    const reports = await Promise.all([pull('data'), pull('other')]);
    expect(reports.map(({ delivered }) => delivered).sort((one, other) => one - other)).toEqual([0, 20]);
    expect(await host.files()).toHaveLength(20);
  });

  test('that is the same by another path is none', async () => {
    await host.receive();
    await pull('data');
    await symlink(path.join(host.root, 'data'), path.join(host.root, 'linked'));
    await host.receive();
    expect(await pull('linked')).toMatchObject({ ok: true, delivered: 1 });
    expect(warnings).toEqual([]);
  });

  test('of which one was moved goes on with a word about it', async () => {
    await host.receive();
    await pull('mine');
    await rename(path.join(host.root, 'mine'), path.join(host.root, 'moved'));
    await host.receive();
    expect(await pull('moved')).toMatchObject({ ok: true, delivered: 1 });
    expect(warnings).toEqual([containing(path.join(host.root, 'moved'))]);
    expect(await host.files()).toHaveLength(2);
  });

  test('as its agent pretends, is warned of on one line, and what cannot be noted delays nothing', async () => {
    await host.receive();
    await pull('data');
    const note = path.join(host.inbox(), '.incoming', 'ledger');
    await writeFile(note, 'a\nb\u001b[31m');
    await host.receive();
    expect(await pull('data')).toMatchObject({ ok: true, delivered: 1 });
    expect(warnings).toEqual([containing('by the ledger a b [31m, which is gone')]);
    await rm(note);
    await mkdir(path.join(note, 'x'), { recursive: true });
    await host.receive();
    expect(await pull('data')).toMatchObject({ ok: true, delivered: 1, failed: [] });
  });
});

describe('a ledger that rotted', () => {
  /** One delivered and not acknowledged, which the agent has taken; and the ledger's row of it, changed. */
  async function deliveredThenRotted(change: string): Promise<void> {
    await host.receive();
    const lost = () => Promise.reject(new NexusError('unavailable', 'No.'));
    await host.pull({ mailbox: (mailbox) => ({ ...mailbox, acknowledge: lost }) });
    for (const name of await host.files()) await rm(path.join(host.inbox(), name));
    const db = new DatabaseSync(file());
    db.exec(change);
    db.close();
  }

  test.each([
    ['in the id of an item', "UPDATE deliveries SET id = id || 'x'"],
    ['in how far it is', "UPDATE deliveries SET sum = 0, state = 'delivering'"],
    ['in its batch', 'UPDATE batches SET sum = 0, attempts = 9'],
  ])('%s delivers nothing, and is named', async (_, change) => {
    await deliveredThenRotted(
      `DROP TRIGGER deliveries_without_sum; DROP TRIGGER batches_without_sum; ${change}`,
    );
    await host.receive();
    const failed = await host.pull().then(
      ({ failed }) => JSON.stringify(failed),
      (error: unknown) => String(error),
    );
    expect(failed).toMatch(/is damaged/);
    expect(await host.files()).toEqual([]);
  });
});
