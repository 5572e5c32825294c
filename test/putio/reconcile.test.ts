import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { onTestFinished, expect, test } from 'vitest';
import type { Config } from '../../src/config.ts';
import { NexusError } from '../../src/errors.ts';
import { keepLook, lastLook } from '../../src/jobs/looks.ts';
import { reconcileWhenDue, warningsOf } from '../../src/jobs/putiopull.ts';
import { reconcile, type Reconciled } from '../../src/jobs/reconcile.ts';
import type { Mailbox } from '../../src/mailbox.ts';
import { openPutio } from '../../src/putio/api.ts';
import { idsIn, transferIn } from '../../src/transfer.ts';
import { makePullHost, type PullHost } from '../jobs/pullhost.ts';
import { failure } from '../stores/outcomes.ts';
import { type ApiTransfer, flattened, type PutioServer, refusal, startPutio, token } from './server.ts';

const hour = 3_600_000;
const form = 'application/x-www-form-urlencoded';

interface LookOptions {
  inMs?: number;
  since?: number;
  force?: boolean;
  mailbox?: Mailbox;
  agent?: string;
  /** What the configuration says of put.io besides. */
  putio?: Partial<Config['putio']>;
}

interface Site {
  host: PullHost;
  putio: PutioServer;
  /** Runs a look so long from now. */
  look: (over?: LookOptions) => Promise<Reconciled>;
  /** As the endpoint takes a callback. */
  called: (transfer: ApiTransfer, missing?: string[]) => Promise<string>;
  config: (over?: Partial<Config['putio']>) => Config;
}

async function site(): Promise<Site> {
  const host = await makePullHost();
  onTestFinished(() => host.remove());
  const putio = await startPutio();
  const config = (over: Partial<Config['putio']> = {}) => {
    const { confirm, reconcileMinutes } = host.config().putio;
    return host.config({
      putio: { confirm, reconcileMinutes, apiBase: putio.base, token, agent: 'main', ...over },
    });
  };
  return {
    host,
    putio,
    config,
    async look({ inMs = 0, since, force, mailbox = host.webhooks, agent = 'main', putio: over } = {}) {
      const { signal } = new AbortController();
      return await reconcile(
        { agent, since, force },
        {
          config: config(over),
          mailbox,
          putio: openPutio({ base: putio.base, token, timeoutMs: 1000 }),
          signal,
          now: () => new Date(Date.now() + inMs),
        },
      );
    },
    async called(transfer, missing = []) {
      const sent = new URLSearchParams();
      for (const [name, value] of Object.entries(transfer))
        if (value !== null && !missing.includes(name)) sent.set(name, flattened(value));
      const body = Buffer.from(sent.toString());
      const ids = idsIn(JSON.stringify(Object.fromEntries(sent)));
      const { id } = await host.webhooks.receive({
        agent: 'main',
        source: 'putio',
        contentType: form,
        headers: {},
        body,
        ...ids,
      });
      return id;
    },
  };
}

test('a transfer that never called back is found, once, and one that did is not', async () => {
  const { host, putio, look, called } = await site();
  const lost = putio.add(1, {}, 2 * hour);
  await called(putio.add(2, {}, 2 * hour));
  const first = await look();
  expect(first).toMatchObject({ transfers: 2, already: 1, recent: 0, elsewhere: 0, failed: [], gone: [] });
  expect(first.found).toEqual([{ item: expect.any(String), transfer: 1, name: lost['name'] }]);
  const { items } = await host.webhooks.pending({ agents: ['main'] });
  expect(items.map(({ reconciled }) => reconciled ?? false)).toEqual([false, true]);
  const [own, fetched] = items.map(({ payloadText }) => transferIn(payloadText));
  expect(Object.keys(fetched ?? {}).sort()).toEqual(Object.keys(own ?? {}).sort());
  expect(fetched).toMatchObject({ id: 1, isPrivate: false, size: 734_003_200 });
  expect((await look()).found).toEqual([]);
  await host.webhooks.acknowledge(items.map(({ id }) => id));
  expect((await look({ inMs: 20 * 60_000 })).found).toEqual([]);
});

