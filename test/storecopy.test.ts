import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { openSessions } from '../src/sessions.ts';
import { type Copied, type CopyOptions, copyStore } from '../src/storecopy.ts';
import { agentsOf } from '../src/storecontents.ts';
import { openAzureStore } from '../src/stores/azure.ts';
import { openLocalStore } from '../src/stores/local.ts';
import { type Store, rowOf } from '../src/stores/store.ts';
import { type Azurite, freshPrefix, startAzurite } from './stores/azurite.ts';
import { bytes, codeOf, collect, text } from './stores/outcomes.ts';

let azurite: Azurite;
let directory: string;
let local: Store;
let azure: Store;

beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-copy-'));
  local = await openLocalStore(directory);
  azure = await openAzureStore({ connectionString: azurite.connectionString, prefix: freshPrefix() });
});
afterEach(async () => {
  await Promise.all([local.close(), azure.close()]);
  await rm(directory, { recursive: true });
});

const about = { host: 'box', sessionKey: 'agent:main:x' };

/** Three agents with transcripts, one of them of several pieces, one without bytes, and rows and blobs of mail. */
async function fill(store: Store): Promise<void> {
  const sessions = openSessions(store);
  for (const agent of ['main', 'work'])
    for (const [i, id] of ['a', 'b', 'b~2', 'c-topic-1'].entries())
      await sessions.append(agent, id, 0, bytes(`${agent} ${id}\n`.repeat(i + 1)), {
        complete: i % 2 === 0,
        about,
      });
  const large = Buffer.alloc(9_000_000, 'large\n');
  for (let at = 0; at < large.length; at += 3_000_000)
    await sessions.append('main', 'large', at, large.subarray(at, at + 3_000_000), {
      complete: false,
      about,
    });
  await sessions.append('main', 'empty', 0, bytes(''), { complete: true, about });
  await store.append('sessions/inbox/orphan/x.jsonl', 0, bytes('a crash took its card\n'));
  await store.create('payloads/main/one.json', bytes('{}'));
  await store.create('payloads/main/none', bytes(''));
  await store.insert('WebhookItems', { partition: 'main', id: 'i1', payload: 'one.json', n: 1.5, yes: true });
  await store.insert('History', { partition: 'work', id: 'h1' });
  await sessions.setMark('main', 'box', 'mark');
}

function copy(from: Store, to: Store, options: Partial<CopyOptions> = {}): Promise<Copied> {
  const { signal } = new AbortController();
  return copyStore(from, to, {
    concurrency: 4,
    verify: false,
    signal,
    progress: () => undefined,
    ...options,
  });
}

/** Everything that a copy takes along, by name, and every transcript's card. */
async function contentOf(store: Store): Promise<Record<string, unknown>> {
  const content: Record<string, unknown> = { agents: await agentsOf(store) };
  for (const container of ['sessions/', 'payloads/'])
    for await (const { name } of store.list(container))
      content[name] = createHash('sha256')
        .update(await text(store.open(name)))
        .digest('hex');
  for (const table of ['Sessions', 'WebhookItems', 'History'])
    for (const partition of ['main', 'work', 'orphan'])
      content[`${table} ${partition}`] = await collect(store.rows(table, partition));
  return content;
}

test.each([
  ['the embedded one to Azure', () => [local, azure] as const],
  ['Azure to the embedded one', () => [azure, local] as const],
])('everything is copied from %s, but the id and the marks', async (_, stores) => {
  const [from, to] = stores();
  await fill(from);
  const before = await contentOf(from);
  const copied = await copy(from, to);
  expect(copied).toMatchObject({
    blobs: { found: 12, copied: 12, already: 0 },
    rows: { already: 0, kept: 0 },
    failed: [],
  });
  expect(copied.rows.copied).toBe(copied.rows.found);
  expect(await contentOf(to)).toEqual(before);
  expect(await contentOf(from)).toEqual(before);
  expect(await to.id()).not.toBe(await from.id());
  expect(await openSessions(to).mark('main', 'box')).toBeUndefined();
});

test('run again, it finds all there and reads none of it', async () => {
  await fill(local);
  await copy(local, azure);
  let read = 0;
  const watched: Store = {
    ...azure,
    open(name, from, to) {
      if (name.startsWith('sessions/inbox/main/')) read++;
      return azure.open(name, from, to);
    },
  };
  const again = await copy(local, watched);
  expect(again).toMatchObject({ blobs: { found: 12, copied: 0, already: 12 }, bytes: 0, failed: [] });
  expect(again.rows.copied).toBe(0);
  expect(read).toBe(0);
  await copy(local, watched, { verify: true });
  expect(read).toBeGreaterThan(4);
});

test('stopped in the middle, it goes on from there', async () => {
  await fill(local);
  const stop = new AbortController();
  const first = await copy(local, azure, {
    concurrency: 1,
    signal: stop.signal,
    progress: ({ blobs }) => {
      if (blobs === 3) stop.abort();
    },
  });
  expect(first.blobs.copied).toBe(3);
  const second = await copy(local, azure);
  expect(second).toMatchObject({ blobs: { already: 3, copied: 9 }, failed: [] });
  expect(await contentOf(azure)).toEqual(await contentOf(local));
});

