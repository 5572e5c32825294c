import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Delivery,
  type Fetched,
  type Item,
  type ListedItem,
  type Mailbox,
  type PendingRequest,
  positionOf,
  type Webhooks,
} from '../../src/mailbox.ts';
import type { Store } from '../../src/stores/store.ts';
import { codeOf, collect, failure } from '../stores/outcomes.ts';

export interface OpenMailbox {
  /** What is tested. */
  mailbox: Mailbox;
  /** What receives for it: the very one that the endpoint has, where there is an endpoint. */
  webhooks: Webhooks;
  /** The store behind both. */
  store: Store;
  /** Changes one bit of a blob behind the store's back; absent where that cannot be done. */
  spoil?: (name: string) => Promise<void>;
  /** What receives is in another process than what is asked, which sees it when it looks again. */
  apart?: boolean;
  close: () => Promise<void>;
}

export const agentOf = (id: string): string => positionOf(id)?.agent ?? '';

/** A webhook of 4 bytes of JSON, but for what is said. */
export function delivery(agent: string, over: Partial<Delivery> = {}): Delivery {
  return {
    agent,
    source: 'github',
    contentType: 'application/json',
    headers: { 'x-github-event': 'push' },
    body: Buffer.from('{"n":1}'),
    ...over,
  };
}

export async function everyPending(mailbox: Mailbox, request: PendingRequest): Promise<Item[]> {
  const items: Item[] = [];
  for (let after = request.after; ; ) {
    const page = await mailbox.pending({ ...request, ...(after === undefined ? {} : { after }) });
    items.push(...page.items);
    if (page.next === undefined) return items;
    after = page.next;
  }
}

/** The name of an item's blob, from its row of pending or history. */
export async function blobOf(store: Store, id: string): Promise<string> {
  const { agent, row } = positionOf(id) ?? { agent: '', row: '' };
  for (const table of ['WebhookItems', 'History'])
    for await (const found of store.rows(table, agent, { from: row, before: `${row}\u0000` }))
      if (typeof found['PayloadBlob'] === 'string') return found['PayloadBlob'];
  throw new Error(`${id} has no blob`);
}