test('a callback that comes after its transfer was found is no second item, with a time or without', async () => {
  const { host, putio, look, called } = await site();
  const [one, other] = [putio.add(1, {}, hour), putio.add(2, {}, hour)];
  await look();
  await called(one);
  await called(other, ['finished_at']);
  await called(other, ['finished_at', 'status']);
  expect(await host.pending()).toHaveLength(2);
});

test('a callback without a time counts as that of its transfer', async () => {
  const { putio, look, called } = await site();
  await called(putio.add(1, {}, hour / 2), ['finished_at', 'file_id']);
  expect(await look()).toMatchObject({ found: [], already: 1 });
});

test('a transfer that failed, called back, was tried again and finished without a call is found', async () => {
  const { host, putio, look, called } = await site();
  const failed = putio.add(1, { status: 'ERROR', error_message: 'No seeders' }, 5 * hour);
  await called(failed);
  await look();
  putio.transfers = [];
  putio.add(1, {}, hour / 2);
  expect((await look()).found).toHaveLength(1);
  expect(await host.pending()).toHaveLength(2);
});

test('what finished a moment ago is left to its callback, and found when that does not come', async () => {
  const { putio, look } = await site();
  putio.add(1, {}, 60_000);
  expect(await look()).toMatchObject({ found: [], recent: 1 });
  expect((await look({ inMs: 10 * 60_000 })).found).toHaveLength(1);
});

test('what is not finished is none', async () => {
  const { putio, look } = await site();
  putio.add(1, { status: 'DOWNLOADING', finished_at: null, percent_done: 40 });
  expect(await look()).toMatchObject({ transfers: 1, found: [], recent: 0 });
});

test('a first look goes back a day, later ones to the last, however long ago that was', async () => {
  const { putio, look } = await site();
  putio.add(1, {}, 30 * hour);
  putio.add(2, {}, 20 * hour);
  expect((await look()).found.map(({ transfer }) => transfer)).toEqual([2]);
  putio.add(3, {}, -3 * 24 * hour);
  expect((await look({ inMs: 7 * 24 * hour })).found.map(({ transfer }) => transfer)).toEqual([3]);
});

test('what finished before register is not looked for', async () => {
  const { putio, look, config } = await site();
  const beganAt = new Date(Date.now() - hour / 2).toISOString();
  await keepLook(config(), 'main', { lookedAt: beganAt, beganAt });
  putio.add(1, {}, 0.6 * hour);
  putio.add(2, {}, 0.4 * hour);
  expect((await look()).found.map(({ transfer }) => transfer)).toEqual([2]);
  expect(await lastLook(config(), 'main')).toMatchObject({ beganAt });
});

test('all pages of the list are looked at', async () => {
  const { host, putio, look } = await site();
  for (let id = 1; id <= 230; id++) putio.add(id, {}, hour + id * 1000);
  expect((await look()).found).toHaveLength(230);
  expect(await host.pending()).toHaveLength(230);
});

test('the last look moves on only when all that was found is stored', async () => {
  const { host, putio, look, config } = await site();
  await look();
  const before = await lastLook(config(), 'main');
  for (let id = 1; id <= 3; id++) putio.add(id, {}, hour - id * 60_000);
  let added = 0;
  const full: Mailbox = {
    ...host.webhooks,
    async add(item) {
      if (++added === 2) throw new NexusError('unavailable', 'The mailbox is full.');
      return await host.webhooks.add(item);
    },
  };
  const week = 7 * 24 * hour;
  expect((await failure(look({ mailbox: full }))).code).toBe('unavailable');
  expect(await lastLook(config(), 'main')).toMatchObject({
    lookedAt: before.lookedAt,
    error: 'The mailbox is full.',
  });
  expect((await look({ inMs: week })).found).toHaveLength(2);
  expect(await host.pending()).toHaveLength(3);
  expect(await lastLook(config(), 'main')).not.toHaveProperty('error');
});

