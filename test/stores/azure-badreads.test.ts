import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { type Store, rowOf } from '../../src/stores/store.ts';
import { type Azurite, freshPrefix, startAzurite } from './azurite.ts';
import { type FaultyProxy, faults, startFaultyProxy } from './faultyproxy.ts';
import { bytes, codeOf, collect, ids, text } from './outcomes.ts';

const log = 'sessions/inbox/main/grown.jsonl';
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

describe('reads of the azure store behind a bad line', () => {
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

  test.each(faults)('reads what is there after %s at the first try of each request', async (_, fault) => {
    await open(3000);
    await direct.append(log, 4, Buffer.alloc(5_000_000, 'x'));
    proxy.faults(({ earlier }) => (earlier === 0 ? fault : undefined));
    const [pieces, stat, listed, rows, row, id] = await Promise.all([
      text(store.open(log)),
      store.stat(log),
      collect(store.list('sessions/inbox/main/g')),
      ids(store.rows('Sessions', 'main', { from: 'b0', before: 'b3' })),
      rowOf(store, 'Sessions', 'main', 'put'),
      store.id(),
    ]);
    expect(pieces).toHaveLength(5_000_004);
    expect(stat).toEqual({ name: log, length: 5_000_004 });
    expect(listed.map(({ name }) => name)).toEqual([gone, log]);
    expect(rows).toEqual(['b0', 'b1', 'b2']);
    expect(row).toEqual({ partition: 'main', id: 'put', n: 1 });
    expect(await direct.id()).toBe(id);
  });

  test.each(faults)('never takes %s at every try for absence', async (_, fault) => {
    await open(300);
    proxy.faults(() => fault);
    const reads = [
      text(store.open(log)),
      store.stat(log),
      collect(store.list('sessions/')),
      collect(store.rows('Sessions', 'main')),
      rowOf(store, 'Sessions', 'main', 'put'),
      store.id(),
    ];
    for (const read of await Promise.allSettled(reads)) {
      // An answer to HEAD has no body that could be cut.
      const told: unknown = read.status === 'fulfilled' ? read.value : codeIn(read.reason);
      expect(['unavailable', { name: log, length: 4 }]).toContainEqual(told);
    }
  });

  describe('to something that is not Azure', () => {
    beforeEach(() => open(1000));

    test.each([400, 401, 403, 404, 409, 412, 416])('never takes a bare %d for an answer', async (status) => {
      proxy.faults(() => ({ kind: 'answer', when: 'before', status, body: 'proxy says no' }));
      const expected = status === 401 || status === 403 ? 'forbidden' : 'unavailable';
      expect(await codeOf(store.stat(log))).toBe(expected);
      expect(await codeOf(text(store.open(log)))).toBe(expected);
      expect(await codeOf(collect(store.list('sessions/')))).toBe(expected);
      expect(await codeOf(rowOf(store, 'Sessions', 'main', 'put'))).toBe(expected);
      expect(await codeOf(store.append(log, 4, bytes('x')))).toBe(expected);
      expect(await codeOf(store.create(whole, bytes('x')))).toBe(expected);
      expect(await codeOf(store.insert('Sessions', { partition: 'main', id: 'x' }))).toBe(expected);
      expect(await codeOf(store.removeRows('Sessions', 'main', batch))).toBe(expected);
    });
  });

  test('reads all rows where a page is empty and yet not the last', async () => {
    await open(2000);
    const [partition = '', id = ''] = ['main', 'b1'].map((key) => Buffer.from(key).toString('base64'));
    const continued = { 'x-ms-continuation-nextpartitionkey': partition, 'x-ms-continuation-nextrowkey': id };
    const type = 'application/json;odata=minimalmetadata';
    const headers = { 'content-type': type, 'x-ms-request-id': 'a', ...continued };
    proxy.faults(({ url }) =>
      url.includes('NextRowKey')
        ? undefined
        : { kind: 'answer', when: 'before', status: 200, headers, body: '{"value":[]}' },
    );
    expect(await ids(store.rows('Sessions', 'main', { before: 'c' }))).toEqual(batch.slice(1));
    expect(proxy.asked).toHaveLength(2);
  });
});

function codeIn(error: unknown): unknown {
  return error instanceof NexusError ? error.code : error;
}
