import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type Position, positionOf, type Webhooks } from '../../src/mailbox.ts';
import type { Store } from '../../src/stores/store.ts';
import { costOf } from '../../src/webhookbodies.ts';
import { openRowIds, rowTime, timeOfRow } from '../../src/webhookrows.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { temporaryStore } from '../port/local.ts';
import { collect, failure } from '../stores/outcomes.ts';
import { failingStore } from './faults.ts';
import { delivery, everyPending } from './suite.ts';

const day = 86_400_000;
const large = { contentType: 'text/plain', body: Buffer.alloc(40_000, 'a') };

async function open(over: (store: Store) => Partial<Store> = () => ({})) {
  const { store, remove } = await temporaryStore();
  onTestFinished(remove);
  let time = new Date('2026-11-01T00:00:00.000Z').getTime();
  return {
    store,
    webhooks: openWebhooks({ ...store, ...over(store) }, { now: () => new Date(time) }),
    /** Another process over the same store. */
    another: (): Webhooks => openWebhooks(store, { now: () => new Date(time) }),
    pass: (ms: number) => (time += ms),
  };
}

const tables = ['WebhookItems', 'History', 'Deliveries'];
const left = async (store: Store, agent: string): Promise<number[]> =>
  await Promise.all([
    ...tables.map(async (table) => (await collect(store.rows(table, agent))).length),
    collect(store.list(`payloads/items/${agent}/`)).then((blobs) => blobs.length),
  ]);

describe('the ids of items', () => {
  test('ascend, also when the clock is set back, and name their time', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4_000_000_000_000 }), { minLength: 2 }), (times) => {
        let at = 0;
        const next = openRowIds(() => new Date(times[at++] ?? 0));
        const ids = times.map(() => next());
        expect([...ids].sort()).toEqual(ids);
        expect(new Set(ids).size).toBe(ids.length);
        let latest = 0;
        for (const [n, id] of ids.entries()) {
          latest = Math.max(latest, times[n] ?? 0);
          expect(timeOfRow(id)).toBe(latest);
          expect(positionOf(`main.${id}`)).toEqual({ agent: 'main', row: id });
          expect(id >= rowTime(latest) && id < rowTime(latest + 1)).toBe(true);
        }
      }),
    );
  });

  test('ascend when more come in a millisecond than are counted in one', () => {
    const next = openRowIds(() => new Date(1_700_000_000_000), 10);
    const ids = Array.from({ length: 25 }, next);
    expect([...ids].sort()).toEqual(ids);
    expect(timeOfRow(ids.at(-1) ?? '')).toBe(1_700_000_000_002);
  });
});

