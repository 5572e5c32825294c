import { randomUUID } from 'node:crypto';
import { open, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import type { About, Nexus } from '../../src/nexus.ts';
import { composeMessage } from '../../src/openclaw/message.ts';
import { pricesSchema } from '../../src/prices.ts';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage, type UsageOptions } from '../../src/usage.ts';
import type { SessionsRequest } from '../../src/usagerequest.ts';
import { temporary } from './history.ts';

interface Ledger {
  root: string;
  file: string;
  store: Store;
  nexus: Nexus;
  usage: Usage;
  /** Appends lines at the end of a transcript. */
  write: (
    transcript: string,
    lines: string[],
    facts?: { complete?: boolean; about?: About; agent?: string },
  ) => Promise<void>;
}

async function makeLedger(options: Partial<UsageOptions> = {}): Promise<Ledger> {
  const root = await temporary();
  const store = options.store ?? (await openLocalStore(path.join(root, 'store')));
  const nexus = openSessions(store, options.now);
  const file = path.join(root, 'usage', 'index.sqlite');
  const usage = await openUsage({ timeZone: 'UTC', ...options, store, file });
  onTestFinished(async () => {
    await usage.close();
    await store.close();
  });
  const lengths = new Map<string, number>();
  return {
    root,
    file,
    store,
    nexus,
    usage,
    async write(transcript, lines, { complete = false, about = {}, agent = 'main' } = {}) {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      const name = `${agent}/${transcript}`;
      const facts = { complete, about };
      lengths.set(name, await nexus.append(agent, transcript, lengths.get(name) ?? 0, bytes, facts));
    },
  };
}

const header = (timestamp: string) => JSON.stringify({ type: 'session', version: 3, id: 's', timestamp });

function message(said: object, timestamp = '2026-11-20T10:00:00.000Z', id: string = randomUUID()): string {
  return JSON.stringify({ type: 'message', id, parentId: null, timestamp, message: said });
}

function call(
  fields: { at?: string; id?: string; model?: string; cost?: number; tokens?: number } = {},
): string {
  const { at, id, model = 'm', cost, tokens = 1_000_000 } = fields;
  const usage = { input: tokens, output: 0, ...(cost === undefined ? {} : { cost: { total: cost } }) };
  return message({ role: 'assistant', content: [], provider: 'p', model, usage }, at, id);
}

/** A store that counts what is read of transcripts, and how often they are listed. */
function watched(store: Store): Store & { read: number; lists: number } {
  return {
    ...store,
    read: 0,
    lists: 0,
    list(prefix) {
      if (prefix !== 'sessions/inbox/') this.lists++;
      return store.list(prefix);
    },
    async *open(name, from, to) {
      for await (const piece of store.open(name, from, to)) {
        this.read += piece.length;
        yield piece;
      }
    },
  };
}

/** Overwrites where a table begins, in the file alone. */
async function damage(file: string, table: string): Promise<void> {
  const db = new DatabaseSync(file);
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  const root = db.prepare('SELECT rootpage FROM sqlite_master WHERE name = ?').get(table)?.['rootpage'];
  const size = Number(db.prepare('PRAGMA page_size').get()?.['page_size']);
  db.close();
  const handle = await open(file, 'r+');
  await handle.write(Buffer.alloc(size, 0xff), 0, size, (Number(root) - 1) * size);
  await handle.close();
}

