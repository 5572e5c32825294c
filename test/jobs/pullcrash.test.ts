import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { fileNameOf, type Inbox } from '../../src/jobs/inbox.ts';
import type { Deliveries } from '../../src/jobs/deliveries.ts';
import type { Mailbox } from '../../src/mailbox.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

type Fault = 'before' | 'after';

/** Everything that a pull does to the store, the ledger and the files, in order, each a chance to fail. */
interface Faults {
  through: Pick<PullHostOptions, 'mailbox' | 'inbox' | 'ledger'>;
  calls: string[];
}

const changing: Record<string, readonly string[]> = {
  mailbox: ['pending', 'acknowledge'],
  inbox: ['write', 'syncTemps', 'place', 'sync', 'holds', 'discard', 'temps'],
  ledger: [
    'known',
    'usedBefore',
    'begin',
    'forget',
    'deliver',
    'begun',
    'unacknowledged',
    'acknowledge',
    'closeBatch',
    'batches',
    'itemsOf',
    'messageOf',
    'updateBatch',
    'prune',
  ],
};

/**
 * The n-th call (from 1) fails before or after it was done: as an answer that was lost, or, with `dead`, as a process
 * that died there, after which nothing reaches anything. `at` 0 only records.
 */
function faults(at: number, fault: Fault, dead: boolean): Faults {
  const calls: string[] = [];
  const error = () =>
    dead ? new Error('The process is dead.') : new NexusError('unavailable', 'The answer was lost.');

  function enter(name: string): boolean {
    if (dead && at > 0 && calls.length >= at) throw error();
    calls.push(name);
    if (calls.length !== at) return false;
    if (fault === 'before') throw error();
    return true;
  }

  function wrap<T extends object>(part: string, of: T): T {
    const wrapped = { ...of };
    for (const name of changing[part] ?? []) {
      const plain: unknown = Reflect.get(of, name);
      if (typeof plain !== 'function') throw new Error(`There is no ${part}.${name}.`);
      Reflect.set(wrapped, name, (...given: unknown[]): unknown => {
        const sync = part === 'ledger';
        try {
          const hit = enter(`${part}.${name}`);
          const result: unknown = Reflect.apply(plain, of, given);
          if (!hit) return result;
          if (sync) throw error();
          return Promise.resolve(result).then(() => Promise.reject(error()));
        } catch (thrown) {
          if (sync) throw thrown;
          return Promise.reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
        }
      });
    }
    return wrapped;
  }

  return {
    calls,
    through: {
      mailbox: (mailbox: Mailbox) => wrap('mailbox', mailbox),
      inbox: (inbox: Inbox) => wrap('inbox', inbox),
      ledger: (deliveries: Deliveries) => wrap('ledger', deliveries),
    },
  };
}

const count = 3;

/** A history: one delivered and acknowledged, one delivered whose acknowledge failed, and `count` fresh ones. */
async function prepare(): Promise<{ host: PullHost; ids: string[]; all: string[] }> {
  const host = await makePullHost();
  const ids = [await host.receive({ source: 'old' })];
  await host.pull();
  ids.push(await host.receive({ source: 'late' }));
  await host.pull({
    mailbox: (mailbox) => ({
      ...mailbox,
      acknowledge: () => Promise.reject(new NexusError('unavailable', 'No.')),
    }),
  });
  for (let n = 0; n < count; n++) ids.push(await host.receive({ source: `new${n}` }));
  const sources = ['old', 'late', ...Array.from({ length: count }, (_, n) => `new${n}`)];
  return { host, ids, all: ids.map((id, n) => fileNameOf({ id, source: sources[n] ?? '' })).sort() };
}

/** The agent takes what it finds, and remembers how often it found each. */
async function take(host: PullHost, seen: Map<string, number>): Promise<void> {
  for (const name of await host.files()) {
    seen.set(name, (seen.get(name) ?? 0) + 1);
    await rm(path.join(host.inbox(), name));
  }
}