test('a page of the list that fails leaves the last look where it was', async () => {
  const { putio, look, config } = await site();
  for (let id = 1; id <= 150; id++) putio.add(id, {}, hour);
  putio.fault = ({ path }) => (path.includes('continue') ? refusal(500, 'Oops', 'no') : undefined);
  expect((await failure(look())).code).toBe('unavailable');
  expect(await lastLook(config(), 'main')).not.toHaveProperty('lookedAt');
  putio.fault = () => undefined;
  expect((await look()).found).toHaveLength(150);
});

test('a transfer with a callback of its own is that mailbox’s, and nobody else’s', async () => {
  const { putio, look } = await site();
  const to = (agent: string, source = 'putio') =>
    `https://nexus.example.net/api/webhook/${agent}?source=${source}&secret=s`;
  putio.add(1, { callback_url: to('main') }, hour);
  putio.add(2, { callback_url: to('other') }, hour);
  putio.add(3, { callback_url: 'https://elsewhere.example/hook' }, hour);
  putio.add(4, { callback_url: to('main', 'films') }, hour);
  putio.add(5, {}, hour);
  const main = await look();
  expect([main.found.map(({ transfer }) => transfer), main.elsewhere]).toEqual([[1, 5], 3]);
  const other = await look({ agent: 'other' });
  expect([other.found.map(({ transfer }) => transfer), other.elsewhere]).toEqual([[2], 4]);
});

const ours = 'http://127.0.0.1:1/api/webhook/main?source=putio&secret=s';

test('one that was removed from the list is found where history quotes our URL, whose call failed', async () => {
  const { host, putio, look, called } = await site();
  putio.callback = ours;
  putio.quotesUrl = true;
  await putio.finish(1, { name: 'Lost' }, 30 * 60_000);
  const late = putio.add(2, { name: 'Came late' }, 30 * 60_000);
  const message = `HTTP 500: ${ours}`;
  putio.happened('transfer_callback_error', { transfer_id: 2, transfer_name: 'Came late', message });
  await called(late);
  putio.clean();
  const found = await look({ inMs: 10 * 60_000 });
  expect(found.found).toEqual([{ item: expect.any(String), transfer: 1, name: 'Lost' }]);
  expect(found.gone).toEqual([]);
  const item = await host.webhooks.show(found.found[0]?.item ?? '');
  expect(transferIn(item?.payloadText ?? '')).toMatchObject({ id: 1, name: 'Lost', fileId: 900_001 });
  expect((await look({ inMs: 20 * 60_000 })).found).toEqual([]);
});

test('one whose failed call history does not tell the mailbox of is named, and delivered to nobody', async () => {
  const { host, putio, look } = await site();
  putio.callback = ours;
  await putio.finish(1, { name: 'Whose', callback_url: 'http://127.0.0.1:1/theirs' }, 30 * 60_000);
  putio.clean();
  const gone = [{ transfer: 1, name: 'Whose' }];
  expect(await look({ inMs: 10 * 60_000 })).toMatchObject({ found: [], gone });
  expect(await look({ inMs: 10 * 60_000, agent: 'other' })).toMatchObject({ found: [], gone: [] });
  expect(await host.pending()).toEqual([]);
});

test("one whose failed call was another mailbox's is nobody's here", async () => {
  const { putio, look } = await site();
  putio.quotesUrl = true;
  await putio.finish(1, { callback_url: ours.replace('main', 'other') }, 30 * 60_000);
  putio.clean();
  expect(await look({ inMs: 10 * 60_000 })).toMatchObject({ found: [], gone: [] });
});

