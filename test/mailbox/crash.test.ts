import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Webhooks } from '../../src/mailbox.ts';
import type { Store } from '../../src/stores/store.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { temporaryStore, type TestStore } from '../port/local.ts';
import { collect } from '../stores/outcomes.ts';
import { type Fault, failingStore } from './faults.ts';
import { delivery, everyPending } from './suite.ts';

const day = 86_400_000;
const large = Buffer.alloc(40_000, 'a');
const largeText = { contentType: 'text/plain', body: large };

let opened: TestStore;
beforeAll(async () => {
  opened = await temporaryStore();
});
afterAll(() => opened.remove());

let agents = 0;
const fresh = (): string => `crash${++agents}`;

/** What a mailbox holds, whatever the ids are: of each item its state, and whether its body can be read. */
async function holds(webhooks: Webhooks, agent: string): Promise<string[]> {
  const items = await collect(webhooks.list({ agent }));
  return await Promise.all(
    items.map(async ({ id, state, bytes }) => `${state} ${(await webhooks.body(id)).body.length === bytes}`),
  );
}

const blobs = async (agent: string): Promise<string[]> =>
  (await collect(opened.store.list(`payloads/items/${agent}/`))).map(({ name }) => name);
const rowsOf = async (table: string, agent: string) => await collect(opened.store.rows(table, agent));

/** Runs `work` with a fault at each operation that it makes, each on an agent of its own. */
async function atEach(
  fault: Fault,
  dead: boolean,
  attempt: (agent: string, faulty: (at: number) => Store, at: number) => Promise<void>,
): Promise<void> {
  for (let at = 1, made = at; at <= made; at++) {
    let operations: string[] = [];
    await attempt(
      fresh(),
      (at) => {
        const failing = failingStore(opened.store, at, fault, dead);
        operations = failing.operations;
        return failing.store;
      },
      at,
    );
    made = operations.length;
    // One with fewer operations than that was to fail has failed nowhere: it was the last.
    if (made < at) return;
    if (made === at) made++;
  }
}