describe('catching up', () => {
  test('reads only what is new, and lists nothing but on first use, once a day and after a long time', async () => {
    let now = Date.parse('2026-11-20T12:00:00Z');
    const root = await temporary();
    const store = watched(await openLocalStore(path.join(root, 'store')));
    const { usage, write } = await makeLedger({ store, now: () => new Date(now) });
    await write('x', [header('2026-11-20T10:00:00Z'), call()]);
    await usage.catchUp();
    expect(store.lists).toBeGreaterThan(0);
    [store.read, store.lists] = [0, 0];
    now += 3_600_000;
    await write('x', [call()]);
    const more = Buffer.byteLength(`${call()}\n`);
    expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { transcripts: 1, unread: 0 } });
    expect((await usage.query({})).totals.calls).toBe(2);
    expect(store.read).toBeGreaterThanOrEqual(more);
    expect(store.read).toBeLessThan(more + 100);
    expect(store.lists).toBe(0);
    now += 24 * 3_600_000;
    await usage.catchUp();
    expect(store.lists).toBeGreaterThan(0);
    store.lists = 0;
    now += 3 * 24 * 3_600_000;
    await write('y', [call()]);
    await usage.catchUp();
    expect(store.lists).toBeGreaterThan(0);
    expect((await usage.query({})).totals.calls).toBe(3);
  });

  test('finds appends that came right before, during and after a look, though each is announced once in 5 minutes', async () => {
    let now = Date.parse('2026-11-20T12:00:00Z');
    const { usage, write } = await makeLedger({ now: () => new Date(now) });
    await write('x', [call()]);
    for (let n = 2; n < 40; n++) {
      await usage.catchUp();
      now += (n % 7) * 60_000;
      await write('x', [call()]);
      await usage.catchUp();
      expect((await usage.query({})).totals.calls).toBe(n);
    }
  });

  test('looks at nothing again that the feed still names, where that is much', async () => {
    let now = Date.parse('2026-11-20T12:00:00Z');
    const root = await temporary();
    const local = await openLocalStore(path.join(root, 'store'));
    let stats = 0;
    const store: Store = {
      ...local,
      stat(name) {
        stats++;
        return local.stat(name);
      },
    };
    const { usage, write } = await makeLedger({ store, now: () => new Date(now) });
    await usage.catchUp();
    for (let n = 0; n < 120; n++) await write(`x${n}`, [call()]);
    await usage.catchUp();
    now += 60_000;
    stats = 0;
    expect((await usage.catchUp()).coverage.transcripts).toBe(120);
    expect(stats).toBe(0);
    await write('x7', [call()]);
    await local.remove('sessions/inbox/main/x8.jsonl');
    await local.removeRows('Sessions', 'main', ['x8']);
    expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { transcripts: 119 } });
    expect((await usage.query({})).totals.calls).toBe(120);
    // Few of many are looked at.
    now += 3_600_000;
    await write('x9', [call()]);
    await usage.catchUp();
    expect((await usage.query({})).totals.calls).toBe(121);
  });

  test('drops rows of the feed that nobody needs', async () => {
    let now = Date.parse('2026-11-20T12:00:00Z');
    const { usage, write, store } = await makeLedger({ now: () => new Date(now) });
    await write('x', [call()]);
    await usage.catchUp();
    const rows = async () => {
      let count = 0;
      for await (const _ of store.rows('Changes', '2026-11-20')) count++;
      return count;
    };
    expect(await rows()).toBe(1);
    now += 4 * 24 * 3_600_000;
    await usage.catchUp();
    expect(await rows()).toBe(0);
  });

  test('says of a partial line that it is not read, until it is finished or the transcript complete', async () => {
    const { usage, nexus } = await makeLedger();
    const half = Buffer.from(call({ id: 'a' }));
    await nexus.append('main', 'x', 0, half.subarray(0, 40), { complete: false, about: {} });
    expect(await usage.catchUp()).toMatchObject({ complete: false, coverage: { unread: 1, bytesRead: 0 } });
    await nexus.append('main', 'x', 40, half.subarray(40), { complete: false, about: {} });
    expect(await usage.catchUp()).toMatchObject({ complete: false });
    expect((await usage.query({})).totals.calls).toBe(0);
    await nexus.append('main', 'x', half.length, Buffer.alloc(0), { complete: true, about: {} });
    expect(await usage.catchUp()).toMatchObject({ complete: true });
    expect((await usage.query({})).totals.calls).toBe(1);
    // It goes on after all: the last line was not the whole line, or the same one with its newline.
    await nexus.append('main', 'x', half.length, Buffer.from(`\n${call()}\n`), {
      complete: false,
      about: {},
    });
    expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { oddities: [] } });
    expect((await usage.query({})).totals.calls).toBe(2);
  });

  test('names what it cannot read and does not pass for complete, and reads it when it can', async () => {
    const { usage, write, root } = await makeLedger();
    await write('x', [call()]);
    await write('y', [call({ id: 'later' })]);
    const file = path.join(root, 'store', 'blobs', 'sessions', 'inbox', 'main', 'y.jsonl');
    await writeFile(file, 'short');
    const standing = await usage.catchUp();
    expect(standing).toMatchObject({ complete: false, coverage: { unreadable: { count: 1 } } });
    expect(standing.coverage.unreadable.examples[0]).toMatchObject({ agent: 'main', transcript: 'y' });
    expect((await usage.query({})).totals.calls).toBe(1);
    await writeFile(file, `${call({ id: 'later' })}\n`);
    expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { unreadable: { count: 0 } } });
    expect((await usage.query({})).totals.calls).toBe(2);
  });

  test('reads a transcript anew that is shorter, or another, than what was read', async () => {
    let now = Date.parse('2026-11-20T12:00:00Z');
    const { usage, write, nexus, store } = await makeLedger({ now: () => new Date(now) });
    await write('x', [call({ tokens: 1 }), call({ tokens: 2 })]);
    await write('y', [call({ tokens: 4 })]);
    await usage.catchUp();
    await store.remove('sessions/inbox/main/x.jsonl');
    await nexus.append('main', 'x', 0, Buffer.from(`${call({ tokens: 8 })}\n`), {
      complete: false,
      about: {},
    });
    now += 25 * 3_600_000;
    await usage.catchUp();
    expect((await usage.query({})).totals.input).toBe(12);
    await store.remove('sessions/inbox/main/x.jsonl');
    const longer = [call({ tokens: 16 }), call({ tokens: 32 }), call({ tokens: 64 })].join('\n');
    await nexus.append('main', 'x', 0, Buffer.from(`${longer}\n`), { complete: false, about: {} });
    now += 25 * 3_600_000;
    await usage.catchUp();
    expect((await usage.query({})).totals.input).toBe(4 + 16 + 32 + 64);
    await store.remove('sessions/inbox/main/x.jsonl');
    await store.removeRows('Sessions', 'main', ['x']);
    now += 25 * 3_600_000;
    await usage.catchUp();
    expect((await usage.query({ by: ['session'] })).rows.map(({ session }) => session)).toEqual(['main/y']);
  });

  test('counts what came behind what it has read only where all of it is what was stored', async () => {
    const { usage, write, root } = await makeLedger();
    await write('x', [call({ id: 'first', tokens: 100 })]);
    await usage.catchUp();
    await write('x', [call({ id: 'second', tokens: 200 })]);
    const file = path.join(root, 'store', 'blobs', 'sessions', 'inbox', 'main', 'x.jsonl');
    const stored = await readFile(file, 'utf8');
    await writeFile(file, stored.replace('200', '900'));
    expect(await usage.catchUp()).toMatchObject({
      complete: false,
      coverage: { unreadable: { count: 1, examples: [{ transcript: 'x' }] } },
    });
    expect((await usage.query({})).totals.input).toBe(100);
    await writeFile(file, stored);
    expect((await usage.catchUp()).complete).toBe(true);
    expect((await usage.query({})).totals.input).toBe(300);
  });

  test('counts on where three transcripts cannot be read, and says what it did not count', async () => {
    const store = await openLocalStore(path.join(await temporary(), 'store'));
    let silent = false;
    const refusing = {
      ...store,
      open: (...[name, from, to]: Parameters<Store['open']>) => {
        if (/[abc]\.jsonl$/.test(name)) throw new NexusError('unavailable', 'The disk gives nothing.');
        return store.open(name, from, to);
      },
      stat: (name: string) => {
        if (silent) throw new NexusError('unavailable', 'The disk gives nothing.');
        return store.stat(name);
      },
    };
    const { usage, write } = await makeLedger({ store: refusing });
    for (const name of ['a', 'b', 'c', 'd']) await write(name, [call({ id: name })]);
    for (let time = 0; time < 2; time++) {
      expect(await usage.catchUp()).toMatchObject({
        complete: false,
        coverage: { unreadable: { count: 3 } },
      });
      expect((await usage.query({})).totals.calls).toBe(1);
    }
    silent = true;
    await expect(usage.catchUp()).rejects.toThrow('The disk gives nothing.');
  });

  test('tells of records that are not as they should be, with the place of one', async () => {
    const { usage, write } = await makeLedger();
    await write('x', [header('2026-11-20T10:00:00Z'), 'nonsense', call()]);
    await write('x', ['nonsense', message({ role: 'assistant', content: [] })]);
    await usage.catchUp();
    const { coverage } = await usage.query({});
    expect(coverage.oddities).toEqual([
      { kind: 'no_usage', count: 1, example: { agent: 'main', transcript: 'x', line: 5 } },
      { kind: 'unparsable', count: 2, example: { agent: 'main', transcript: 'x', line: 2 } },
    ]);
    const { sessions } = await usage.sessions({});
    expect(sessions[0]?.oddities).toEqual({ no_usage: 1, unparsable: 2 });
  });

  test('begins anew where the index is deleted, damaged or of another store', async () => {
    const { usage, write, store, file } = await makeLedger();
    await write('x', [call()]);
    await usage.catchUp();
    await rm(path.dirname(file), { recursive: true });
    await usage.catchUp();
    expect((await usage.query({})).totals.calls).toBe(1);
    await usage.rebuild();
    expect((await usage.query({})).totals.calls).toBe(1);
    const damaged = path.join(path.dirname(file), 'damaged.sqlite');
    await writeFile(damaged, 'no database at all'.repeat(1000));
    const mended = await openUsage({ store, file: damaged });
    await mended.catchUp();
    expect((await mended.query({})).totals.calls).toBe(1);
    await mended.close();
    const root = await temporary();
    const other = await openLocalStore(path.join(root, 'store'));
    const moved = await openUsage({ store: other, file: damaged });
    expect((await moved.query({})).asOf).toBeNull();
    await moved.catchUp();
    expect((await moved.query({})).totals.calls).toBe(0);
    await moved.close();
    await other.close();
  });

  test('reads anew what is found to be damaged, by whatever finds it', async () => {
    const { usage, write, store, file } = await makeLedger();
    for (let n = 0; n < 50; n++) await write(`x${n}`, [call()]);
    for (const find of ['query', 'sessions', 'standing', 'rebuild', 'catchUp'] as const) {
      await usage.catchUp();
      await damage(file, find === 'catchUp' ? 'pending' : find === 'standing' ? 'transcripts' : 'rollup');
      const other = await openUsage({ store, file });
      await (find === 'standing' ? other.standing() : other[find]({}));
      expect(await other.query({})).toMatchObject({ complete: true, totals: { calls: 50 } });
      expect((await other.rebuild()).complete).toBe(true);
      await other.close();
    }
    expect((await usage.query({})).totals.calls).toBe(50);
  });

  test('what cannot be counted of one transcript keeps no other from it', async () => {
    const { usage, write, file } = await makeLedger();
    await usage.catchUp();
    const db = new DatabaseSync(file);
    db.exec(`CREATE TRIGGER poison BEFORE INSERT ON calls WHEN NEW.entry = 'poison'
      BEGIN SELECT RAISE(ABORT, 'poisoned'); END`);
    for (const name of ['a', 'b', 'c']) await write(name, [call({ id: name === 'b' ? 'poison' : name })]);
    expect(await usage.catchUp()).toMatchObject({
      complete: false,
      coverage: { unreadable: { count: 1, examples: [{ transcript: 'b' }] } },
    });
    expect((await usage.query({})).coverage.unreadable.examples[0]?.reason).toMatch(/poisoned/);
    expect((await usage.query({})).totals.calls).toBe(2);
    db.exec('DROP TRIGGER poison');
    db.close();
    expect((await usage.catchUp()).complete).toBe(true);
    expect((await usage.query({})).totals.calls).toBe(3);
  });

  test('counts nothing that no call can have used, however much of it there is', async () => {
    const { usage, write } = await makeLedger();
    const most = Array.from({ length: 1100 }, (_, nth) =>
      message({
        role: 'assistant',
        usage: { input: Number.MAX_SAFE_INTEGER, output: nth, cost: { total: 9_000_000 } },
      }),
    );
    await write('x', most);
    await write('y', [call()]);
    const { complete, coverage } = await usage.catchUp();
    expect([complete, coverage.oddities[0]?.kind]).toEqual([true, 'bad_count']);
    expect((await usage.query({ agent: 'main', session: 'y' })).totals.calls).toBe(1);
  });

  test('a time that cannot be is none, and makes no answer slow', async () => {
    const { usage, write } = await makeLedger({ now: () => new Date('2026-11-20T12:00:00Z') });
    const of = (timestamp: unknown) =>
      call().replace('"2026-11-20T10:00:00.000Z"', JSON.stringify(timestamp));
    await write('x', [of('2026-11-20T10:00:00.000Z'), of(1_763_632_800_000_000), of('1999-12-31T10:00:00Z')]);
    await write('x', [of('2027-12-20T10:00:00.000Z'), of(7_000_000_000), of('2027-11-01T10:00:00.000Z')]);
    const { coverage } = await usage.catchUp();
    expect(coverage.oddities).toMatchObject([{ kind: 'no_timestamp', count: 4 }]);
    const began = performance.now();
    const { rows } = await usage.query({ by: ['day'], tz: 'Europe/Berlin' });
    expect(rows.map(({ day }) => day)).toEqual(['2026-11-20', '2027-11-01']);
    expect(performance.now() - began).toBeLessThan(1000);
    const { sessions } = await usage.sessions({});
    expect(sessions[0]).toMatchObject({ start: '2026-11-20T10:00:00.000Z', end: '2027-11-01T10:00:00.000Z' });
  });

  test('models are told apart whatever is in their names', async () => {
    const { usage, write } = await makeLedger();
    const of = (provider: string, model: string) =>
      message({ role: 'assistant', provider, model, usage: { input: 1 } });
    await write('x', [of('p\nq', 'm'), of('p', 'q\nm'), of('p', 'm')]);
    await usage.catchUp();
    const { rows } = await usage.query({ by: ['provider', 'model'] });
    expect(rows.map(({ provider, model }) => [provider, model])).toEqual([
      ['p', 'm'],
      ['p', 'q\nm'],
      ['p\nq', 'm'],
    ]);
  });

  test('stops when it is told to, and goes on from there', async () => {
    const { usage, write } = await makeLedger();
    for (let n = 0; n < 30; n++) await write(`x${n}`, [call()]);
    const stop = new AbortController();
    const standing = await usage.catchUp({
      signal: stop.signal,
      progress: ({ transcripts }) => {
        if (transcripts === 3) stop.abort();
      },
    });
    expect(standing.complete).toBe(false);
    expect(standing.coverage.unread).toBeGreaterThan(0);
    expect(await usage.catchUp()).toMatchObject({ complete: true });
    expect((await usage.query({})).totals.calls).toBe(30);
  });
});