test('one that was removed, and of which nothing tells, is named; one that came is not', async () => {
  const { putio, look, called } = await site();
  await putio.finish(1, { name: 'Vanished' }, 30 * 60_000);
  await putio.finish(2, { name: 'Came' }, 30 * 60_000);
  const came = putio.transfers[1];
  if (came !== undefined) await called(came);
  putio.clean();
  const result = await look();
  expect(result).toMatchObject({ found: [], gone: [{ name: 'Vanished', fileId: 900_001 }] });
  expect(warningsOf(result)).toEqual([
    "1 transfer finished and left put.io's list before this look, and nothing that came tells of it: Vanished.",
  ]);
});

test('a history that cannot be read is a warning, and loses nothing of the list', async () => {
  const { putio, look } = await site();
  putio.add(1, {}, hour);
  putio.fault = ({ path }) => (path.startsWith('/events') ? refusal(401, 'invalid_scope', 'no') : undefined);
  const result = await look();
  expect(result.found).toHaveLength(1);
  expect(result.warnings.join()).toMatch(/removed from put\.io's list are not found until .*invalid_scope/);
});

test('history that could not be read is read from there on when it can be', async () => {
  const { putio, look, config } = await site();
  await look();
  await putio.finish(1, { name: 'Vanished' }, 30 * 60_000);
  putio.clean();
  putio.fault = ({ path }) => (path.startsWith('/events') ? refusal(500, 'Oops', 'no') : undefined);
  await look({ inMs: hour });
  await look({ inMs: 6 * hour });
  putio.fault = () => undefined;
  const day = 24 * hour;
  expect(await look({ inMs: day })).toMatchObject({ gone: [{ name: 'Vanished' }], warnings: [] });
  expect(await lastLook(config(), 'main')).not.toHaveProperty('historyAt');
  expect((await look({ inMs: day + hour / 2 })).gone).toEqual([]);
});

test('a last look that is yet to come, of a clock that was ahead, counts as unknown, and is told', async () => {
  const { putio, look, config } = await site();
  const year = new Date(Date.now() + 365 * 24 * hour).toISOString();
  putio.add(1, {}, 72 * hour);
  for (const mark of [{ lookedAt: year }, { lookedAt: year, beganAt: year }]) {
    await keepLook(config(), 'main', mark);
    const result = await look();
    expect(result.found.length + result.already).toBe(1);
    expect(result.warnings.join()).toMatch(
      /clock was ahead, and what finished in 29 days is looked at again/,
    );
    const { lookedAt = '', beganAt } = await lastLook(config(), 'main');
    expect(Date.parse(lookedAt)).toBeLessThanOrEqual(Date.now());
    expect(beganAt).toBeUndefined();
  }
  expect((await look()).warnings).toEqual([]);
});

test('a look for an agent whom put.io does not call changes nothing, until it is forced', async () => {
  const { host, putio, look, config } = await site();
  await look();
  const { lookedAt } = await lastLook(config(), 'main');
  putio.add(1, {}, hour / 2);
  putio.callback = ours.replace('main', 'other');
  expect(await failure(look({ inMs: hour }))).toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/put\.io calls http:\S+\/other\?source=putio&secret=\*{8}, and not main/),
  });
  putio.callback = 'https://hooks.example.com/their-secret';
  expect((await failure(look())).message).not.toContain('their-secret');
  expect(await lastLook(config(), 'main')).toMatchObject({ lookedAt });
  expect(await host.pending()).toEqual([]);
  expect((await look({ force: true })).found).toHaveLength(1);
  expect((await look({ since: Date.now() - 2 * hour })).already).toBe(1);
});

test('a callback that was taken away ends the looks of a host that has seen it; one that never was does not', async () => {
  const { putio, look } = await site();
  await look();
  putio.callback = ours;
  await look();
  putio.callback = null;
  expect((await failure(look())).message).toMatch(/put\.io calls nobody any more, and not main/);
});