describe.each([
  ['a process that dies', true],
  ['an answer that is lost', false],
])('%s', (_, dead) => {
  describe.each<Fault>(['before', 'after'])('%s any operation of the store', (fault) => {
    test.each([
      ['a webhook', {}],
      ['a webhook with a large body', largeText],
    ])(
      'while %s with a delivery id is received, keeps it once after the sender tried again',
      async (_, over) => {
        await atEach(fault, dead, async (agent, faulty, at) => {
          const sent = delivery(agent, { ...over, delivery: 'd' });
          const first = await openWebhooks(faulty(at))
            .receive(sent)
            .catch(() => undefined);
          const webhooks = openWebhooks(opened.store);
          const again = await webhooks.receive(sent);
          expect(again).toEqual(first === undefined ? again : { status: 'duplicate', id: first.id });
          expect(await holds(webhooks, agent), `at ${at}`).toEqual(['pending true']);
          expect((await everyPending(webhooks, { agents: '*' })).map(({ id }) => id)).toContain(again.id);
          expect((await webhooks.receive(sent)).status).toBe('duplicate');
        });
      },
    );

    test('while a webhook without a delivery id is received, keeps it whenever it was acknowledged', async () => {
      await atEach(fault, dead, async (agent, faulty, at) => {
        const sent = delivery(agent, largeText);
        const first = await openWebhooks(faulty(at))
          .receive(sent)
          .catch(() => undefined);
        const webhooks = openWebhooks(opened.store);
        if (first === undefined) await webhooks.receive(sent);
        const held = await holds(webhooks, agent);
        expect(held[0], `at ${at}`).toBe('pending true');
        // A sender without ids that was told of a failure tries again, and Nexus cannot tell.
        expect(held.length, `at ${at}`).toBeLessThanOrEqual(first === undefined ? 2 : 1);
      });
    });

    test('while items are acknowledged loses none, and the next try ends it', async () => {
      await atEach(fault, dead, async (agent, faulty, at) => {
        const webhooks = openWebhooks(opened.store);
        const ids: string[] = [];
        for (const over of [{}, largeText, {}]) ids.push((await webhooks.receive(delivery(agent, over))).id);
        const first = await openWebhooks(faulty(at))
          .acknowledge(ids, 'box')
          .catch(() => undefined);
        expect(await holds(webhooks, agent), `at ${at}`).toHaveLength(3);
        expect(await webhooks.acknowledge(ids, 'box')).toBeLessThanOrEqual(first === undefined ? 3 : 0);
        expect(await holds(webhooks, agent), `at ${at}`).toEqual(Array(3).fill('delivered true'));
        expect(await rowsOf('WebhookItems', agent)).toEqual([]);
        expect(await webhooks.standing([agent])).toMatchObject([{ pending: 0, host: 'box' }]);
      });
    });

    test('while items are dropped loses none, and the next try ends it', async () => {
      await atEach(fault, dead, async (agent, faulty, at) => {
        const webhooks = openWebhooks(opened.store);
        const { id } = await webhooks.receive(delivery(agent, largeText));
        await openWebhooks(faulty(at))
          .drop([id])
          .catch(() => undefined);
        expect(await holds(webhooks, agent), `at ${at}`).toHaveLength(1);
        await webhooks.drop([id]);
        expect(await holds(webhooks, agent), `at ${at}`).toEqual(['dropped true']);
      });
    });

    test('while an item is replayed makes it pending once after the same request', async () => {
      await atEach(fault, dead, async (agent, faulty, at) => {
        const webhooks = openWebhooks(opened.store);
        const { id } = await webhooks.receive(delivery(agent, largeText));
        await webhooks.acknowledge([id], 'box');
        const first = await openWebhooks(faulty(at))
          .replay(id, 'request')
          .catch(() => undefined);
        const again = await webhooks.replay(id, 'request');
        expect(again).toBe(first ?? again);
        expect(await holds(webhooks, agent), `at ${at}`).toEqual(['delivered true', 'pending true']);
        await webhooks.acknowledge([again], 'box');
        expect(await webhooks.replay(id, 'request')).toBe(again);
        expect(await holds(webhooks, agent), `at ${at}`).toHaveLength(2);
      });
    });

    test('while a mailbox is claimed leaves it to the one or the other', async () => {
      await atEach(fault, dead, async (agent, faulty, at) => {
        const webhooks = openWebhooks(opened.store);
        await webhooks.claim(agent, 'box1');
        await openWebhooks(faulty(at))
          .claim(agent, 'box2')
          .catch(() => undefined);
        expect(['box1', 'box2']).toContain((await webhooks.standing([agent]))[0]?.host);
        await webhooks.claim(agent, 'box2');
        await webhooks.pending({ agents: [agent], host: 'box2' });
      });
    });

    test('while history is pruned takes nothing that is pending, and the next run ends it', async () => {
      const came = new Date('2026-01-01T00:00:00Z');
      const later = (): Date => new Date(came.getTime() + 32 * day);
      const pruneOf = (store: Store, agent: string) =>
        openWebhooks(
          // Only this agent's: the others are left to their own runs.
          {
            ...store,
            rows: (table, ...given) => (table === 'Agents' ? one(agent) : store.rows(table, ...given)),
          },
          { now: later },
        ).prune();
      await atEach(fault, dead, async (agent, faulty, at) => {
        const webhooks = openWebhooks(opened.store, { now: () => came });
        const ids: string[] = [];
        for (const [n, over] of [largeText, {}, largeText].entries())
          ids.push((await webhooks.receive(delivery(agent, { ...over, delivery: `d${n}` }))).id);
        await webhooks.acknowledge(ids.slice(0, 2), 'box');
        await opened.store.create(`payloads/items/${agent}/000000000-${ids[0]?.split('.')[1] ?? ''}`, large);
        await opened.store.insert('Deliveries', {
          partition: agent,
          id: 'x',
          item: '0000000001',
          at: came.toISOString(),
        });
        await pruneOf(faulty(at), agent).catch(() => undefined);
        const held = await holds(webhooks, agent);
        expect(held.at(-1), `at ${at}`).toBe('pending true');
        await pruneOf(opened.store, agent);
        expect(await holds(webhooks, agent), `at ${at}`).toEqual(['pending true']);
        expect(await blobs(agent)).toHaveLength(1);
        expect((await rowsOf('Deliveries', agent)).map(({ id }) => id)).toEqual(['github~x20d2']);
        expect((await webhooks.receive(delivery(agent, { delivery: 'd2' }))).id).toBe(ids[2]);
        await webhooks.acknowledge(ids, 'box');
        await pruneOf(opened.store, agent);
        expect([await holds(webhooks, agent), await blobs(agent), await rowsOf('Deliveries', agent)]).toEqual(
          [[], [], []],
        );
      });
    });
  });
});

async function* one(agent: string) {
  yield { partition: 'agents', id: agent };
}

test('the operations that a fault may hit are all of them', async () => {
  const { store, operations } = failingStore(opened.store, 0, 'before', false);
  const webhooks = openWebhooks(store);
  await webhooks.receive(delivery('ops', { ...largeText, delivery: 'd' }));
  expect(operations).toEqual(['put Agents', 'insert Deliveries', 'create', 'insert WebhookItems']);
});