describe('the rows of items', () => {
  test('have the fields that are promised', async () => {
    const { store, webhooks } = await open();
    await webhooks.receive(delivery('main', { delivery: 'd 1' }));
    const [row] = await collect(store.rows('WebhookItems', 'main'));
    expect(row).toEqual({
      partition: 'main',
      id: expect.stringMatching(/^[0-9a-z]{21}$/),
      Source: 'github',
      ReceivedAt: '2026-11-01T00:00:00.000Z',
      ContentType: 'application/json',
      Headers: '{"x-github-event":"push"}',
      Payload: '{"n":1}',
      PayloadHash: createHash('sha256').update('{"n":1}').digest('hex'),
      Bytes: 7,
      Delivery: 'd 1',
      DeliveryKey: 'github~x20d~x201',
    });
  });

  test('name a blob and its hash where the body does not fit', async () => {
    const { store, webhooks } = await open();
    await webhooks.receive(delivery('inbox', large));
    const [row] = await collect(store.rows('WebhookItems', 'inbox'));
    expect(row).toMatchObject({
      Bytes: 40_000,
      PayloadHash: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(row).not.toHaveProperty('Payload');
    expect((await store.stat(String(row?.['PayloadBlob'])))?.length).toBe(40_000);
  });

  test('hold what a row can of headers that are too long for it', async () => {
    const { webhooks } = await open();
    const headers = { long: '"'.repeat(20_000), short: 'x' };
    await webhooks.receive(delivery('main', { headers }));
    const [item] = await everyPending(webhooks, { agents: ['main'] });
    expect(item?.headers).toEqual({ short: 'x' });
  });

  test('cost one insert, two with a delivery id, and no reads', async () => {
    const { store } = await open();
    const { store: watched, operations } = failingStore(store, 0, 'before', false);
    const webhooks = openWebhooks(watched);
    await webhooks.receive(delivery('main'));
    operations.length = 0;
    await webhooks.receive(delivery('main'));
    expect(operations).toEqual(['insert WebhookItems']);
    operations.length = 0;
    await webhooks.receive(delivery('main', { delivery: 'd' }));
    expect(operations).toEqual(['insert Deliveries', 'insert WebhookItems']);
  });
});

describe('a page', () => {
  const encoded = { contentType: 'text/plain', headers: { 'content-encoding': 'zstd' } };
  const few = zstdCompressSync(Buffer.alloc(1000, 'a'));
  const many = zstdCompressSync(Buffer.alloc(6_000_000, 'a'));

  async function pagesOf(webhooks: Webhooks): Promise<number[]> {
    const sizes: number[] = [];
    for (let after: Position | undefined; ; ) {
      const page = await webhooks.pending({ agents: ['main'], ...(after === undefined ? {} : { after }) });
      sizes.push(page.items.length);
      if (page.next === undefined) return sizes;
      after = page.next;
    }
  }

  test('counts what is compressed as what it is when that is undone', async () => {
    const { store, webhooks } = await open();
    for (const [body, decoded] of [
      [many, 6_000_000],
      [few, 1000],
      [few, 1000],
      [many, 6_000_000],
    ] as const)
      await webhooks.receive(delivery('main', { ...encoded, body, decoded }));
    expect(await pagesOf(webhooks)).toEqual([3, 1]);
    // Known without undoing it.
    const costs = (await collect(store.rows('WebhookItems', 'main'))).map(costOf);
    expect(costs.map((cost) => cost > 6_000_000)).toEqual([true, false, false, true]);
  });

  test('is of one item where nobody knows how long that is', async () => {
    const { webhooks } = await open();
    await webhooks.receive(delivery('main'));
    for (let n = 0; n < 2; n++) await webhooks.receive(delivery('main', { ...encoded, body: few }));
    await webhooks.receive(delivery('main'));
    expect(await pagesOf(webhooks)).toEqual([1, 1, 1, 1]);
  });

  test('counts what its JSON has, where that is much more than the body', async () => {
    const { webhooks } = await open();
    // Six characters each.
    const body = Buffer.alloc(1_000_000, 1);
    for (let n = 0; n < 3; n++)
      await webhooks.receive(delivery('main', { contentType: 'text/plain', body, decoded: body.length }));
    expect(await pagesOf(webhooks)).toEqual([1, 1, 1]);
  });

  test('is read while others have their turn', async () => {
    const { webhooks } = await open();
    // In its row: nothing but the reading itself takes time.
    const body = Buffer.from(JSON.stringify('a'.repeat(30_000)));
    for (let n = 0; n < 200; n++) await webhooks.receive(delivery('main', { body, decoded: body.length }));
    let turns = 0;
    const count = () => {
      turns++;
      turn = setImmediate(count);
    };
    let turn = setImmediate(count);
    const { items } = await webhooks.pending({ agents: ['main'], limit: 200 });
    clearImmediate(turn);
    expect(items).toHaveLength(200);
    expect(turns).toBeGreaterThanOrEqual(20);
  });
});

test('a delivery without its item is stored under the id that was fixed', async () => {
  const { store, webhooks } = await open();
  const row = '0mhgs4xc0000012345678';
  await store.insert('Deliveries', {
    partition: 'main',
    id: 'github~x20d',
    item: row,
    at: '2026-11-01T00:00:00.000Z',
  });
  expect(await webhooks.receive(delivery('main', { delivery: 'd' }))).toEqual({
    status: 'accepted',
    id: `main.${row}`,
  });
  expect(await webhooks.receive(delivery('main', { delivery: 'd' }))).toEqual({
    status: 'duplicate',
    id: `main.${row}`,
  });
});

describe('a sender that tries again', () => {
  test('through two processes, fifty times at once, makes one item', async () => {
    const { store, webhooks, another } = await open();
    const other = another();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        (n % 2 === 0 ? webhooks : other).receive(delivery('main', { ...large, delivery: 'd' })),
      ),
    );
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect(answers.filter(({ status }) => status === 'accepted')).toHaveLength(1);
    expect(await left(store, 'main')).toEqual([1, 0, 1, 1]);
  });

  test('while the host acknowledges makes no second item', async () => {
    const { store, webhooks, another } = await open();
    for (let n = 0; n < 40; n++) {
      const sent = delivery('main', { ...(n % 2 === 0 ? large : {}), delivery: `d${n}` });
      const other = another();
      const racers = [webhooks.receive(sent), other.receive(sent), other.receive(sent)];
      const host = (async () => {
        // The store answers reads at once: without a pause nothing else would get its turn.
        for (; ; await sleep(1)) {
          const { items } = await other.pending({ agents: ['main'] });
          if (items.length > 0)
            return await webhooks.acknowledge(
              items.map(({ id }) => id),
              'box',
            );
        }
      })();
      const answers = await Promise.all([...racers, webhooks.receive(sent)]);
      await host;
      expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
      const items = await collect(webhooks.list({ agent: 'main' }));
      expect(items).toHaveLength(n + 1);
      for (const { id, bytes } of items) expect((await webhooks.body(id)).body).toHaveLength(bytes);
    }
    expect((await left(store, 'main'))[0]).toBe(0);
  });

  test('many at once, where a crash has left the first without its item, makes one, with one blob', async () => {
    const { store, webhooks, another } = await open();
    const row = '0mhgs4xc0000012345678';
    await store.insert('Deliveries', { partition: 'main', id: 'github~x20d', item: row, at: '' });
    const sent = delivery('main', { ...large, delivery: 'd' });
    const answers = await Promise.all([webhooks, another(), another()].map((one) => one.receive(sent)));
    expect(answers.map(({ id }) => id)).toEqual(Array(3).fill(`main.${row}`));
    expect(answers.filter(({ status }) => status === 'accepted')).toHaveLength(1);
    expect(await left(store, 'main')).toEqual([1, 0, 1, 1]);
  });

  test('and is taken by a slow process after the host had it leaves nothing pending', async () => {
    let slow: (() => Promise<void>) | undefined;
    const { store, webhooks, another } = await open((store) => ({
      insert: async (table, row) => {
        if (table === 'WebhookItems') await slow?.();
        await store.insert(table, row);
      },
    }));
    const sent = delivery('main', { ...large, delivery: 'd' });
    slow = async () => {
      slow = undefined;
      const { id } = await another().receive(sent);
      await another().acknowledge([id], 'box');
    };
    const answer = await webhooks.receive(sent);
    expect(answer.status).toBe('duplicate');
    expect((await left(store, 'main')).slice(0, 3)).toEqual([0, 1, 1]);
    expect((await webhooks.body(answer.id)).body).toHaveLength(40_000);
  });
});