describe('cost', () => {
  const prices = pricesSchema.parse([
    { model: 'm', input: 2, output: 0 },
    { model: 'm', input: 3, output: 0, from: '2026-11-21' },
    { model: 'free', input: 0, output: 0 },
  ]);

  test('is recorded, else estimated by the price of the day, else unpriced and never zero', async () => {
    const { usage, write } = await makeLedger({ prices });
    await write('x', [
      call({ cost: 0.5 }),
      call({ cost: 0, tokens: 2_000_000 }),
      call({ at: '2026-11-21T00:00:00Z' }),
      call({ model: 'free', cost: 0 }),
      call({ model: 'free' }),
      call({ model: 'unknown' }),
    ]);
    await usage.catchUp();
    const { rows, totals } = await usage.query({ by: ['model', 'day'] });
    expect(rows).toMatchObject([
      { model: 'free', cost: 0, costCoverage: { recorded: 1, estimated: 1, unpriced: 0 } },
      { model: 'm', day: '2026-11-20', cost: 4.5, costRecorded: 0.5, costEstimated: 4 },
      { model: 'm', day: '2026-11-21', cost: 3, costCoverage: { recorded: 0, estimated: 1, unpriced: 0 } },
      { model: 'unknown', cost: null, costCoverage: { recorded: 0, estimated: 0, unpriced: 1 } },
    ]);
    expect(totals).toMatchObject({ calls: 6, cost: 7.5 });
    expect(totals.costCoverage).toEqual({ recorded: 2, estimated: 3, unpriced: 1 });
    await usage.rebuild();
    expect((await usage.query({ by: ['model', 'day'] })).rows).toEqual(rows);
  });

  test('is estimated by the prices of the session’s host, else by those seen last of its agent', async () => {
    const now = new Date('2026-11-20T09:00:00Z');
    const { usage, write, nexus } = await makeLedger({ prices, now: () => now });
    const price = { provider: 'p', model: 'm', output: 0, cacheRead: 0, cacheWrite: 0 };
    // All at the same time.
    for (const [nth, host] of ['a', 'b', 'c'].entries())
      await nexus.setPrices('main', host, [{ ...price, input: 10 * (nth + 1) }]);
    for (const host of ['a', 'b', 'c', 'd'])
      await write(host, [call({ at: '2026-11-20T10:00:00Z' })], { about: { host } });
    await usage.catchUp();
    const { rows } = await usage.query({ by: ['host'] });
    expect(rows.map(({ cost }) => cost)).toEqual([10, 20, 30, 30]);
  });

  test('of what has no name is estimated by a price for `unknown`', async () => {
    const { usage, write } = await makeLedger({
      prices: pricesSchema.parse([{ model: 'unknown', provider: 'unknown', input: 3, output: 0 }]),
    });
    await write('x', [message({ role: 'assistant', content: [], usage: { input: 1_000_000 } })]);
    await usage.catchUp();
    expect((await usage.query({})).totals).toMatchObject({ cost: 3, costCoverage: { estimated: 1 } });
  });

  test('is estimated by what openclaw.json said when the call was made', async () => {
    let now = Date.parse('2026-11-20T00:00:00Z');
    const { usage, write, nexus } = await makeLedger({ prices, now: () => new Date(now) });
    const price = { provider: 'p', model: 'm', output: 0, cacheRead: 0, cacheWrite: 0 };
    await write('x', [call({ at: '2026-11-19T10:00:00Z' }), call({ at: '2026-11-22T10:00:00Z' })]);
    await write('x', [call()], { agent: 'other' });
    await nexus.setPrices('main', 'box', [{ ...price, input: 10 }]);
    now += 24 * 3_600_000;
    await nexus.setPrices('main', 'box', [{ ...price, input: 10 }]);
    await nexus.setPrices('main', 'box', [{ ...price, input: 20 }]);
    await usage.catchUp();
    const { rows } = await usage.query({ by: ['agent', 'day'] });
    expect(rows).toMatchObject([
      { agent: 'main', day: '2026-11-19', cost: 10 },
      { agent: 'main', day: '2026-11-22', cost: 20 },
      { agent: 'other', cost: 2 },
    ]);
  });

  test('sums by any dimension are the total', async () => {
    const { usage, write } = await makeLedger({ prices });
    for (let n = 0; n < 40; n++) {
      const at = new Date(Date.parse('2026-10-24T00:00:00Z') + n * 3_333_333).toISOString();
      const costs = n % 3 === 0 ? {} : { cost: n / 7 };
      const about = { host: `h${n % 2}`, trigger: n % 2 === 0 ? 'cron' : 'channel' };
      await write(
        `x${n % 5}`,
        [call({ at, tokens: n * 1003, model: n % 4 === 0 ? 'unknown' : 'm', ...costs })],
        { about },
      );
    }
    await usage.catchUp();
    const { totals } = await usage.query({ tz: 'Asia/Kathmandu' });
    for (const by of ['day', 'week', 'month', 'model', 'session', 'host', 'trigger', 'job'] as const) {
      const answer = await usage.query({ by: [by], tz: 'Asia/Kathmandu' });
      expect(answer.totals).toEqual(totals);
      for (const sum of ['calls', 'total', 'costRecorded', 'costEstimated'] as const)
        expect(answer.rows.reduce((all, row) => all + row[sum], 0)).toBeCloseTo(totals[sum], 9);
    }
  });
});

