import { createHash } from 'node:crypto';
import { expect, onTestFinished, test } from 'vitest';
import type { Card, Nexus } from '../src/nexus.ts';
import { openSessions } from '../src/sessions.ts';
import type { Store } from '../src/stores/store.ts';
import { temporaryStore } from './port/local.ts';

const more = { complete: false, about: {} };
const bytesOf = (text: string) => Buffer.from(text);
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

async function open(
  over: (store: Store) => Partial<Store> = () => ({}),
): Promise<{ sessions: Nexus; store: Store }> {
  const { store, remove } = await temporaryStore();
  onTestFinished(remove);
  return { sessions: openSessions({ ...store, ...over(store) }), store };
}

test('the digest of a transcript that came in chunks is known without reading it again', async () => {
  const { sessions } = await open(() => ({
    open: () => {
      throw new Error('read again');
    },
  }));
  await sessions.append('main', 'x', 0, bytesOf('one\n'), more);
  await sessions.append('main', 'x', 4, bytesOf('two\n'), more);
  expect((await sessions.stat('main', 'x'))?.digest).toBe(sha256('one\ntwo\n'));
});

test('a digest survives a completion that brings no byte', async () => {
  const { sessions, store } = await open();
  await sessions.append('main', 'x', 0, bytesOf('one\n'), more);
  // Another process, which has not seen the bytes pass by.
  await openSessions(store).append('main', 'x', 4, new Uint8Array(), { complete: true, about: {} });
  expect(await sessions.stat('main', 'x')).toMatchObject({ digest: sha256('one\n'), complete: true });
});

test('a digest is not carried over bytes that another process has added', async () => {
  const { sessions, store } = await open();
  await sessions.append('main', 'x', 0, bytesOf('one\n'), more);
  await openSessions(store).append('main', 'x', 4, bytesOf('two\n'), more);
  await sessions.append('main', 'x', 8, bytesOf('three\n'), more);
  expect((await sessions.stat('main', 'x'))?.digest).toBeUndefined();
  expect((await sessions.stat('main', 'x', { digest: 'stored' }))?.digest).toBe(sha256('one\ntwo\nthree\n'));
});

test('an agent is named before its first bytes are stored, so that a crash hides none', async () => {
  const { sessions, store } = await open((store) => ({
    append: async (...step) => {
      await store.append(...step);
      throw new Error('killed');
    },
  }));
  await expect(sessions.append('new', 'x', 0, bytesOf('one\n'), more)).rejects.toThrow('killed');
  const cards = [];
  for await (const card of openSessions(store).list())
    cards.push(`${card.agent}/${card.transcript} ${card.length}`);
  expect(cards).toEqual(['new/x 4']);
});

test('an agent whose name was lost is still listed by its transcripts', async () => {
  const { store } = await open();
  await openSessions(store).append('main', 'a', 0, bytesOf('one\n'), more);
  await store.removeRows('Agents', 'agents', ['main']);
  const cards: Card[] = [];
  for await (const card of openSessions(store).list()) cards.push(card);
  expect(cards.map(({ agent, transcript }) => [agent, transcript])).toEqual([['main', 'a']]);
});

test('an append that arrives while a digest is computed keeps its card', async () => {
  let during: (() => Promise<void>) | undefined;
  const { store } = await open();
  const sessions = openSessions({
    ...store,
    async *open(...range) {
      yield* store.open(...range);
      await during?.();
    },
  });
  await store.append('sessions/inbox/main/x.jsonl', 0, bytesOf('one\n'));
  await sessions.stat('main', 'x');
  during = async () => {
    await openSessions(store).append('main', 'x', 4, bytesOf('two\n'), {
      complete: true,
      about: { host: 'box' },
    });
  };
  expect((await sessions.stat('main', 'x', { digest: 'stored' }))?.digest).toBe(sha256('one\n'));
  during = undefined;
  expect(await sessions.stat('main', 'x', { digest: 'reread' })).toMatchObject({
    length: 8,
    complete: true,
    host: 'box',
    digest: sha256('one\ntwo\n'),
  });
});

test('a card is stamped when the transcript was begun and when it last grew', async () => {
  const { store } = await open();
  let time = '2026-11-01T00:00:00.000Z';
  const sessions = openSessions(store, () => new Date(time));
  await sessions.append('main', 'x', 0, bytesOf('one\n'), more);
  time = '2026-11-02T00:00:00.000Z';
  await sessions.append('main', 'x', 4, bytesOf('two\n'), more);
  expect(await sessions.stat('main', 'x')).toMatchObject({
    storedAt: '2026-11-01T00:00:00.000Z',
    updatedAt: '2026-11-02T00:00:00.000Z',
  });
});

test('a blob that somebody took away is told to be gone, and not to be whole', async () => {
  const { sessions, store } = await open();
  await sessions.append('main', 'x', 0, bytesOf('one\n'), { complete: true, about: {} });
  await store.remove('sessions/inbox/main/x.jsonl');
  expect(await sessions.stat('main', 'x')).toMatchObject({ length: 0, complete: false });
});
