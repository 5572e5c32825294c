import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openClient } from '../../src/http/client.ts';
import type { Damaged, Nexus } from '../../src/nexus.ts';
import { keyWith, listeningEndpoint, openEndpoint } from './endpoint.ts';
import { badWayTo } from './faults.ts';

const url = '/api/store/damage';
const retries = { tries: 3, baseMs: 1, maxMs: 1 };
const linesIn = (body: string): unknown[] =>
  body
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
const one: Damaged = { item: 'main/x', reason: 'It rotted.', agent: 'main' };
const other: Damaged = { item: 'store.sqlite', reason: 'It rotted too.' };

/** An endpoint that is looked through so, and how it stands with that. */
async function looking(look: (signal: AbortSignal) => AsyncIterable<Damaged>, signMs = 20) {
  const looks = { begun: 0, atOnce: 0, most: 0 };
  const over = (sessions: Nexus): Nexus => ({
    ...sessions,
    async *damage(signal = new AbortController().signal) {
      looks.begun++;
      looks.most = Math.max(looks.most, ++looks.atOnce);
      try {
        yield* look(signal);
      } finally {
        looks.atOnce--;
      }
    },
  });
  return { ...(await listeningEndpoint({ over, limits: { signMs, silenceMs: 800 } })), looks };
}

async function collect(nexus: Nexus, signal?: AbortSignal): Promise<Damaged[]> {
  const found: Damaged[] = [];
  for await (const damaged of nexus.damage(signal)) found.push(damaged);
  return found;
}

/** Until it is stopped. */
async function* endless(signal: AbortSignal): AsyncIterable<Damaged> {
  await sleep(60_000, undefined, { signal });
  yield one;
}

async function until(holds: () => boolean): Promise<void> {
  for (let n = 0; n < 200 && !holds(); n++) await sleep(10);
  expect(holds()).toBe(true);
}

test('a look that is silent for longer than anybody waits comes to its end', async () => {
  const { url: endpoint, looks } = await looking(async function* () {
    yield one;
    await sleep(2500);
    yield other;
  });
  expect(await collect(openClient({ endpoint, retries, timeoutMs: 800 }))).toEqual([one, other]);
  expect(looks.begun).toBe(1);
});

test('what is damaged is told as it is found', async () => {
  const { url: endpoint } = await looking(async function* (signal) {
    yield one;
    yield* endless(signal);
  });
  for await (const found of openClient({ endpoint, retries }).damage()) {
    expect(found).toEqual(one);
    break;
  }
});

test('an answer that was cut short is no look that found nothing more', async () => {
  const { url: target } = await looking(async function* () {
    yield one;
    yield other;
  });
  const { url: endpoint, seen } = await badWayTo(target, [{ cutAt: 70 }, { cutAt: 5 }]);
  expect(await collect(openClient({ endpoint, retries }))).toEqual([one, other]);
  expect(seen).toHaveLength(3);
  const never = await badWayTo(target, [{ cutAt: 0 }, { cutAt: 70 }, { cutAt: 110 }]);
  await expect(collect(openClient({ endpoint: never.url, retries }))).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('cut short 3 times'),
  });
});

test('a look that fails is an answer cut short, and its reason is in the log', async () => {
  const { url: endpoint, log } = await looking(async function* () {
    yield one;
    await sleep(50);
    throw new NexusError('unavailable', 'The disk is gone.');
  });
  await expect(collect(openClient({ endpoint, retries }))).rejects.toMatchObject({ code: 'unavailable' });
  expect(log.join('\n')).toContain('did not come to its end');
});

test('a look ends when who asked has gone', async () => {
  const { url: endpoint, looks, log } = await looking(endless);
  const leaving = new AbortController();
  const asked = collect(openClient({ endpoint, retries }), leaving.signal);
  await until(() => looks.atOnce === 1);
  leaving.abort();
  await expect(asked).rejects.toThrow('aborted');
  await until(() => looks.atOnce === 0);
  expect(log.join('\n')).not.toMatch(/internal error|did not come/);
});

test('looks are made one at a time, and none for those who left before their turn', async () => {
  let go = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  const { url: endpoint, looks } = await looking(async function* () {
    yield one;
    await gate;
  });
  const client = openClient({ endpoint, retries, timeoutMs: 800 });
  const leaving = new AbortController();
  const first = collect(client);
  await until(() => looks.begun === 1);
  const left = collect(client, leaving.signal);
  const third = collect(client);
  await sleep(1500);
  leaving.abort();
  await expect(left).rejects.toThrow('aborted');
  await sleep(50);
  go();
  expect(await Promise.all([first, third])).toEqual([[one], [one]]);
  expect(looks).toEqual({ begun: 2, atOnce: 0, most: 1 });
});

test('no more than a few wait for their turn', async () => {
  const { url: endpoint, looks } = await looking(endless);
  const leaving = new AbortController();
  const { signal } = leaving;
  const asked = Array.from({ length: 8 }, () => fetch(`${endpoint}${url}`, { signal }));
  for (const answer of await Promise.all(asked)) expect(answer.status).toBe(200);
  const refused = await fetch(`${endpoint}${url}`);
  expect([refused.status, refused.headers.get('nexus-error')]).toEqual([503, 'busy']);
  expect(refused.headers.get('retry-after')).toBe('300');
  leaving.abort();
  await until(() => looks.atOnce === 0);
  const again = new AbortController();
  expect((await fetch(`${endpoint}${url}`, { signal: again.signal })).status).toBe(200);
  again.abort();
});

test('a key hears only of what is damaged of its agents', async () => {
  const everybody = keyWith(['upload']);
  const mains = keyWith(['upload'], ['main']);
  const named = keyWith(['upload'], ['inbox', 'items', 'sessions', 'jsonl', 'agents', 'latched']);
  const { app, sessions, store, spoil } = await openEndpoint({
    keys: [everybody.key, { ...mains.key, name: 'mains' }, { ...named.key, name: 'named' }],
  });
  for (const [agent, transcript] of [
    ['main', 'x'],
    ['secret', 'main'],
  ] as const) {
    await sessions.append(agent, transcript, 0, Buffer.from('0123456789'), { complete: true, about: {} });
    await spoil(`sessions/inbox/${agent}/${transcript}.jsonl`);
  }
  await store.create('payloads/items/main/x', Buffer.from('body'));
  await spoil('payloads/items/main/x');
  const hears = async ({ text }: { text: string }, items: string[]): Promise<void> => {
    const { body } = await app.inject({ url, headers: { 'x-functions-key': text } });
    const said = items.map((item): unknown => expect.objectContaining({ item }));
    expect(linesIn(body)).toEqual([...said, { end: true }]);
  };
  const ofMain = ['payloads/items/main/x', 'sessions/inbox/main/x.jsonl'];
  await hears(everybody, [...ofMain, 'sessions/inbox/secret/main.jsonl']);
  await hears(mains, ofMain);
  await hears(named, []);
});
