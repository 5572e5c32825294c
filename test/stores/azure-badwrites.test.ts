import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { type Store, rowOf } from '../../src/stores/store.ts';
import { type Azurite, freshPrefix, startAzurite } from './azurite.ts';
import { type Fault, type FaultyProxy, faults, startFaultyProxy } from './faultyproxy.ts';
import { bytes, codeOf, collect, failure, ids, text } from './outcomes.ts';

const log = 'sessions/inbox/main/grown.jsonl';
const fresh = 'sessions/inbox/main/fresh.jsonl';
const gone = 'sessions/inbox/main/gone.jsonl';
const whole = 'payloads/main/one.json';
const batch = Array.from({ length: 5 }, (_, i) => `b${i}`);

let azurite: Azurite;
let proxy: FaultyProxy;
beforeAll(async () => {
  azurite = await startAzurite();
  proxy = await startFaultyProxy(azurite);
}, 60_000);
afterAll(async () => {
  await proxy.stop();
  await azurite.stop();
});

describe('writes of the azure store behind a bad line', () => {
  let store: Store;
  /** The same data by a line without faults. */
  let direct: Store;

  async function open(timeoutMs: number): Promise<void> {
    const prefix = freshPrefix();
    store = await openAzureStore({ connectionString: proxy.connectionString, prefix, timeoutMs });
    direct = await openAzureStore({ connectionString: azurite.connectionString, prefix });
    await direct.append(log, 0, bytes('old '));
    await direct.append(gone, 0, bytes('old'));
    await direct.put('Sessions', { partition: 'main', id: 'put', n: 1 });
    for (const id of [...batch, 'single']) await direct.insert('Sessions', { partition: 'main', id });
  }
  beforeEach(() => proxy.faults(() => undefined));
  afterEach(async () => {
    proxy.faults(() => undefined);
    await Promise.all([store.close(), direct.close()]);
  });

  /** One of each kind of write, at once. */
  function writes(): Record<string, Promise<unknown>> {
    return {
      create: store.create(whole, bytes('whole')),
      begin: store.append(fresh, 0, bytes('fresh')),
      append: store.append(log, 4, bytes('new')),
      remove: store.remove(gone),
      insert: store.insert('Deliveries', { partition: 'main', id: 'new', n: 1 }),
      put: store.put('Sessions', { partition: 'main', id: 'put', n: 2 }),
      removeBatch: store.removeRows('Sessions', 'main', batch),
      removeRow: store.removeRows('Sessions', 'main', ['single']),
    };
  }

  /** `done`, or what went wrong, of each. */
  async function outcomes(all: Record<string, Promise<unknown>>): Promise<Record<string, unknown>> {
    const results = await Promise.allSettled(Object.values(all));
    const told = results.map((result) => (result.status === 'fulfilled' ? 'done' : codeIn(result.reason)));
    return Object.fromEntries(Object.keys(all).map((name, i) => [name, told[i]]));
  }

  test.each(faults)(
    'does every write once, and says so, after %s at the first try of each request',
    async (_, fault) => {
      await open(6000);
      proxy.faults(({ earlier }) => (earlier === 0 ? fault : undefined));
      const told = await outcomes(writes());
      expect(Object.entries(told).filter(([, outcome]) => outcome !== 'done')).toEqual([]);
      expect(await text(direct.open(whole))).toBe('whole');
      expect(await text(direct.open(fresh))).toBe('fresh');
      expect(await text(direct.open(log))).toBe('old new');
      expect(await direct.stat(gone)).toBeUndefined();
      expect(await rowOf(direct, 'Deliveries', 'main', 'new')).toEqual({
        partition: 'main',
        id: 'new',
        n: 1,
      });
      expect(await collect(direct.rows('Sessions', 'main'))).toEqual([
        { partition: 'main', id: 'put', n: 2 },
      ]);
    },
  );

  test.each(faults)(
    'gives up in time with unavailable, old or new stored, under %s at every try',
    async (_, fault) => {
      await open(400);
      proxy.faults(() => fault);
      const began = performance.now();
      const told = await outcomes(writes());
      expect(performance.now() - began).toBeLessThan(3000);
      proxy.faults(() => undefined);
      const rows = await ids(direct.rows('Sessions', 'main'));
      const is: Record<string, 'old' | 'new' | 'neither'> = {
        create: oldOrNew((await direct.stat(whole))?.length, undefined, 5),
        begin: oldOrNew((await direct.stat(fresh))?.length, undefined, 5),
        append: oldOrNew(await text(direct.open(log)), 'old ', 'old new'),
        remove: oldOrNew((await direct.stat(gone))?.length, 3, undefined),
        insert: oldOrNew((await rowOf(direct, 'Deliveries', 'main', 'new'))?.['n'], undefined, 1),
        put: oldOrNew((await rowOf(direct, 'Sessions', 'main', 'put'))?.['n'], 1, 2),
        removeBatch: oldOrNew(batch.filter((id) => rows.includes(id)).length, batch.length, 0),
        removeRow: oldOrNew(rows.includes('single'), true, false),
      };
      const lies = Object.entries(is).filter(([write, state]) =>
        told[write] === 'done' ? state !== 'new' : told[write] !== 'unavailable' || state === 'neither',
      );
      expect(lies).toEqual([]);
    },
  );

  describe('that loses the answer to a write', () => {
    const lost: Fault = { kind: 'reset', when: 'after' };
    const never: Fault = { kind: 'reset', when: 'before' };
    beforeEach(() => open(2000));

    test('believes a conflict where a blob of equal bytes was there before', async () => {
      await direct.create(whole, bytes('whole'));
      proxy.faults(({ earlier }) => (earlier === 0 ? never : undefined));
      expect(await codeOf(store.create(whole, bytes('whole')))).toBe('conflict');
    });

    test('believes a conflict where an equal row was there before', async () => {
      const row = { partition: 'main', id: 'equal', n: 1 };
      await direct.insert('Sessions', row);
      proxy.faults(({ earlier }) => (earlier === 0 ? never : undefined));
      expect(await codeOf(store.insert('Sessions', row))).toBe('conflict');
    });

    test('tells where another was faster with an append of the same length', async () => {
      proxy.faults(({ earlier, url }) => (earlier === 0 && url.includes('appendblock') ? never : undefined));
      const slow = failure(store.append(log, 4, bytes('mine')));
      await direct.append(log, 4, bytes('ours'));
      expect(await slow).toMatchObject({ code: 'conflict', length: 8 });
      expect(await text(direct.open(log))).toBe('old ours');
    });

    test('knows its own append even where another has gone on from it', async () => {
      let after: Promise<unknown> | undefined;
      proxy.faults(({ earlier, url, method }) => {
        if (url.includes('appendblock') && earlier === 0) return lost;
        // Its look at where the blob ends: by now somebody else has appended.
        if (method === 'HEAD') after ??= direct.append(log, 7, bytes(' and more'));
        return undefined;
      });
      expect(await store.append(log, 4, bytes('new'))).toBe(7);
      await after;
      expect(await text(direct.open(log))).toBe('old new and more');
    });

    test('lets racers whose answers are lost agree on one winner', async () => {
      proxy.faults(({ earlier }) => (earlier % 2 === 0 ? lost : undefined));
      const other = await openAzureStore({
        connectionString: proxy.connectionString,
        prefix: freshPrefix(),
        timeoutMs: 5000,
      });
      const races = Array.from({ length: 8 }, () => other.create(whole, bytes('the same')));
      const won = (await Promise.allSettled(races)).filter(({ status }) => status === 'fulfilled');
      expect(won).toHaveLength(1);
      await other.close();
    });

    test('makes one id', async () => {
      proxy.faults(({ earlier }) => (earlier === 0 ? lost : undefined));
      const id = await store.id();
      expect(await direct.id()).toBe(id);
    });
  });

  describe('that is throttled', () => {
    const throttled = (seconds: string): Fault => ({
      kind: 'answer',
      when: 'before',
      status: 503,
      headers: { 'retry-after': seconds, 'x-ms-error-code': 'ServerBusy' },
    });

    test('waits as long as it is asked to', async () => {
      await open(6000);
      proxy.faults(({ earlier }) => (earlier === 0 ? throttled('1') : undefined));
      const began = performance.now();
      await store.append(log, 4, bytes('new'));
      expect(performance.now() - began).toBeGreaterThan(990);
      expect(proxy.asked).toHaveLength(2);
    });

    test('passes on a wait that is longer than its time, at once', async () => {
      await open(6000);
      proxy.faults(() => throttled('100'));
      const began = performance.now();
      const error = await failure(store.append(log, 4, bytes('new')));
      expect(error).toMatchObject({ code: 'unavailable', retryAfter: 100 });
      expect(performance.now() - began).toBeLessThan(1000);
      expect(proxy.asked).toHaveLength(1);
    });
  });

  test('that its blob takes no more appends is told with its length', async () => {
    await open(2000);
    const headers = { 'x-ms-error-code': 'BlockCountExceedsLimit', 'x-ms-request-id': 'a' };
    proxy.faults(({ url }) =>
      url.includes('appendblock') ? { kind: 'answer', when: 'before', status: 409, headers } : undefined,
    );
    expect(await failure(store.append(log, 4, bytes('new')))).toMatchObject({ code: 'full', length: 4 });
    expect(await failure(store.append(log, 0, bytes('new')))).toMatchObject({ code: 'conflict', length: 4 });
  });
});

function oldOrNew(found: unknown, old: unknown, next: unknown): 'old' | 'new' | 'neither' {
  return found === old ? 'old' : found === next ? 'new' : 'neither';
}

function codeIn(error: unknown): unknown {
  return error instanceof NexusError ? error.code : error;
}