describe('asking', () => {
  test('days are those of the time zone, and the last day of a period is within', async () => {
    const { usage, write } = await makeLedger({ now: () => new Date('2026-11-22T12:00:00Z') });
    await write('x', [
      call({ at: '2026-11-20T22:59:59.999Z', tokens: 1 }),
      call({ at: '2026-11-20T23:00:00.000Z', tokens: 2 }),
      call({ at: '2026-11-21T22:59:59.999Z', tokens: 4 }),
      call({ at: '2026-11-21T23:00:00.000Z', tokens: 8 }),
    ]);
    await usage.catchUp();
    const of = async (request: object) =>
      (await usage.query({ tz: 'Europe/Berlin', ...request })).totals.input;
    const { rows } = await usage.query({ by: ['day'], tz: 'Europe/Berlin' });
    expect(rows.map(({ day, input }) => [day, input])).toEqual([
      ['2026-11-20', 1],
      ['2026-11-21', 6],
      ['2026-11-22', 8],
    ]);
    expect(await of({ from: '2026-11-21', to: '2026-11-21' })).toBe(6);
    expect(await of({ from: '2026-11-21' })).toBe(14);
    expect(await of({ to: '2026-11-21' })).toBe(7);
    expect(await of({ from: '2026-11-21T00:00', to: '2026-11-22T00:00' })).toBe(6);
    expect(await of({ from: '2026-11-20T23:00:00Z', to: '2026-11-22T00:00:00+01:00' })).toBe(6);
    expect(await of({ last: '2d' })).toBe(14);
    expect(await of({ last: '1d' })).toBe(8);
  });

  test.each([
    [{ by: ['colour'] }, 'must be of agent'],
    [{ from: 'yesterday' }, 'must be a date'],
    [{ from: '2026-11-20T10:07' }, 'not on a quarter of an hour'],
    [{ from: '2026-11-21', to: '2026-11-20' }, 'Nothing lies between'],
    [{ last: '7d', from: '2026-11-20' }, 'either'],
    [{ tz: 'Mars' }, 'is no time zone'],
    [{ wrong: 1 }, 'wrong is nothing that can be asked for'],
  ])('%j is refused in words', async (request, words) => {
    const { usage } = await makeLedger();
    await expect(usage.query(request as object)).rejects.toThrow(words);
  });

  test('a filter without a value is refused, and a list keeps commas', async () => {
    const { usage, write } = await makeLedger();
    await write('x', [call({ model: 'a,b' }), call({ model: 'a' })]);
    await usage.catchUp();
    for (const empty of ['', ' , ', [], ['']])
      await expect(usage.query({ model: empty })).rejects.toMatchObject({ code: 'invalid' });
    expect((await usage.query({ model: ['a,b'] })).totals.calls).toBe(1);
    expect((await usage.query({}, [])).totals.calls).toBe(0);
    expect((await usage.query({ agent: 'main' }, ['other'])).totals.calls).toBe(0);
  });

  test('filters take several values, and dimensions come in the order asked', async () => {
    const { usage, write } = await makeLedger();
    for (const agent of ['a', 'b', 'c']) await write('x', [call({ model: `m-${agent}` })], { agent });
    await usage.catchUp();
    const { rows } = await usage.query({ by: 'model,agent', agent: 'a, c' });
    expect(rows.map((row) => Object.entries(row).slice(0, 2))).toEqual([
      [
        ['model', 'm-a'],
        ['agent', 'a'],
      ],
      [
        ['model', 'm-c'],
        ['agent', 'c'],
      ],
    ]);
    expect((await usage.query({ session: ['b/x'] })).totals.calls).toBe(1);
    expect((await usage.query({ session: 'x' })).totals.calls).toBe(3);
    expect((await usage.query({ trigger: 'unknown' })).totals.calls).toBe(3);
  });

  test('a trigger that is learned later is that of all that was counted before', async () => {
    const { usage, write } = await makeLedger();
    await write('x', [call()]);
    await usage.catchUp();
    await write('x', [call()], {
      about: { trigger: 'cron', sessionKey: 'agent:main:cron:daily:run:1', host: 'box' },
    });
    await usage.catchUp();
    const { rows } = await usage.query({ by: ['trigger', 'job', 'host'] });
    expect(rows).toMatchObject([{ trigger: 'cron', job: 'daily', host: 'box', calls: 2 }]);
  });

  test('sessions are found by a part of their key, ordered and paged', async () => {
    const { usage, write } = await makeLedger();
    for (let n = 0; n < 7; n++)
      await write(`x${n}`, [header(`2026-11-1${n}T10:00:00Z`), call({ cost: n, tokens: 100 - n })], {
        about: { sessionKey: `agent:main:telegram:direct:${n}`, trigger: 'channel' },
      });
    await write('x3~2', [call({ cost: 0.5 })]);
    await usage.catchUp();
    const first = await usage.sessions({ limit: 2, text: 'TELEGRAM' });
    expect(first.found).toBe(7);
    expect(first.sessions.map(({ session }) => session)).toEqual(['x6', 'x5']);
    expect((await usage.sessions({ limit: 2, offset: 6 })).sessions.map(({ session }) => session)).toEqual([
      'x0',
    ]);
    const { sessions } = await usage.sessions({ order: 'start', ascending: true });
    expect(sessions.map(({ session }) => session)).toEqual(['x0', 'x1', 'x2', 'x3', 'x4', 'x5', 'x6']);
    expect(sessions[3]).toMatchObject({
      key: 'agent:main:telegram:direct:3',
      start: '2026-11-13T10:00:00.000Z',
      calls: 2,
      transcripts: [{ transcript: 'x3' }, { transcript: 'x3~2' }],
    });
  });

  test('sessions that called no model are found where that is asked for, by what is known of them', async () => {
    const { usage, write } = await makeLedger();
    const about = { sessionKey: 'agent:main:quiet', host: 'box', trigger: 'operator' };
    await write(
      'quiet',
      [header('2026-11-10T10:00:00Z'), message({ role: 'user' }, '2026-11-10T11:00:00Z')],
      {
        about,
      },
    );
    await write('x', [header('2026-11-12T10:00:00Z'), call({ at: '2026-11-12T10:00:00Z', cost: 1 })]);
    await usage.catchUp();
    const found = async (request: SessionsRequest, within?: string[]) => {
      const answer = await usage.sessions({ order: 'start', uncalled: true, tz: 'UTC', ...request }, within);
      expect(answer.found).toBe(answer.sessions.length);
      return answer.sessions.map(({ session }) => session);
    };
    expect(await found({})).toEqual(['x', 'quiet']);
    expect(await found({ uncalled: false })).toEqual(['x']);
    expect(await found({ text: 'QUIE' })).toEqual(['quiet']);
    expect(await found({ from: '2026-11-10', to: '2026-11-10' })).toEqual(['quiet']);
    expect(await found({ from: '2026-11-11' })).toEqual(['x']);
    expect(await found({ host: 'box', trigger: 'operator', session: 'main/quiet' })).toEqual(['quiet']);
    expect(await found({ model: 'm' })).toEqual(['x']);
    expect(await found({ provider: 'p', text: 'q' })).toEqual([]);
    expect(await found({}, ['other'])).toEqual([]);
    const { sessions } = await usage.sessions({ session: 'quiet', uncalled: true });
    expect(sessions).toMatchObject([
      { start: '2026-11-10T10:00:00.000Z', end: '2026-11-10T11:00:00.000Z', calls: 0, total: 0, cost: 0 },
    ]);
  });

  test('the top has the costliest jobs, and the runs that cost over twice their median', async () => {
    const { usage, write } = await makeLedger();
    const run = (job: string, nth: number, cost: number) =>
      write(`${job}${nth}`, [call({ cost })], {
        about: { sessionKey: `agent:main:cron:${job}:run:${nth}`, trigger: 'cron' },
      });
    for (const [nth, cost] of [1, 1, 1, 2, 2.5].entries()) await run('daily', nth, cost);
    for (const [nth, cost] of [1, 9].entries()) await run('twice', nth, cost);
    await usage.catchUp();
    const { jobs, outliers, sessions } = await usage.top({});
    expect(jobs).toMatchObject([
      { job: 'twice', runs: 2, cost: 10, medianCost: 5 },
      { job: 'daily', runs: 5, cost: 7.5, medianCost: 1 },
    ]);
    expect(outliers).toEqual([{ agent: 'main', job: 'daily', session: 'daily4', cost: 2.5, median: 1 }]);
    expect(sessions[0]?.session).toBe('twice1');
  });
});