test('a transcript that is there in part goes on from where it ends, also after a copy', async () => {
  const sessions = openSessions(local);
  await sessions.append('main', 'a', 0, bytes('one\n'), { complete: false, about });
  await copy(local, azure);
  await sessions.append('main', 'a', 4, bytes('two\n'), { complete: true, about });
  expect(await copy(local, azure)).toMatchObject({ bytes: 4, failed: [] });
  expect(await text(azure.open('sessions/inbox/main/a.jsonl'))).toBe('one\ntwo\n');
  const there = openSessions(azure);
  expect(await there.append('main', 'a', 8, bytes('three\n'), { complete: false, about })).toBe(14);
  expect(await there.stat('main', 'a', { digest: 'reread' })).toMatchObject({ length: 14 });
});

test('an agent whose name was lost has it again in the copy', async () => {
  await fill(local);
  await local.removeRows('Agents', 'agents', ['main', 'work']);
  await copy(local, azure);
  expect((await collect(azure.rows('Agents', 'agents'))).map(({ id }) => id)).toEqual(
    expect.arrayContaining(['main', 'work']),
  );
});

test('what has gone on in the other store is left as it is', async () => {
  const sessions = openSessions(local);
  await sessions.append('main', 'a', 0, bytes('one\n'), { complete: false, about });
  await copy(local, azure);
  await openSessions(azure).append('main', 'a', 4, bytes('more\n'), { complete: true, about });
  expect(await copy(local, azure)).toMatchObject({ blobs: { already: 1 }, bytes: 0, failed: [] });
  expect(await openSessions(azure).stat('main', 'a', { digest: 'reread' })).toMatchObject({
    length: 9,
    complete: true,
  });
});

test('a transcript that differs is reported and neither is changed, and the others are copied', async () => {
  await openSessions(local).append('main', 'a', 0, bytes('ours\n'), { complete: true, about });
  await openSessions(local).append('main', 'b', 0, bytes('b\n'), { complete: true, about });
  await openSessions(azure).append('main', 'a', 0, bytes('their\n'), { complete: true, about });
  await local.create('payloads/main/p', bytes('ours'));
  await azure.create('payloads/main/p', bytes('them'));
  const copied = await copy(local, azure);
  expect(copied.failed.map(({ item }) => item).sort()).toEqual([
    'payloads/main/p',
    'sessions/inbox/main/a.jsonl',
  ]);
  expect(copied.blobs.copied).toBe(1);
  expect(await text(azure.open('sessions/inbox/main/a.jsonl'))).toBe('their\n');
  expect(await text(local.open('sessions/inbox/main/a.jsonl'))).toBe('ours\n');
});

test('bytes that are not what their card says by digest are reported', async () => {
  await openSessions(local).append('main', 'a', 0, bytes('ours\n'), { complete: true, about });
  const card = await rowOf(local, 'Sessions', 'main', 'a');
  if (card === undefined) throw new Error('no card');
  await local.put('Sessions', { ...card, digest: 'f'.repeat(64) });
  expect((await copy(local, azure)).failed).toEqual([
    { item: 'sessions/inbox/main/a.jsonl', reason: expect.stringMatching(/digest/) },
  ]);
});

test('a row that the other store has otherwise stays', async () => {
  await openSessions(local).append('main', 'a', 0, bytes('x\n'), { complete: true, about });
  await local.insert('History', { partition: 'main', id: 'h', n: 1 });
  await azure.insert('History', { partition: 'main', id: 'h', n: 2 });
  expect((await copy(local, azure)).rows.kept).toBe(1);
  expect(await rowOf(azure, 'History', 'main', 'h')).toMatchObject({ n: 2 });
});

test('bytes that arrive spoiled are reported, not copied', async () => {
  await openSessions(local).append('main', 'a', 0, bytes('ours\n'), { complete: true, about });
  const spoiling: Store = {
    ...azure,
    append: (name, offset, body) => azure.append(name, offset, Buffer.from(body).fill('x')),
  };
  const copied = await copy(local, spoiling);
  expect(copied.failed.map(({ item }) => item)).toEqual(['sessions/inbox/main/a.jsonl']);
  expect(copied.blobs.copied).toBe(0);
});

test('a store is not copied to itself', async () => {
  const again = await openLocalStore(directory);
  expect(await codeOf(copy(local, again))).toBe('usage');
  await again.close();
});

test('who is signed in, how jobs ended and what changed when stay where they are', async () => {
  await openSessions(local).append('main', 'a', 0, bytes('a\n'), { complete: true, about });
  // In a partition that bears an agent's name, where anything else would be taken along.
  const own = ['Marks', 'Changes', 'SignIns', 'Jobs'];
  for (const table of [...own, 'History']) await local.put(table, { partition: 'main', id: 'one' });
  expect((await copy(local, azure)).failed).toEqual([]);
  for (const table of own) expect(await rowOf(azure, table, 'main', 'one')).toBeUndefined();
  expect(await rowOf(azure, 'History', 'main', 'one')).toBeDefined();
});
