import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { damageIn } from '../src/damage.ts';
import type { Damaged, Nexus } from '../src/nexus.ts';
import { openSessions } from '../src/sessions.ts';
import type { Store } from '../src/stores/store.ts';
import { type TestStore, temporaryStore } from './port/local.ts';

let stored: TestStore;
let sessions: Nexus;

beforeEach(async () => {
  stored = await temporaryStore();
  sessions = openSessions(stored.store);
  for (const transcript of ['a', 'b'])
    await sessions.append('main', transcript, 0, Buffer.from('0123456789'), { complete: true, about: {} });
});
afterEach(() => stored.remove());

async function damage(store: Store = stored.store): Promise<Damaged[]> {
  const found: Damaged[] = [];
  for await (const one of damageIn(store)) found.push(one);
  return found;
}

function rotRow(table: string, id: string): void {
  const db = new DatabaseSync(path.join(stored.directory, 'store', 'store.sqlite'));
  const { changes } = db.prepare('UPDATE rows SET sum = 1 WHERE tbl = ? AND id = ?').run(table, id);
  db.close();
  expect(changes).toBe(1);
}

test('what is damaged is told with the agent that it is of, where it is of one', async () => {
  await stored.store.insert('Jobs', { partition: 'jobs', id: 'upload', at: 1 });
  for (const [table, id] of [
    ['Sessions', 'a'],
    ['Agents', 'main'],
    ['Jobs', 'upload'],
  ] as const)
    rotRow(table, id);
  await stored.spoil('sessions/inbox/main/b.jsonl');
  const found = await damage();
  expect(new Map(found.map(({ item, agent }) => [item, agent]))).toEqual(
    new Map([
      ['Agents agents/main', 'main'],
      ['Jobs jobs/upload', undefined],
      ['Sessions main/a', 'main'],
      ['sessions/inbox/main/b.jsonl', 'main'],
    ]),
  );
  expect(found).toHaveLength(4);
});

test('what the store has not named is named where it is read', async () => {
  rotRow('Sessions', 'a');
  await stored.spoil('sessions/inbox/main/b.jsonl');
  // As where it rots in between.
  const found = await damage({ ...stored.store, async *damage() {} });
  expect(found.map(({ item, agent }) => [item, agent])).toEqual([
    ['Sessions main/a', 'main'],
    ['main/b', 'main'],
  ]);
});

test('a look is ended by its signal, before and after the store has had its own', async () => {
  rotRow('Sessions', 'a');
  for (const store of [stored.store, { ...stored.store, async *damage() {} }]) {
    const stop = new AbortController();
    const reason = new Error('enough');
    const seen: string[] = [];
    const look = async (): Promise<void> => {
      for await (const { item } of damageIn(store, stop.signal)) {
        seen.push(item);
        stop.abort(reason);
      }
    };
    await expect(look()).rejects.toBe(reason);
    expect(seen).toEqual(['Sessions main/a']);
  }
});