test('a session that began with mail from Nexus is a webhook’s, and its cost is that of the items', async () => {
  const { usage, write } = await makeLedger();
  const id = 'main.0abcdefgh0000aaaaaaaa';
  const item = {
    id,
    source: 'github',
    receivedAt: '2026-11-20T09:00:00Z',
    file: `/i/github_${id}.json`,
    bytes: 9,
  };
  const sees = { directory: '/i', writable: true };
  const text = composeMessage({ batch: 'b1', items: [item], sees, inlineBytes: 0 });
  await write(
    'told',
    [header('2026-11-20T10:00:00Z'), message({ role: 'user', content: text }), call({ cost: 0.25 })],
    {
      about: { trigger: 'operator' },
    },
  );
  await write('told', [call({ cost: 0.5 })]);
  // Whoever only quotes it later on is charged nothing.
  await write('quotes', [
    message({ role: 'user', content: 'hi' }),
    message({ role: 'user', content: text }),
    call({ cost: 4 }),
  ]);
  await usage.catchUp();
  expect(await usage.items('main/told')).toEqual([id]);
  expect(await usage.costOf(id)).toMatchObject({
    sessions: ['main/told'],
    items: 1,
    sums: { cost: 0.75, calls: 2 },
  });
  expect(await usage.costOf('main.other')).toBeUndefined();
  // In a chat anybody may write it.
  await write('forged', [message({ role: 'user', content: text }), call({ cost: 2 })], {
    about: { trigger: 'channel' },
  });
  await usage.catchUp();
  expect(await usage.items('main/forged')).toEqual([]);
  expect((await usage.costOf(id))?.sums.calls).toBe(2);
  const { rows } = await usage.query({ by: ['trigger', 'source'] });
  expect(rows).toMatchObject([
    { trigger: 'channel', source: 'none', cost: 2 },
    { trigger: 'unknown', source: 'none', cost: 4 },
    { trigger: 'webhook', source: 'github', cost: 0.75 },
  ]);
});
