import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import type { ClientOptions } from '../../src/http/connection.ts';
import { openMailboxClient } from '../../src/http/mailboxclient.ts';
import type { Mailbox, Webhooks } from '../../src/mailbox.ts';
import { keyWith, listeningEndpoint } from './endpoint.ts';
import { badWayTo, type Fault, type Seen } from './faults.ts';

const retries = { tries: 3, baseMs: 1, maxMs: 2 };

interface Way {
  client: Mailbox;
  seen: Seen[];
  /** What the next requests meet. */
  faults: Fault[];
  /** The real thing behind the faults. */
  webhooks: Webhooks;
}

async function way(faults: Fault[], options: Partial<ClientOptions> = {}): Promise<Way> {
  const { url: target, webhooks } = await listeningEndpoint();
  const { url, seen } = await badWayTo(target, faults);
  return { client: openMailboxClient({ endpoint: url, retries, ...options }), seen, faults, webhooks };
}

async function receive(webhooks: Webhooks, agent = 'main', body = '{"n":1}'): Promise<string> {
  const delivery = { agent, source: 'x', contentType: 'application/json', headers: {} };
  return (await webhooks.receive({ ...delivery, body: Buffer.from(body) })).id;
}

async function failure(promise: Promise<unknown>): Promise<NexusError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof NexusError) return error;
  throw error ?? new Error('it was expected to fail');
}

test.each<[string, Fault]>([
  ['a reset', 'reset before'],
  ['a lost answer', 'reset after'],
  ['an answer cut short', { cutAt: 3 }],
  ['a 503', { status: 503 }],
])('after %s everything is asked again, and done once', async (_, fault) => {
  const { client, webhooks, faults } = await way([]);
  const [one, two] = [await receive(webhooks), await receive(webhooks)];
  faults.push(fault);
  expect((await client.pending({ agents: ['main'], host: 'box' })).items).toHaveLength(2);
  faults.push(fault);
  await client.acknowledge([one], 'box');
  faults.push(fault);
  await client.drop([two]);
  expect((await webhooks.pending({ agents: '*' })).items).toEqual([]);
  faults.push(fault);
  const again = await client.replay(one, randomUUID());
  expect((await webhooks.pending({ agents: '*' })).items.map(({ id }) => id)).toEqual([again]);
  faults.push(fault);
  await client.claim('main', 'other');
  faults.push(fault);
  expect(await client.standing()).toMatchObject([{ agent: 'main', pending: 1, host: 'other' }]);
  faults.push(fault);
  expect((await client.body(one)).body.toString()).toBe('{"n":1}');
  faults.push(fault);
  expect(await client.show(two)).toMatchObject({ state: 'dropped' });
});

test('a wait may be longer than the time for one try', async () => {
  const { client, webhooks } = await way([], { timeoutMs: 200 });
  const waiting = client.pending({ agents: ['main'], waitMs: 10_000 });
  await new Promise((resolve) => setTimeout(resolve, 600));
  const id = await receive(webhooks);
  expect((await waiting).items.map((item) => item.id)).toEqual([id]);
});

test('an endpoint that is silent beyond the wait is asked again', async () => {
  const { client, seen } = await way(['stall'], { timeoutMs: 100 });
  expect(await client.pending({ agents: ['main'], waitMs: 100 })).toEqual({ items: [] });
  expect(seen).toHaveLength(2);
});

test('a signal ends the wait with nothing, and the client goes on', async () => {
  const { client, webhooks } = await way([]);
  const enough = new AbortController();
  const waiting = client.pending({ agents: ['main'], waitMs: 60_000, signal: enough.signal });
  setTimeout(() => enough.abort(), 100);
  expect(await waiting).toEqual({ items: [] });
  const id = await receive(webhooks);
  const now = await client.pending({ agents: ['main'], waitMs: 60_000, signal: enough.signal });
  expect(now.items.map((item) => item.id)).toEqual([id]);
});

test('the signal of all that the client does ends a wait with its reason', async () => {
  const stop = new AbortController();
  const { client } = await way([], { signal: stop.signal });
  const waiting = client.pending({ agents: ['main'], waitMs: 60_000, signal: new AbortController().signal });
  setTimeout(() => stop.abort(new Error('told to stop')), 100);
  await expect(waiting).rejects.toThrow('told to stop');
});