describe('a mailbox that may hold so much', () => {
  const most = { items: 100, bytes: 0 };
  const fill = async (webhooks: Webhooks, items: number) =>
    await Promise.all(Array.from({ length: items }, () => webhooks.receive(delivery('main', { most }))));

  /** Counts are reads of pending without an end. */
  async function counted() {
    const seen = { counts: 0, atOnce: 0, most: 0, slow: async () => {} };
    const opened = await open((store) => ({
      async *rows(table, partition, range) {
        const counts = table === 'WebhookItems' && range === undefined;
        if (!counts) {
          yield* store.rows(table, partition, range);
          return;
        }
        seen.counts++;
        seen.most = Math.max(seen.most, ++seen.atOnce);
        try {
          yield* store.rows(table, partition);
          await seen.slow();
        } finally {
          seen.atOnce--;
        }
      },
    }));
    return { ...opened, seen };
  }

  test('is counted once while there is room, and aside when that is long ago', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const { webhooks, seen } = await counted();
    await fill(webhooks, 1);
    vi.advanceTimersByTime(59_000);
    await fill(webhooks, 1);
    expect(seen.counts).toBe(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    seen.slow = () => promise;
    vi.advanceTimersByTime(2000);
    // Not held up by the count, and no second one beside it.
    for (let n = 0; n < 10; n++) {
      await fill(webhooks, 1);
      vi.advanceTimersByTime(100_000);
    }
    expect(seen).toMatchObject({ counts: 2, most: 1 });
    resolve();
    await vi.waitFor(() => expect(seen.atOnce).toBe(0));
    await sleep(10);
    // What came meanwhile is not forgotten.
    await fill(webhooks, 88);
    expect((await failure(fill(webhooks, 1))).code).toBe('unavailable');
    expect(seen.counts).toBe(2);
  });

  test('sees a moment later what another process has taken out of a full one', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const { webhooks, another, seen } = await counted();
    const ids = (await fill(webhooks, 100)).map(({ id }) => id);
    expect((await failure(fill(webhooks, 1))).code).toBe('unavailable');
    await another().acknowledge(ids);
    expect((await failure(fill(webhooks, 1))).code).toBe('unavailable');
    expect(seen.counts).toBe(1);
    vi.advanceTimersByTime(1_000);
    await fill(webhooks, 100);
    expect(seen.counts).toBe(2);
  });

  test('has room for no more than was taken out, when it is taken out twice at once', async () => {
    const { webhooks } = await open();
    const ids = (await fill(webhooks, 100)).map(({ id }) => id).slice(0, 10);
    await Promise.all(Array.from({ length: 4 }, () => webhooks.acknowledge(ids)));
    await fill(webhooks, 10);
    expect((await failure(fill(webhooks, 1))).code).toBe('unavailable');
  });

  test('of items refuses more, until some are acknowledged', async () => {
    const { webhooks } = await open();
    const most = { items: 2, bytes: 0 };
    const ids = [
      (await webhooks.receive(delivery('main', { most }))).id,
      (await webhooks.receive(delivery('main', { most, delivery: 'd' }))).id,
    ];
    const full = await failure(webhooks.receive(delivery('main', { most, delivery: 'new' })));
    expect(full).toMatchObject({ code: 'unavailable', retryAfter: 30 });
    expect(full.message).toContain('main');
    expect(await webhooks.receive(delivery('main', { most, delivery: 'd' }))).toEqual({
      status: 'duplicate',
      id: ids[1],
    });
    await webhooks.receive(delivery('other', { most }));
    await webhooks.acknowledge(ids.slice(0, 1), 'box');
    await webhooks.receive(delivery('main', { most, delivery: 'new' }));
    await webhooks.receive(delivery('main'));
  });

  test('of bytes refuses more, and what is too large for it alone for ever', async () => {
    const { webhooks } = await open();
    const most = { items: 0, bytes: 10 };
    await webhooks.receive(delivery('main', { most }));
    expect((await failure(webhooks.receive(delivery('main', { most })))).code).toBe('unavailable');
    await webhooks.receive(delivery('main', { most, body: Buffer.from('[1]') }));
    expect((await failure(webhooks.receive(delivery('main', { most, body: Buffer.alloc(11) })))).code).toBe(
      'too_large',
    );
  });

  test('holds to it when many come at once', async () => {
    const { store, webhooks } = await open();
    const most = { items: 5, bytes: 0 };
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) =>
        webhooks.receive(delivery('main', { most, ...(n % 2 ? { delivery: `d${n}` } : {}) })),
      ),
    );
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
    expect((await left(store, 'main'))[0]).toBe(5);
  });

  test('counts what is there already, and gives the room of a duplicate back', async () => {
    const { webhooks, another } = await open();
    for (const id of ['a', 'b']) await webhooks.receive(delivery('main', { delivery: id }));
    const other = another();
    const most = { items: 3, bytes: 0 };
    for (let n = 0; n < 5; n++) await other.receive(delivery('main', { most, delivery: 'a' }));
    await other.receive(delivery('main', { most }));
    expect((await failure(other.receive(delivery('main', { most })))).code).toBe('unavailable');
  });
});