/** The promises of a mailbox, the same for every way to open one. */
export function describeMailbox(name: string, open: () => Promise<OpenMailbox>): void {
  describe(`the mailbox, ${name}`, () => {
    let opened: OpenMailbox;
    let mailbox: Mailbox;
    let count = 0;
    /** An agent that no other test uses. */
    const fresh = (): string => `agent${++count}`;
    const receive = async (agent: string, over: Partial<Delivery> = {}): Promise<string> =>
      (await opened.webhooks.receive(delivery(agent, over))).id;
    const listed = async (agent: string): Promise<ListedItem[]> => await collect(mailbox.list({ agent }));
    const idsOf = (items: { id: string }[]): string[] => items.map(({ id }) => id);

    beforeAll(async () => {
      opened = await open();
      mailbox = opened.mailbox;
    }, 60_000);
    afterAll(() => opened.close());

    describe('pending', () => {
      test('has an item as it came', async () => {
        const agent = fresh();
        const before = Date.now();
        const id = await receive(agent, { delivery: 'd-1' });
        const { items, next } = await mailbox.pending({ agents: [agent] });
        expect(next).toBeUndefined();
        expect(items).toEqual([
          {
            id,
            source: 'github',
            receivedAt: expect.any(String),
            contentType: 'application/json',
            headers: { 'x-github-event': 'push' },
            payloadText: '{"n":1}',
          },
        ]);
        expect(Math.abs(Date.parse(items[0]?.receivedAt ?? '') - before)).toBeLessThan(60_000);
        expect(positionOf(id)?.agent).toBe(agent);
      });

      test('has nothing of an agent that got nothing', async () => {
        expect(await mailbox.pending({ agents: [fresh()] })).toEqual({ items: [] });
      });

      test.each<[string, string, Buffer, unknown, boolean]>([
        ['JSON', 'application/json', Buffer.from('{"a":[1,null]}'), { a: [1, null] }, false],
        [
          'a form',
          'application/x-www-form-urlencoded',
          Buffer.from('a=1&b=x+y'),
          { a: '1', b: 'x y' },
          false,
        ],
        ['text', 'text/plain', Buffer.from('grüße 🦊'), 'grüße 🦊', false],
        ['text of no type', '', Buffer.from('hello'), 'hello', false],
        ['nothing', 'application/json', Buffer.alloc(0), null, false],
        ['bytes', 'application/octet-stream', Buffer.from([0, 255, 1]), 'AP8B', true],
        ['long text', 'text/plain', Buffer.from('ü'.repeat(32_001)), 'ü'.repeat(32_001), false],
        ['text that just fits', 'text/plain', Buffer.from('ü'.repeat(32_000)), 'ü'.repeat(32_000), false],
        [
          'many bytes',
          'image/png',
          Buffer.alloc(100_000, 0xfe),
          Buffer.alloc(100_000, 0xfe).toString('base64'),
          true,
        ],
        [
          'text with every control character',
          'text/plain',
          Buffer.from(Array.from({ length: 128 }, (_, i) => i)),
          String.fromCharCode(...Array.from({ length: 128 }, (_, i) => i)),
          false,
        ],
      ])('reads %s', async (_, contentType, body, payload, base64) => {
        const agent = fresh();
        const id = await receive(agent, { contentType, body });
        const [item] = (await mailbox.pending({ agents: [agent] })).items;
        expect(item).toMatchObject({ id, contentType });
        expect(JSON.parse(item?.payloadText ?? '')).toEqual(payload);
        expect(item?.encoding).toBe(base64 ? 'base64' : undefined);
        expect(body.equals((await mailbox.body(id)).body)).toBe(true);
      });

      test('writes numbers as they were sent', async () => {
        const agent = fresh();
        const text = '{"big":12345678901234567890,"money":1.10,"e":1e400,"zero":-0}';
        await receive(agent, { body: Buffer.from(text) });
        const [item] = (await mailbox.pending({ agents: [agent] })).items;
        expect(item?.payloadText).toBe(text);
      });

      test('comes in the order of arrival, page by page, each item once', async () => {
        const agent = fresh();
        const ids: string[] = [];
        for (let n = 0; n < 25; n++) ids.push(await receive(agent));
        const first = await mailbox.pending({ agents: [agent], limit: 10 });
        expect(idsOf(first.items)).toEqual(ids.slice(0, 10));
        expect(idsOf(await everyPending(mailbox, { agents: [agent], limit: 10 }))).toEqual(ids);
        const exact = await mailbox.pending({ agents: [agent], limit: 25 });
        expect(exact.items).toHaveLength(25);
        expect(exact.next).toBeUndefined();
      });

      test('goes on after a page whose items are gone', async () => {
        const agent = fresh();
        const ids = [await receive(agent), await receive(agent), await receive(agent)];
        const page = await mailbox.pending({ agents: [agent], limit: 1 });
        await mailbox.acknowledge(idsOf(page.items), 'box');
        expect(page.next).toBeDefined();
        const rest =
          page.next === undefined ? [] : await everyPending(mailbox, { agents: [agent], after: page.next });
        expect(idsOf(rest)).toEqual(ids.slice(1));
      });

      test('takes several agents in one go, in their order', async () => {
        const [one, two, three] = [fresh(), fresh(), fresh()].sort();
        const last = await receive(three ?? '');
        const first = await receive(one ?? '');
        await receive(two ?? '');
        const items = await everyPending(mailbox, { agents: [three ?? '', one ?? ''], limit: 1 });
        expect(idsOf(items)).toEqual([first, last]);
        const all = await everyPending(mailbox, { agents: '*', limit: 100 });
        expect(idsOf(all)).toEqual(expect.arrayContaining([first, last]));
        expect(new Set(idsOf(all)).size).toBe(all.length);
      });

      test('has pages of about 10 MB, and one item on each at least', async () => {
        const agent = fresh();
        const body = Buffer.alloc(6 * 1024 * 1024, 'a');
        for (let n = 0; n < 3; n++) await receive(agent, { contentType: 'text/plain', body });
        await receive(agent);
        await receive(agent, {
          contentType: 'application/octet-stream',
          body: Buffer.alloc(12 * 1024 * 1024),
        });
        const sizes: number[] = [];
        let after: PendingRequest['after'];
        do {
          const page = await mailbox.pending({ agents: [agent], ...(after === undefined ? {} : { after }) });
          sizes.push(page.items.length);
          after = page.next;
        } while (after !== undefined);
        expect(sizes).toEqual([1, 1, 2, 1]);
      }, 30_000);

      test('refuses a limit that is none and an agent that cannot be', async () => {
        for (const limit of [0, 1001, 1.5])
          expect(await codeOf(mailbox.pending({ agents: ['main'], limit }))).toBe('invalid');
        expect(await codeOf(mailbox.pending({ agents: ['a.b'] }))).toBe('invalid');
      });

      test('names an item whose body is gone or changed, and delivers the others', async () => {
        const agent = fresh();
        const body = Buffer.alloc(50_000, 1);
        const before = await receive(agent);
        const gone = await receive(agent, { contentType: 'image/png', body });
        const changed = await receive(agent, { contentType: 'image/png', body });
        const after = await receive(agent);
        await opened.store.remove(await blobOf(opened.store, gone));
        await opened.spoil?.(await blobOf(opened.store, changed));
        const page = await mailbox.pending({ agents: [agent] });
        const broken = opened.spoil === undefined ? [gone] : [gone, changed];
        expect(page.broken?.map(({ id }) => id).sort()).toEqual(broken);
        expect(page.broken?.[0]?.reason).toContain(gone);
        expect(idsOf(page.items)).toEqual([before, ...(opened.spoil === undefined ? [changed] : []), after]);
        expect(await codeOf(mailbox.body(gone))).toBe('corrupt');
        await mailbox.drop(broken);
        expect((await mailbox.pending({ agents: [agent] })).broken).toBeUndefined();
      });

      test('passes over broken items to the first sound one', async () => {
        const agent = fresh();
        const gone = await receive(agent, { contentType: 'image/png', body: Buffer.alloc(50_000, 1) });
        const sound = await receive(agent);
        await opened.store.remove(await blobOf(opened.store, gone));
        const page = await mailbox.pending({ agents: [agent], limit: 1 });
        expect(idsOf(page.items)).toEqual([sound]);
        expect(page.broken).toHaveLength(1);
      });
    });

    describe('waiting', () => {
      test('ends with what arrives', async () => {
        const agent = fresh();
        const began = performance.now();
        const page = mailbox.pending({ agents: [agent], waitMs: 10_000 });
        await sleep(150);
        await receive(fresh());
        const id = await receive(agent);
        expect(idsOf((await page).items)).toEqual([id]);
        expect(performance.now() - began).toBeLessThan(opened.apart === true ? 4000 : 1900);
      });

      test('ends when its time is over, and not before', async () => {
        const began = performance.now();
        expect(await mailbox.pending({ agents: [fresh()], waitMs: 1000 })).toEqual({ items: [] });
        expect(performance.now() - began).toBeGreaterThan(950);
      });

      test('sees what another process has received', async () => {
        const agent = fresh();
        const page = mailbox.pending({ agents: [agent], waitMs: 10_000 });
        await sleep(100);
        // As another process does it: nobody here is told.
        const id = await receive(fresh());
        const row = positionOf(id)?.row ?? '';
        await opened.store.insert('WebhookItems', {
          partition: agent,
          id: row,
          Source: 'x',
          ReceivedAt: '',
          ContentType: '',
          Headers: '{}',
          Payload: 'x',
          Bytes: 1,
        });
        expect(idsOf((await page).items)).toEqual([`${agent}.${row}`]);
      });

      test('is not needed where something is there', async () => {
        const agent = fresh();
        await receive(agent);
        const began = performance.now();
        expect((await mailbox.pending({ agents: [agent], waitMs: 5000 })).items).toHaveLength(1);
        expect(performance.now() - began).toBeLessThan(1500);
      });
    });

    describe('a delivery id', () => {
      test('that comes again is a duplicate of the first', async () => {
        const agent = fresh();
        const first = await opened.webhooks.receive(delivery(agent, { delivery: 'one two/ü' }));
        expect(first.status).toBe('accepted');
        const again = await opened.webhooks.receive(delivery(agent, { delivery: 'one two/ü' }));
        expect(again).toEqual({ status: 'duplicate', id: first.id });
        expect(await everyPending(mailbox, { agents: [agent] })).toHaveLength(1);
      });

      test('is a duplicate also after it was delivered', async () => {
        const agent = fresh();
        const id = await receive(agent, { delivery: 'd' });
        await mailbox.acknowledge([id], 'box');
        expect(await opened.webhooks.receive(delivery(agent, { delivery: 'd' }))).toEqual({
          status: 'duplicate',
          id,
        });
        expect(await everyPending(mailbox, { agents: [agent] })).toEqual([]);
      });

      test('is another of another source, of another agent, or in another writing', async () => {
        const agent = fresh();
        const pairs: [string, string][] = [
          ['a', 'b c'],
          ['a b', 'c'],
          ['a', 'B c'],
        ];
        for (const [source, delivery] of pairs) await receive(agent, { source, delivery });
        await receive(fresh(), { source: 'a', delivery: 'b c' });
        expect(await everyPending(mailbox, { agents: [agent] })).toHaveLength(3);
      });

      test('may be of any length and is listed as far as it fits', async () => {
        const agent = fresh();
        const long = 'd'.repeat(5000);
        const id = await receive(agent, { delivery: `${long}1` });
        await receive(agent, { delivery: `${long}2` });
        expect(await receive(agent, { delivery: `${long}1` })).toBe(id);
        expect((await listed(agent)).map((item) => item.delivery?.length)).toEqual([1000, 1000]);
      });

      test('that many bring at once makes one item, whose id all are told', async () => {
        const agent = fresh();
        const racers = Array.from({ length: 20 }, () =>
          opened.webhooks.receive(
            delivery(agent, { delivery: 'race', body: Buffer.alloc(40_000, 'a'), contentType: 'text/plain' }),
          ),
        );
        const answers = await Promise.all(racers);
        expect(new Set(idsOf(answers)).size).toBe(1);
        expect(answers.filter(({ status }) => status === 'accepted')).toHaveLength(1);
        expect(await everyPending(mailbox, { agents: [agent] })).toHaveLength(1);
        expect(await collect(opened.store.list(`payloads/items/${agent}/`))).toHaveLength(1);
      });
    });

    describe('acknowledge', () => {
      test('takes items out of pending into history', async () => {
        const agent = fresh();
        const ids = [await receive(agent), await receive(agent), await receive(agent)];
        expect(await mailbox.acknowledge(ids.slice(0, 2), 'box1')).toBe(2);
        expect(idsOf(await everyPending(mailbox, { agents: [agent] }))).toEqual(ids.slice(2));
        expect((await listed(agent)).map(({ state, host }) => [state, host])).toEqual([
          ['delivered', 'box1'],
          ['delivered', 'box1'],
          ['pending', undefined],
        ]);
      });

      test('may be repeated, and takes ids that name nothing for done', async () => {
        const agent = fresh();
        const id = await receive(agent);
        const strange = [
          '',
          'x',
          '../../x',
          `${agent}.000000000`,
          'ghost.000000000',
          `${agent}.${'z'.repeat(300)}`,
        ];
        expect(await mailbox.acknowledge([id, id, ...strange], 'box')).toBe(1);
        expect(await mailbox.acknowledge([id], 'box')).toBe(0);
        expect(await mailbox.acknowledge([], 'box')).toBe(0);
        expect(await listed(agent)).toHaveLength(1);
      });

      test('takes a thousand at once, of several agents', async () => {
        const [one, two] = [fresh(), fresh()];
        const ids = await Promise.all(
          Array.from({ length: 300 }, (_, n) => receive(n % 3 === 0 ? one : two)),
        );
        expect(await mailbox.acknowledge(ids, 'box')).toBe(300);
        expect(await everyPending(mailbox, { agents: [one, two] })).toEqual([]);
        expect(await listed(one)).toHaveLength(100);
      }, 60_000);

      test('ends as one item in history when two do it at once', async () => {
        const agent = fresh();
        const id = await receive(agent);
        const answers = await Promise.all(Array.from({ length: 4 }, () => mailbox.acknowledge([id], 'box')));
        expect(answers.filter((count) => count > 0)).toEqual([1]);
        expect((await listed(agent)).map(({ id, state }) => [id, state])).toEqual([[id, 'delivered']]);
      });

      test('keeps the body', async () => {
        const agent = fresh();
        const body = Buffer.alloc(70_000, 7);
        const id = await receive(agent, { contentType: 'image/png', body });
        await mailbox.acknowledge([id], 'box');
        expect(body.equals((await mailbox.body(id)).body)).toBe(true);
      });
    });

    describe('drop', () => {
      test('takes items out of pending and says so in history', async () => {
        const agent = fresh();
        const id = await receive(agent);
        expect(await mailbox.drop([id, id])).toBe(1);
        expect(await mailbox.drop([id])).toBe(0);
        expect(await mailbox.pending({ agents: [agent] })).toEqual({ items: [] });
        const [item] = await listed(agent);
        expect(item).toMatchObject({ id, state: 'dropped' });
        expect(item?.host).toBeUndefined();
        expect(Date.parse(item?.acknowledgedAt ?? '')).toBeGreaterThan(0);
      });

      test('asks no host', async () => {
        const agent = fresh();
        const id = await receive(agent);
        await mailbox.claim(agent, 'elsewhere');
        expect(await mailbox.drop([id])).toBe(1);
      });
    });

    describe('the host of a mailbox', () => {
      test('is the first that pulls, and others are told which it is', async () => {
        const agent = fresh();
        const id = await receive(agent);
        expect((await mailbox.pending({ agents: [agent], host: 'box1' })).items).toHaveLength(1);
        const refused = await failure(mailbox.pending({ agents: [agent], host: 'box2' }));
        expect(refused.code).toBe('conflict');
        expect(refused.message).toContain(
          `The mailbox of ${agent} belongs to the host box1; \`nexus webhooks claim --agent ${agent}\` on this host takes it over.`,
        );
        expect(await codeOf(mailbox.acknowledge([id], 'box2'))).toBe('conflict');
        expect((await mailbox.pending({ agents: [agent], host: 'box1' })).items).toHaveLength(1);
        expect(await mailbox.acknowledge([id], 'box1')).toBe(1);
      });

      test('is not asked where none is named', async () => {
        const agent = fresh();
        await receive(agent);
        await mailbox.claim(agent, 'box1');
        expect((await mailbox.pending({ agents: [agent] })).items).toHaveLength(1);
      });

      test('is bound also while nothing is pending', async () => {
        const agent = fresh();
        await mailbox.pending({ agents: [agent], host: 'box1' });
        expect(await codeOf(mailbox.pending({ agents: [agent], host: 'box2' }))).toBe('conflict');
      });

      test('is bound by an acknowledge', async () => {
        const agent = fresh();
        await mailbox.acknowledge([await receive(agent)], 'box1');
        expect(await codeOf(mailbox.pending({ agents: [agent], host: 'box2' }))).toBe('conflict');
      });

      test('of one agent refuses the others along with it, and nothing is bound or done', async () => {
        const [one, two] = [fresh(), fresh()];
        const id = await receive(one);
        await mailbox.claim(two, 'box2');
        expect(await codeOf(mailbox.pending({ agents: [one, two], host: 'box1' }))).toBe('conflict');
        expect(await codeOf(mailbox.acknowledge([id, `${two}.000000000`], 'box1'))).toBe('conflict');
        expect(await mailbox.standing([one])).toMatchObject([{ agent: one, pending: 1 }]);
        expect((await mailbox.standing([one]))[0]?.host).toBeUndefined();
      });

      test('is changed by a claim, which answers who it was', async () => {
        const agent = fresh();
        expect(await mailbox.claim(agent, 'box1')).toBeUndefined();
        expect(await mailbox.claim(agent, 'box2')).toBe('box1');
        expect(await mailbox.claim(agent, 'box2')).toBe('box2');
        expect(await codeOf(mailbox.pending({ agents: [agent], host: 'box1' }))).toBe('conflict');
        expect(await mailbox.pending({ agents: [agent], host: 'box2' })).toEqual({ items: [] });
      });

      test('is one where two pull first at once', async () => {
        const agent = fresh();
        const results = await Promise.allSettled(
          ['a', 'b', 'c', 'd'].map((host) => mailbox.pending({ agents: [agent], host })),
        );
        expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      });
    });

    describe('the listing', () => {
      test('has pending and history in the order of arrival, without payloads', async () => {
        const agent = fresh();
        const ids = [
          await receive(agent, { source: 'a', delivery: 'x' }),
          await receive(agent, { source: 'b' }),
          await receive(agent, { source: 'a' }),
        ];
        await mailbox.acknowledge([ids[1] ?? ''], 'box');
        const items = await listed(agent);
        expect(idsOf(items)).toEqual(ids);
        expect(items[0]).toMatchObject({ agent, source: 'a', bytes: 7, state: 'pending', delivery: 'x' });
        expect(items[1]).toMatchObject({ state: 'delivered', host: 'box' });
        expect(items.every((item) => !('payload' in item || 'payloadText' in item))).toBe(true);
      });

      test('takes what is asked for', async () => {
        const agent = fresh();
        const ids = [
          await receive(agent, { source: 'a' }),
          await receive(agent, { source: 'b' }),
          await receive(agent, { source: 'a' }),
        ];
        await mailbox.acknowledge([ids[0] ?? ''], 'box');
        const some = async (filter: object): Promise<string[]> =>
          idsOf(await collect(mailbox.list({ agent, ...filter })));
        expect(await some({ source: 'a' })).toEqual([ids[0], ids[2]]);
        expect(await some({ state: 'pending' })).toEqual(ids.slice(1));
        expect(await some({ state: 'history' })).toEqual(ids.slice(0, 1));
        expect(await some({ after: positionOf(ids[0] ?? '') })).toEqual(ids.slice(1));
        expect(await some({ since: new Date(Date.now() - 60_000).toISOString() })).toEqual(ids);
        expect(await some({ since: new Date(Date.now() + 60_000).toISOString() })).toEqual([]);
        expect(await codeOf(some({ since: 'yesterday' }))).toBe('invalid');
      });

      test('has every agent, each in its place', async () => {
        const [one, two] = [fresh(), fresh()];
        const ids = [await receive(one), await receive(two)];
        const all = await collect(mailbox.list());
        expect(idsOf(all)).toEqual(expect.arrayContaining(ids));
        const agents = all.map((item) => item.agent);
        expect(agents).toEqual([...agents].sort());
      });
    });

    describe('one item', () => {
      test('is shown with its payload, pending and in history', async () => {
        const agent = fresh();
        const id = await receive(agent, { body: Buffer.from('{"big":12345678901234567890}') });
        expect(await mailbox.show(id)).toMatchObject({ id, agent, state: 'pending', bytes: 28 });
        await mailbox.acknowledge([id], 'box');
        const shown = await mailbox.show(id);
        expect(shown).toMatchObject({ id, state: 'delivered', host: 'box' });
        expect(shown?.payloadText).toBe('{"big":12345678901234567890}');
      });

      test('that is not there is not shown', async () => {
        for (const id of ['', 'x', 'main.000000000', 'a b.000000000'])
          expect(await mailbox.show(id), id).toBeUndefined();
        expect(await codeOf(mailbox.body('main.000000000'))).toBe('not_found');
      });
    });

    describe('replay', () => {
      test('makes an item of history pending again, as a new one', async () => {
        const agent = fresh();
        const body = Buffer.alloc(70_000, 'a');
        const id = await receive(agent, { contentType: 'text/plain', body, delivery: 'd' });
        await mailbox.acknowledge([id], 'box');
        const again = await mailbox.replay(id, randomUUID());
        expect(again).not.toBe(id);
        expect(again > id).toBe(true);
        const [item] = await everyPending(mailbox, { agents: [agent] });
        expect(item).toMatchObject({
          id: again,
          replayOf: id,
          source: 'github',
          payloadText: JSON.stringify(body.toString()),
        });
        expect(await blobOf(opened.store, again)).not.toBe(await blobOf(opened.store, id));
        expect((await listed(agent)).map(({ delivery }) => delivery)).toEqual(['d', 'd']);
        expect(await receive(agent, { delivery: 'd' })).toBe(id);
      });

      test('answers the same id when it is repeated, also after that was delivered', async () => {
        const agent = fresh();
        const id = await receive(agent);
        await mailbox.drop([id]);
        const request = randomUUID();
        const made = await Promise.all([mailbox.replay(id, request), mailbox.replay(id, request)]);
        expect(new Set(made).size).toBe(1);
        await mailbox.acknowledge(made, 'box');
        expect(await mailbox.replay(id, request)).toBe(made[0]);
        expect(await everyPending(mailbox, { agents: [agent] })).toEqual([]);
        expect(await mailbox.replay(id, randomUUID())).not.toBe(made[0]);
      });

      test('refuses what is pending, what is unknown, and a request that was for another', async () => {
        const agent = fresh();
        const [pending, one, two] = [await receive(agent), await receive(agent), await receive(agent)];
        await mailbox.acknowledge([one, two], 'box');
        expect(await codeOf(mailbox.replay(pending, randomUUID()))).toBe('conflict');
        expect(await codeOf(mailbox.replay(`${agent}.000000000`, randomUUID()))).toBe('not_found');
        const request = randomUUID();
        await mailbox.replay(one, request);
        expect(await codeOf(mailbox.replay(two, request))).toBe('conflict');
      });
    });

    describe('what a host fetched in the place of its sender', () => {
      const finished = '2026-11-23T10:05:07Z';
      const fetched = (agent: string, over: Partial<Fetched> = {}): Fetched => ({
        agent,
        source: 'putio',
        contentType: 'application/x-www-form-urlencoded',
        body: Buffer.from('id=7&name=Film'),
        delivery: `7 ${finished}`,
        otherwise: { delivery: '7', since: '2026-11-23T09:05:07Z' },
        ...over,
      });
      const callback = { source: 'putio', contentType: 'application/x-www-form-urlencoded' };

      test('is pending as a delivery is, and marked, also when it is replayed', async () => {
        const agent = fresh();
        const { status, id } = await mailbox.add(fetched(agent));
        expect(status).toBe('accepted');
        const [item] = (await mailbox.pending({ agents: [agent] })).items;
        expect(item).toMatchObject({ id, source: 'putio', headers: {}, reconciled: true });
        expect(item?.payloadText).toBe('{"id":"7","name":"Film"}');
        await mailbox.acknowledge([id]);
        const again = await mailbox.replay(id, randomUUID());
        expect(await mailbox.show(again)).toMatchObject({ reconciled: true, replayOf: id });
      });

      test('is a duplicate the second time, also when it was acknowledged', async () => {
        const agent = fresh();
        const { id } = await mailbox.add(fetched(agent));
        expect(await mailbox.add(fetched(agent))).toEqual({ status: 'duplicate', id });
        await mailbox.acknowledge([id]);
        expect(await mailbox.add(fetched(agent))).toEqual({ status: 'duplicate', id });
      });

      test.each(['7', `7 ${finished}`])('is what came before it as %s', async (known) => {
        const agent = fresh();
        const id = await receive(agent, { ...callback, delivery: known });
        expect(await mailbox.add(fetched(agent))).toEqual({ status: 'duplicate', id });
        expect(await listed(agent)).toHaveLength(1);
      });

      test.each(['7', `7 ${finished}`])('is what comes late as %s', async (known) => {
        const agent = fresh();
        const { id } = await mailbox.add(fetched(agent));
        const late = await opened.webhooks.receive(delivery(agent, { ...callback, delivery: known }));
        expect(late).toEqual({ status: 'duplicate', id });
        expect(await listed(agent)).toHaveLength(1);
      });

      test('is another than what came under its other id long before, and than what finishes later', async () => {
        const agent = fresh();
        await receive(agent, { ...callback, delivery: '7' });
        const later = new Date(Date.now() + 3_600_000).toISOString();
        const first = fetched(agent, { otherwise: { delivery: '7', since: later } });
        expect(await mailbox.add(first)).toMatchObject({ status: 'accepted' });
        expect(await mailbox.add(first)).toMatchObject({ status: 'duplicate' });
        const next = fetched(agent, { delivery: '7 2026-11-24T00:00:00Z' });
        expect(await mailbox.add({ ...next, otherwise: { delivery: '8', since: finished } })).toMatchObject({
          status: 'accepted',
        });
        const third = fetched(agent, { delivery: '7 2026-11-25T00:00:00Z' });
        expect(await mailbox.add({ ...third, otherwise: { delivery: '8', since: finished } })).toMatchObject({
          status: 'accepted',
        });
        expect(await listed(agent)).toHaveLength(4);
      });

      test('is refused where the mailbox is bound to another host, and binds it where it is said', async () => {
        const agent = fresh();
        await mailbox.add(fetched(agent));
        await mailbox.add(fetched(agent, { delivery: '8', host: 'box' }));
        expect(await mailbox.claim(agent, 'elsewhere')).toBe('box');
        expect(await codeOf(mailbox.add(fetched(agent, { delivery: '9', host: 'box' })))).toBe('conflict');
        expect(await listed(agent)).toHaveLength(2);
      });

      test('is one with the callback when both come at once', async () => {
        const agent = fresh();
        for (let n = 0; n < 12; n++) {
          const other = `${n}`;
          const own = `${n} ${finished}`;
          const item = fetched(agent, { delivery: own, otherwise: { delivery: other, since: finished } });
          const known = n % 2 === 0 ? own : other;
          const answers = await Promise.all([
            mailbox.add(item),
            opened.webhooks.receive(delivery(agent, { ...callback, delivery: known })),
            mailbox.add(item),
            opened.webhooks.receive(delivery(agent, { ...callback, delivery: known })),
          ]);
          expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
          expect(answers.filter(({ status }) => status === 'accepted')).toHaveLength(1);
        }
        expect(await listed(agent)).toHaveLength(12);
      });
    });

    describe('standing', () => {
      test('counts what is pending', async () => {
        const agent = fresh();
        const id = await receive(agent, { body: Buffer.from('12345') });
        await receive(agent, { body: Buffer.from('123') });
        const oldest = (await mailbox.show(id))?.receivedAt;
        expect(await mailbox.standing([agent])).toEqual([{ agent, pending: 2, bytes: 8, oldestAt: oldest }]);
        await mailbox.acknowledge([id], 'box');
        expect(await mailbox.standing([agent])).toMatchObject([{ pending: 1, bytes: 3, host: 'box' }]);
      });

      test('has every mailbox where none is named', async () => {
        const [one, two, empty] = [fresh(), fresh(), fresh()];
        await receive(one);
        await mailbox.drop([await receive(empty)]);
        await mailbox.acknowledge([await receive(two)], 'box');
        const agents = (await mailbox.standing()).map(({ agent }) => agent);
        expect(agents).toEqual(expect.arrayContaining([one, two]));
        expect(agents).not.toContain(empty);
      });
    });
  });
}