test('an endpoint that is about to stop is not asked again and again', async () => {
  const { url, stop, closed } = await listeningEndpoint({ drainMs: 5000 });
  const client = openMailboxClient({ endpoint: url, retries });
  const waiting = client.pending({ agents: ['main'], waitMs: 60_000 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  stop();
  expect(await waiting).toEqual({ items: [] });
  await closed;
});

test('of no agents nothing is asked', async () => {
  const { client, seen } = await way([]);
  expect(await client.pending({ agents: [] })).toEqual({ items: [] });
  expect(await client.standing([])).toEqual([]);
  expect(await client.acknowledge(['nonsense', '', '../../x'], 'box')).toBe(0);
  expect(seen).toEqual([]);
});

test('what is no id is asked for nowhere', async () => {
  const { client, seen } = await way([]);
  expect(await client.show('../store')).toBeUndefined();
  for (const work of [client.body('../store'), client.replay('../store', randomUUID())])
    expect(await failure(work)).toMatchObject({ code: 'not_found' });
  for (const work of [client.claim('../x', 'box'), client.pending({ agents: ['a/b'] })])
    expect(await failure(work)).toMatchObject({ code: 'invalid' });
  expect(seen).toEqual([]);
});

test('more ids than one request takes are asked for in several, after every host was asked', async () => {
  const { client, webhooks, seen } = await way([]);
  const mine = await receive(webhooks);
  const others = await receive(webhooks, 'other');
  await webhooks.claim('other', 'another box');
  const unknown = Array.from({ length: 1500 }, (_, n) => `main.${String(n).padStart(21, '0')}`);
  expect(await failure(client.acknowledge([mine, ...unknown, others], 'box'))).toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('another box'),
  });
  expect((await webhooks.pending({ agents: ['main'] })).items).toHaveLength(1);
  expect(await client.acknowledge([...unknown, mine], 'box')).toBe(1);
  expect(seen.map(({ method }) => method)).toEqual(['DELETE', 'DELETE', 'DELETE']);
});

test('agents whose ids are numbers stay in their order', async () => {
  const { client, webhooks } = await way([]);
  const ids = [];
  for (const agent of ['main', '7', '10', 'a']) ids.push(await receive(webhooks, agent));
  const { items } = await client.pending({ agents: '*' });
  expect(items.map(({ id }) => id)).toEqual([ids[2], ids[1], ids[3], ids[0]]);
});

test('a host of any name is asked for by that name', async () => {
  const { client, webhooks } = await way([]);
  const host = "Jürgen's box, 50 %/ü";
  await client.pending({ agents: ['main'], host });
  expect(await webhooks.standing(['main'])).toMatchObject([{ host }]);
});

test('a body is not compressed on its way', async () => {
  const { client, webhooks, seen } = await way([]);
  const id = await receive(webhooks);
  expect((await client.body(id)).body.toString()).toBe('{"n":1}');
  expect(seen[0]?.headers['accept-encoding']).toBe('identity');
});

test.each<[string, Fault]>([
  ['a page of something else', { status: 200, headers: { 'nexus-store': 's' }, body: '<html>' }],
  ['no items', { status: 200, headers: { 'nexus-store': 's' }, body: '{"main":{}}' }],
  [
    'an item whose id is none',
    {
      status: 200,
      headers: { 'nexus-store': 's' },
      body: '{"main":[{"id":"../x","source":"x","receivedAt":"","contentType":"","headers":{},"payload":1}]}',
    },
  ],
  [
    'an item whose payload is no JSON',
    {
      status: 200,
      headers: { 'nexus-store': 's' },
      body: '{"main":[{"id":"main.000000001","source":"x","receivedAt":"","contentType":"","headers":{},"payload":[1,]}]}',
    },
  ],
  [
    'a page that goes on after its end',
    { status: 200, headers: { 'nexus-store': 's' }, body: '{"main":[]}{}' },
  ],
  ['what is not from Nexus', { status: 200, body: '{}' }],
  [
    'a next page that is none',
    { status: 200, headers: { 'nexus-store': 's', link: '<?x=1>; rel="next"' }, body: '{}' },
  ],
])('%s is not taken for mail', async (_, fault) => {
  const { client } = await way([fault]);
  expect(await failure(client.pending({ agents: ['main'] }))).toMatchObject({ code: 'unavailable' });
});

test('a key that is refused is told as such, at once', async () => {
  const { key } = keyWith(['pull']);
  const reader = keyWith(['read']);
  const { url } = await listeningEndpoint({ keys: [key, reader.key] });
  const asking = (text: string) => openMailboxClient({ endpoint: url, retries, key: text });
  expect(await failure(asking('wrong').pending({ agents: '*' }))).toMatchObject({ code: 'unauthorized' });
  expect(await failure(asking(reader.text).acknowledge(['main.000000000'], 'b'))).toMatchObject({
    code: 'forbidden',
  });
});