test('a replay that is asked for again answers the same id, also when the item is gone that it repeats', async () => {
  const { webhooks, pass } = await open();
  const { id } = await webhooks.receive(delivery('main', large));
  await webhooks.acknowledge([id], 'box');
  pass(20 * day);
  const made = await webhooks.replay(id, 'request');
  pass(15 * day);
  expect(await webhooks.prune()).toMatchObject({ items: 1 });
  expect(await webhooks.replay(id, 'request')).toBe(made);
  expect((await webhooks.body(made)).body).toHaveLength(40_000);
  expect((await failure(webhooks.replay(id, 'another'))).code).toBe('not_found');
});

describe('pruning', () => {
  test('removes what was acknowledged more than 30 days ago, whole', async () => {
    const { store, webhooks, pass } = await open();
    const ids: string[] = [];
    for (let n = 0; n < 230; n++)
      ids.push((await webhooks.receive(delivery('main', { ...(n < 3 ? large : {}), delivery: `d${n}` }))).id);
    await webhooks.acknowledge(ids, 'box');
    const replayed = await webhooks.replay(ids[0] ?? '', 'r');
    await webhooks.drop([replayed]);
    pass(30 * day - 1);
    expect(await webhooks.prune()).toEqual({ items: 0, deliveries: 0, blobs: 0 });
    expect((await webhooks.receive(delivery('main', { delivery: 'd1' }))).status).toBe('duplicate');
    pass(1000);
    expect(await webhooks.prune()).toEqual({ items: 231, deliveries: 231, blobs: 4 });
    expect(await left(store, 'main')).toEqual([0, 0, 0, 0]);
    expect((await webhooks.receive(delivery('main', { delivery: 'd1' }))).status).toBe('accepted');
  });

  test('never removes what is pending, nor its delivery id', async () => {
    const { store, webhooks, pass } = await open();
    const { id } = await webhooks.receive(delivery('main', { ...large, delivery: 'd' }));
    pass(400 * day);
    expect(await webhooks.prune()).toEqual({ items: 0, deliveries: 0, blobs: 0 });
    expect(await webhooks.receive(delivery('main', { delivery: 'd' }))).toEqual({ status: 'duplicate', id });
    await webhooks.acknowledge([id], 'box');
    pass(29 * day);
    await webhooks.prune();
    expect((await webhooks.body(id)).body).toHaveLength(40_000);
    pass(2 * day);
    await webhooks.prune();
    expect(await left(store, 'main')).toEqual([0, 0, 0, 0]);
  });

  test('leaves an item whose acknowledge was cut short', async () => {
    const { store, webhooks, pass } = await open();
    const { id } = await webhooks.receive(delivery('main', { ...large, delivery: 'd' }));
    const [row] = await collect(store.rows('WebhookItems', 'main'));
    if (row === undefined) throw new Error('nothing is pending');
    await store.insert('History', { ...row, AcknowledgedAt: '2026-11-01T00:00:00.000Z', State: 'delivered' });
    pass(40 * day);
    await webhooks.prune();
    const [item] = await everyPending(webhooks, { agents: ['main'] });
    expect(item?.id).toBe(id);
  });

  test('leaves the delivery id that a sender has used again', async () => {
    const { store, webhooks, pass } = await open();
    const { id } = await webhooks.receive(delivery('main', { delivery: 'd' }));
    await webhooks.acknowledge([id], 'box');
    pass(31 * day);
    // An earlier run died here.
    await store.removeRows('Deliveries', 'main', ['github~x20d']);
    const again = await webhooks.receive(delivery('main', { delivery: 'd' }));
    expect(again.status).toBe('accepted');
    expect(await webhooks.prune()).toMatchObject({ items: 1, deliveries: 0 });
    expect(await webhooks.receive(delivery('main', { delivery: 'd' }))).toEqual({
      status: 'duplicate',
      id: again.id,
    });
  });

  test('removes blobs that nothing names only when they are older than any delivery', async () => {
    const { store, webhooks, pass } = await open((store) => ({
      insert: async (table, row) => {
        if (table === 'WebhookItems') throw new Error('killed');
        await store.insert(table, row);
      },
    }));
    await expect(webhooks.receive(delivery('main', { ...large, delivery: 'd' }))).rejects.toThrow('killed');
    expect(await left(store, 'main')).toEqual([0, 0, 1, 1]);
    pass(30 * day + 1);
    expect(await webhooks.prune()).toEqual({ items: 0, deliveries: 1, blobs: 0 });
    pass(day);
    expect(await webhooks.prune()).toEqual({ items: 0, deliveries: 0, blobs: 1 });
  });

  test('leaves the blob of an item that comes long after its id was fixed', async () => {
    const { store, webhooks, pass, another } = await open();
    await store.insert('Deliveries', {
      partition: 'main',
      id: 'github~x20d',
      item: `${rowTime(Date.parse('2026-09-01'))}000012345678`,
      at: '2026-09-01T00:00:00.000Z',
    });
    pass(0);
    let pruned: Promise<unknown> | undefined;
    const slow = openWebhooks(
      {
        ...store,
        async create(name, body) {
          await store.create(name, body);
          pruned = another().prune();
          await pruned;
        },
      },
      { now: () => new Date('2026-11-01T00:00:00.000Z') },
    );
    const { id } = await slow.receive(delivery('main', { ...large, delivery: 'd' }));
    await pruned;
    expect((await webhooks.body(id)).body).toHaveLength(40_000);
  });

  test('ends when it is told to, and the next run does the rest', async () => {
    const stop = new AbortController();
    const { store, webhooks, another, pass } = await open((store) => ({
      async removeRows(table, partition, ids) {
        await store.removeRows(table, partition, ids);
        if (table === 'History') stop.abort(new Error('enough'));
      },
    }));
    const ids: string[] = [];
    for (let n = 0; n < 120; n++) ids.push((await webhooks.receive(delivery('main'))).id);
    await webhooks.acknowledge(ids);
    pass(31 * day);
    await expect(webhooks.prune({ signal: stop.signal })).rejects.toThrow('enough');
    expect((await left(store, 'main'))[1]).toBe(20);
    expect(await another().prune()).toMatchObject({ items: 20 });
  });

  test('looks through the delivery ids only where it shall', async () => {
    const { store, webhooks } = await open();
    await webhooks.receive(delivery('main'));
    await store.insert('Deliveries', { partition: 'main', id: 'x', item: '0000000001', at: '2026-01-01' });
    expect(await webhooks.prune({ deliveries: false })).toMatchObject({ deliveries: 0 });
    expect(await webhooks.prune()).toMatchObject({ deliveries: 1 });
  });

  test('may run twice at once', async () => {
    const { store, webhooks, another, pass } = await open();
    const ids: string[] = [];
    for (let n = 0; n < 120; n++)
      ids.push(
        (await webhooks.receive(delivery('main', { ...(n % 10 ? {} : large), delivery: `d${n}` }))).id,
      );
    await webhooks.acknowledge(ids, 'box');
    pass(40 * day);
    await Promise.all([webhooks.prune(), another().prune(), webhooks.prune()]);
    expect(await left(store, 'main')).toEqual([0, 0, 0, 0]);
  });
});

