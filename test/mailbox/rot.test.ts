import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BrokenItem, positionOf, type Webhooks } from '../../src/mailbox.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { type TestStore, temporaryStore } from '../port/local.ts';
import { codeOf, collect } from '../stores/outcomes.ts';
import { delivery } from './suite.ts';

let opened: TestStore;
let webhooks: Webhooks;
let ids: string[];
const most = { items: 10, bytes: 0 };

beforeEach(async () => {
  opened = await temporaryStore();
  webhooks = openWebhooks(opened.store);
  ids = [];
  for (let n = 0; n < 3; n++) ids.push((await webhooks.receive(delivery('main', { most }))).id);
});
afterEach(() => opened.remove());

/** Changes what is stored of an item, behind the store's back. */
function rot(table: string, id: string | undefined, from: string, to: string): void {
  const db = new DatabaseSync(path.join(opened.directory, 'store', 'store.sqlite'));
  const key = positionOf(id ?? '')?.row ?? '';
  db.prepare('UPDATE rows SET json = replace(json, ?, ?) WHERE tbl = ? AND id = ?').run(from, to, table, key);
  db.close();
}

const listed = async () => {
  const broken: BrokenItem[] = [];
  const items = await collect(webhooks.list({ agent: 'main', broken: (item) => broken.push(item) }));
  return { items: items.map(({ id }) => id), broken: broken.map(({ id }) => id) };
};

test('an item whose row rotted is named, and keeps no other from its host and no other from the mailbox', async () => {
  const [first, rotten = '', last] = ids;
  rot('WebhookItems', rotten, '"n', '"m');
  const page = await webhooks.pending({ agents: ['main'], limit: 1 });
  expect([page.items.map(({ id }) => id), page.broken]).toEqual([[first], undefined]);
  const next = await webhooks.pending({ agents: ['main'], ...(page.next && { after: page.next }) });
  expect(next.items.map(({ id }) => id)).toEqual([last]);
  expect(next.broken).toEqual([{ id: rotten, reason: expect.stringContaining('not what was stored') }]);
  expect(await listed()).toEqual({ items: [first, last], broken: [rotten] });
  expect(await codeOf(collect(webhooks.list()))).toBe('corrupt');
  expect(await codeOf(webhooks.body(rotten))).toBe('corrupt');
  const other = openWebhooks(opened.store);
  expect((await other.receive(delivery('main', { most }))).status).toBe('accepted');
  expect((await webhooks.standing(['main']))[0]?.pending).toBe(4);
});

test('one that rotted after it was delivered is acknowledged, and one that is given up is dropped', async () => {
  for (const id of ids.slice(1)) rot('WebhookItems', id, '"n', '"m');
  expect(await webhooks.acknowledge(ids.slice(0, 2), 'box')).toBe(2);
  expect(await webhooks.drop(ids)).toBe(1);
  expect((await webhooks.pending({ agents: ['main'] })).broken).toBeUndefined();
  expect(await listed()).toEqual({ items: ids, broken: [] });
  for (const id of ids.slice(1)) expect(await codeOf(webhooks.body(id))).toBe('corrupt');
});

test('a mailbox whose binding rotted is claimed by its host', async () => {
  await webhooks.pending({ agents: ['main'], host: 'box' });
  const db = new DatabaseSync(path.join(opened.directory, 'store', 'store.sqlite'));
  db.exec("UPDATE rows SET json = replace(json, 'box', 'box2') WHERE tbl = 'Mailboxes'");
  db.close();
  expect(await codeOf(webhooks.pending({ agents: ['main'], host: 'box' }))).toBe('corrupt');
  expect(await webhooks.claim('main', 'box')).toBeUndefined();
  expect((await webhooks.pending({ agents: ['main'], host: 'box' })).items).toHaveLength(3);
});

test('a payload in a row is what its digest says, where the store keeps no sum of the row', async () => {
  const db = new DatabaseSync(path.join(opened.directory, 'store', 'store.sqlite'));
  db.exec("DELETE FROM facts WHERE name = 'sums'; UPDATE rows SET sum = NULL");
  db.close();
  const other = await import('../../src/stores/local.ts').then(({ openLocalStore }) =>
    openLocalStore(path.join(opened.directory, 'store')),
  );
  rot('WebhookItems', ids[1], '{\\"n\\":1}', '{\\"n\\":3}');
  const page = await openWebhooks(other).pending({ agents: ['main'] });
  expect(page.items.map(({ id }) => id)).toEqual([ids[0], ids[2]]);
  expect(page.broken?.map(({ id }) => id)).toEqual([ids[1]]);
  await other.close();
});