test("with somebody else's callback and no agent of the account's, single transfers of the agent's are found", async () => {
  const { host, putio, look } = await site();
  const { confirm, reconcileMinutes } = host.config().putio;
  putio.callback = 'https://hooks.example.com/theirs';
  putio.add(1, { callback_url: ours }, hour);
  putio.add(2, {}, hour);
  const nobodys = { confirm, reconcileMinutes, agent: undefined };
  const result = await look({ putio: nobodys });
  expect(result.found.map(({ transfer }) => transfer)).toEqual([1]);
  expect(result.elsewhere).toBe(1);
});

test('a transfer that the mailbox never takes is told once, set aside by name, and holds nothing up', async () => {
  const { host, putio, look, config } = await site();
  await look();
  const before = await lastLook(config(), 'main');
  putio.add(1, { name: `Poison\u001b[31m\n${'x'.repeat(500)}` }, 40 * 60_000);
  putio.add(2, {}, 30 * 60_000);
  const picky: Mailbox = {
    ...host.webhooks,
    async add(item) {
      if (item.delivery.startsWith('1 ')) throw new NexusError('too_large', 'The body exceeds 1 MB.');
      return await host.webhooks.add(item);
    },
  };
  const first = await look({ inMs: 1000, mailbox: picky });
  expect(first.failed).toMatchObject([{ reason: 'The body exceeds 1 MB.' }]);
  expect(first.failed[0]?.item).toMatch(/^transfer 1 \(Poison\\u\{1b\}\[31m\\u\{a\}x{20,90}\)$/);
  expect(first.found).toHaveLength(1);
  const { lookedAt = '' } = await lastLook(config(), 'main');
  expect(lookedAt > (before.lookedAt ?? '')).toBe(true);
  const second = await look({ inMs: 2000, mailbox: picky });
  expect(second).toMatchObject({ failed: [], setAside: [{ reason: 'The body exceeds 1 MB.' }] });
  expect((await look({ inMs: 3000 })).found).toHaveLength(1);
  expect(await lastLook(config(), 'main')).not.toHaveProperty('setAside');
});

test.each([
  [
    'a time that cannot be read',
    { finished_at: 'yesterday' },
    /^transfer 1 \(.*\): When it finished cannot be read: "yesterday"\.$/.source,
  ],
  ['an id that is no number', { id: 'one' }, 'transfer one .*: It has no id that is a number'],
  [
    'an end without a time',
    { status: 'ERROR', finished_at: null },
    'transfer 1 .*: It failed, and put.io does not say when',
  ],
])('a transfer with %s is told by its name, once', async (_, over, expected) => {
  const { putio, look } = await site();
  Object.assign(putio.add(1, {}, hour / 2), over);
  putio.add(2, {}, hour / 2);
  const { found, failed } = await look();
  expect(found.map(({ transfer }) => transfer)).toEqual([2]);
  expect(failed.map(({ item, reason }) => `${item}: ${reason}`).join()).toMatch(new RegExp(expected));
  expect(await look()).toMatchObject({ failed: [], setAside: [{ item: failed[0]?.item }] });
});

test('what is no transfer in the list, and no event in history, hides no other', async () => {
  const { putio, look } = await site();
  putio.add(1, {}, hour);
  await putio.finish(2, { name: 'Vanished' }, hour);
  putio.transfers.pop();
  putio.happened('upload', { created_at: undefined });
  putio.happened('odd', { transfer_id: 'seven', created_at: null }, 0);
  Object.assign(putio.transfers, { 1: null });
  const result = await look();
  expect(result.found).toHaveLength(1);
  expect(result.failed).toMatchObject([{ item: 'transfer without an id' }]);
  expect(result).toMatchObject({ gone: [{ name: 'Vanished' }], warnings: [] });
});

test('the names of those that are gone cannot forge lines of their own', () => {
  const [warning = ''] = warningsOf({
    gone: [{ name: `a\u001b[31m\nerror: <3>FORGED${'y'.repeat(10_000)}` }],
    warnings: [],
  });
  expect(warning).toContain('a\\u{1b}[31m\\u{a}error:');
  expect(warning).not.toContain('\n');
  expect(warning.length).toBeLessThan(300);
});

test('more of what came than is looked at makes no missing transfers', async () => {
  const { putio, look } = await site();
  await putio.finish(1, { name: 'Came' }, 30 * 60_000);
  putio.clean();
  const result = await look({ mailbox: await makeMany() });
  expect(result.gone).toEqual([]);
  expect(result.warnings.join()).toMatch(/More than 5000 items came since/);
});

async function makeMany(): Promise<Mailbox> {
  const host = await makePullHost();
  onTestFinished(() => host.remove());
  const id = await host.receive({ source: 'putio' });
  const shown = await host.webhooks.show(id);
  return {
    ...host.webhooks,
    async *list() {
      for (let n = 0; n <= 5000; n++) if (shown !== undefined) yield shown;
    },
    show: () => Promise.resolve(shown),
  };
}

test('a look in a pull keeps the binding of the mailbox', async () => {
  const { host, putio, config } = await site();
  putio.add(1, {}, hour);
  await host.webhooks.claim('main', 'elsewhere');
  const around = {
    config: config(),
    env: {},
    signal: new AbortController().signal,
    now: () => new Date(),
    warn: () => undefined,
  };
  expect(await failure(reconcileWhenDue(around, host.webhooks, 'main'))).toMatchObject({ code: 'conflict' });
  expect(await host.pending()).toEqual([]);
});

test('two looks at once do not both look', async () => {
  const { putio, look } = await site();
  putio.add(1, {}, hour);
  const results = await Promise.allSettled([look(), look()]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const refused = results.find((one) => one.status === 'rejected');
  expect(refused?.reason).toMatchObject({ code: 'busy' });
});

test('--since looks again, without losing the place of the last look', async () => {
  const { host, putio, look, config } = await site();
  const { lookedAt } = await look().then(() => lastLook(config(), 'main'));
  putio.add(1, {}, 90 * hour);
  expect((await look({ since: Date.now() - 100 * hour })).found).toHaveLength(1);
  expect((await look({ since: Date.now() - 100 * hour })).found).toEqual([]);
  expect(await host.pending()).toHaveLength(1);
  const later = Date.parse(lookedAt ?? '') + 2 * hour;
  const at = (await lastLook(config(), 'main')).lookedAt;
  await look({ since: later, inMs: 3 * hour });
  expect((await lastLook(config(), 'main')).lookedAt).toBe(at);
});

test('a place of the last look that cannot be read is an error, not a first look', async () => {
  const { look, host } = await site();
  await look();
  const file = path.join(host.config().dataDir, 'host', 'putio.json');
  const whole = await readFile(file, 'utf8');
  await writeFile(file, whole.slice(0, 20));
  expect(await failure(look())).toMatchObject({ code: 'corrupt' });
  await rm(file);
  await expect(look()).resolves.toMatchObject({ failed: [] });
});

test('a pull looks when it is due, after 15 minutes, and not where that is turned off', async () => {
  const { host, config } = await site();
  const run = async (inMs: number, over?: Partial<Config['putio']>) =>
    (await reconcileWhenDue(
      {
        config: config(over),
        env: {},
        signal: new AbortController().signal,
        now: () => new Date(Date.now() + inMs),
        warn: () => undefined,
      },
      host.webhooks,
      'main',
    )) !== undefined;
  expect(await run(0, { reconcileMinutes: 0 })).toBe(false);
  expect(await run(0)).toBe(true);
  expect(await run(10 * 60_000)).toBe(false);
  expect(await run(15 * 60_000)).toBe(true);
  expect(await run(-hour)).toBe(true);
});