describe('a wait', () => {
  test('ends when it is told to, and when the mailboxes are closed', async () => {
    const { webhooks } = await open();
    const stop = new AbortController();
    const told = webhooks.pending({ agents: '*', waitMs: 60_000, signal: stop.signal });
    const closed = webhooks.pending({ agents: ['main'], waitMs: 60_000 });
    await sleep(20);
    stop.abort();
    expect(await told).toEqual({ items: [] });
    await webhooks.close();
    expect(await closed).toEqual({ items: [] });
  });

  test('ends with what arrives while it looks', async () => {
    let meanwhile: (() => Promise<unknown>) | undefined;
    const { webhooks } = await open((store) => ({
      async *rows(table, ...given) {
        yield* store.rows(table, ...given);
        const work = table === 'WebhookItems' ? meanwhile : undefined;
        meanwhile = undefined;
        await work?.();
      },
    }));
    meanwhile = () => webhooks.receive(delivery('main'));
    const began = performance.now();
    expect((await webhooks.pending({ agents: ['main'], waitMs: 10_000 })).items).toHaveLength(1);
    expect(performance.now() - began).toBeLessThan(1500);
  });

  test('goes on while only broken items are pending', async () => {
    const { store, webhooks } = await open();
    await webhooks.receive(delivery('main', large));
    const [row] = await collect(store.rows('WebhookItems', 'main'));
    await store.remove(String(row?.['PayloadBlob']));
    const page = webhooks.pending({ agents: ['main'], waitMs: 10_000 });
    await sleep(20);
    const { id } = await webhooks.receive(delivery('main'));
    expect(await page).toMatchObject({
      items: [{ id }],
      broken: [{ reason: expect.stringContaining('gone') }],
    });
  });
});