describe.each([
  ['a process that dies', true],
  ['an answer that is lost', false],
])('%s', (_, dead) => {
  describe.each([
    ['an agent that leaves its files', false],
    ['an agent that takes its files at once', true],
  ])('and %s', (__, taking) => {
    test.each<Fault>(['before', 'after'])(
      '%s any call to the store, the ledger or the files: every item is in the inbox once, acknowledged and in one batch',
      async (fault) => {
        for (let at = 1, counted = Number.POSITIVE_INFINITY; at <= counted; at++) {
          const { host, ids, all } = await prepare();
          const seen = new Map<string, number>();
          try {
            if (taking) await take(host, seen);
            const faulty = faults(at, fault, dead);
            await host.pull(faulty.through).catch((error: unknown) => error);
            if (faulty.calls.length < at) counted = at;
            const where = `${fault} call ${at}, ${faulty.calls.at(-1)}`;
            if (taking) await take(host, seen);
            const again = await host.pull();
            expect(again, where).toMatchObject({ ok: true, failed: [] });
            if (taking) await take(host, seen);
            const more = await host.pull();
            expect(more, where).toMatchObject({ ok: true, failed: [], delivered: 0, already: 0 });
            await take(host, seen);
            // An agent that left them finds each in the end.
            expect(Object.fromEntries(seen), where).toEqual(Object.fromEntries(all.map((name) => [name, 1])));
            expect(await host.pending(), where).toEqual([]);
            const deliveries = host.deliveries();
            const told = deliveries.batches(['none']).flatMap(({ id }) => deliveries.itemsOf(id));
            expect(told.map(({ id }) => id).sort(), where).toEqual(ids.toSorted());
            expect(deliveries.batches(['open', 'untold']), where).toEqual([]);
            expect(deliveries.unacknowledged('main'), where).toEqual([]);
            deliveries.close();
            // Whatever is left over goes when it is an hour old.
            await host.receive();
            await host.pull({ now: () => new Date(Date.now() + 2 * 3_600_000) });
            expect(await host.temps(), where).toEqual([]);
          } finally {
            await host.remove();
          }
        }
      },
      120_000,
    );
  });
});

test.each<Fault>(['before', 'after'])(
  'a process that dies %s any call while it takes back what met other content loses nothing',
  async (fault) => {
    for (let at = 1, counted = Number.POSITIVE_INFINITY; at <= counted; at++) {
      const host = await makePullHost();
      const id = await host.receive();
      const file = path.join(host.inbox(), fileNameOf({ id, source: 'github' }));
      await mkdir(host.inbox(), { recursive: true });
      await writeFile(file, 'mine');
      const faulty = faults(at, fault, true);
      await host.pull(faulty.through).catch((error: unknown) => error);
      if (faulty.calls.length < at) counted = at;
      const where = `${fault} call ${at}, ${faulty.calls.at(-1)}`;
      await rm(file);
      expect(await host.pull(), where).toMatchObject({ ok: true, delivered: 1 });
      expect(await host.read(path.basename(file)), where).toMatchObject({ id });
      await host.remove();
    }
  },
  60_000,
);

test('each step comes after the one that it relies on', async () => {
  const { host } = await prepare();
  const recorded = faults(0, 'before', false);
  await host.pull(recorded.through);
  const steps = recorded.calls.filter(
    (name) => !/known|usedBefore|begun|unacknowledged|temps|batches|prune|itemsOf/.test(name),
  );
  expect(steps).toEqual([
    'mailbox.acknowledge',
    'ledger.acknowledge',
    'mailbox.pending',
    ...Array.from({ length: count }, () => 'inbox.write'),
    'inbox.syncTemps',
    'ledger.begin',
    ...Array.from({ length: count }, () => 'inbox.place'),
    'inbox.sync',
    'ledger.deliver',
    'mailbox.acknowledge',
    'ledger.acknowledge',
    'ledger.closeBatch',
  ]);
  await host.remove();
});

test('an acknowledge that fails is made up for by the next run, which delivers nothing again', async () => {
  const host = await makePullHost();
  const id = await host.receive();
  const fails: PullHostOptions = {
    mailbox: (mailbox) => ({
      ...mailbox,
      acknowledge: () => Promise.reject(new NexusError('unavailable', 'No.')),
    }),
  };
  expect(await host.pull(fails)).toMatchObject({ ok: false, delivered: 1 });
  await rm(path.join(host.inbox(), fileNameOf({ id, source: 'github' })));
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 0, already: 1 });
  expect(await host.files()).toEqual([]);
  expect(await host.pending()).toEqual([]);
  await host.remove();
});

test('an item that comes up again though it was acknowledged is only acknowledged again', async () => {
  const host = await makePullHost();
  await host.receive();
  const kept = await host.webhooks.pending({ agents: ['main'] });
  await host.pull();
  const report = await host.pull({
    mailbox: (mailbox) => ({ ...mailbox, pending: () => Promise.resolve(kept) }),
  });
  expect(report).toMatchObject({ ok: true, delivered: 0, already: 1 });
  expect(await host.files()).toHaveLength(1);
  await host.remove();
});
