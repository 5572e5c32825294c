import { once } from 'node:events';
import { createServer } from 'node:http';
import { inspect } from 'node:util';
import { BlobServiceClient } from '@azure/storage-blob';
import { TableClient } from '@azure/data-tables';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { type AzureOptions, openAzureStore } from '../../src/stores/azure.ts';
import { type Store, rowOf } from '../../src/stores/store.ts';
import { type Azurite, connectionStringOf, freshPrefix, startAzurite } from './azurite.ts';
import { describeStore } from './contract.ts';
import { bytes, codeOf, collect, failure, ids, text } from './outcomes.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

describeStore('azure', async () => {
  const options = { connectionString: azurite.connectionString, prefix: freshPrefix() };
  const store = await openAzureStore(options);
  const opened = [store];
  return {
    store,
    async reopen() {
      const again = await openAzureStore(options);
      opened.push(again);
      return again;
    },
    async cleanup() {
      await Promise.all(opened.map((store) => store.close()));
    },
  };
});

describe('the azure store in its account', () => {
  const log = 'sessions/inbox/main/one.jsonl';
  let prefix: string;
  let store: Store;
  const opened: Store[] = [];

  async function open(options: AzureOptions = {}): Promise<Store> {
    const store = await openAzureStore({ connectionString: azurite.connectionString, prefix, ...options });
    opened.push(store);
    return store;
  }
  const container = (name: string) =>
    BlobServiceClient.fromConnectionString(azurite.connectionString).getContainerClient(`${prefix}-${name}`);
  const table = (name: string) =>
    TableClient.fromConnectionString(azurite.connectionString, `${prefix}${name}`, {
      allowInsecureConnection: true,
    });

  beforeEach(async () => {
    prefix = freshPrefix();
    store = await open();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()));
  });

  test('keeps transcripts as append blobs at the paths that are promised', async () => {
    const plain = await open({ prefix: '' });
    const agent = `agent-${prefix}`;
    await plain.append(`sessions/inbox/${agent}/x.jsonl`, 0, bytes('abc'));
    const client = BlobServiceClient.fromConnectionString(azurite.connectionString)
      .getContainerClient('sessions')
      .getBlobClient(`inbox/${agent}/x.jsonl`);
    expect(await client.getProperties()).toMatchObject({ blobType: 'AppendBlob', contentLength: 3 });
  });

  test('shares an account with another of another prefix', async () => {
    const mine = prefix;
    prefix = freshPrefix();
    const other = await open();
    await store.append(log, 0, bytes('mine'));
    await store.insert('Sessions', { partition: 'main', id: 'mine' });
    expect(mine).not.toBe(prefix);
    expect(await other.stat(log)).toBeUndefined();
    expect(await collect(other.rows('Sessions', 'main'))).toEqual([]);
    expect(await other.id()).not.toBe(await store.id());
  });

  test('makes nothing for who only looks', async () => {
    const prefix = freshPrefix();
    const looking = await open({ prefix, onlyLook: true });
    expect(await codeOf(looking.id())).toBe('not_found');
    expect(await looking.stat(log)).toBeUndefined();
    expect(await collect(looking.rows('Sessions', 'main'))).toEqual([]);
    const account = BlobServiceClient.fromConnectionString(azurite.connectionString);
    expect(await collect(account.listContainers({ prefix }))).toEqual([]);
    const id = await (await open({ prefix })).id();
    expect(await looking.id()).toBe(id);
  });

  test('makes one id where many ask for it first', async () => {
    const stores = await Promise.all(Array.from({ length: 6 }, () => open()));
    expect(new Set(await Promise.all(stores.map((one) => one.id()))).size).toBe(1);
  });

  test('takes a transcript that was begun and got no bytes for absent', async () => {
    await store.append('sessions/inbox/main/other.jsonl', 0, bytes('x'));
    await container('sessions').getAppendBlobClient('inbox/main/one.jsonl').create();
    expect(await store.stat(log)).toBeUndefined();
    expect(await codeOf(text(store.open(log)))).toBe('not_found');
    expect(await collect(store.list('sessions/inbox/main/one'))).toEqual([]);
    expect(await failure(store.append(log, 3, bytes('x')))).toMatchObject({ code: 'conflict', length: 0 });
    expect(await store.append(log, 0, bytes('abc'))).toBe(3);
  });

  test('refuses to append to a blob of others that cannot grow', async () => {
    await store.append('sessions/inbox/main/other.jsonl', 0, bytes('x'));
    await container('sessions').getBlockBlobClient('inbox/main/one.jsonl').upload('abc', 3);
    expect(await codeOf(store.append(log, 3, bytes('d')))).toBe('invalid');
    expect(await text(store.open(log))).toBe('abc');
  });

  test('says full, with the length, when a blob has taken as many appends as it can', async () => {
    const small = await open({ maxBlocks: 3 });
    for (let n = 0; n < 3; n++) await small.append(log, n, bytes('x'));
    expect(await failure(small.append(log, 3, bytes('x')))).toMatchObject({ code: 'full', length: 3 });
    expect(await failure(small.append(log, 2, bytes('x')))).toMatchObject({ code: 'conflict', length: 3 });
    expect(await text(small.open(log))).toBe('xxx');
  });

  test('stops reading a blob that is replaced meanwhile', async () => {
    const chunk = Buffer.alloc(6_000_000, 'a');
    await store.append(log, 0, chunk);
    const reading = (async () => {
      for await (const piece of store.open(log)) {
        expect(piece.length).toBeLessThan(chunk.length);
        await store.remove(log);
        await store.append(log, 0, Buffer.alloc(6_000_000, 'b'));
      }
    })();
    expect(await codeOf(reading)).toBe('unavailable');
  });

  test('reads rows that others wrote with 64-bit numbers', async () => {
    await store.insert('Sessions', { partition: 'main', id: 'own' });
    await table('Sessions').createEntity({
      partitionKey: 'main',
      rowKey: 'theirs',
      n: { type: 'Int64', value: '4294967297' },
    });
    const row = await rowOf(store, 'Sessions', 'main', 'theirs');
    expect(JSON.parse(JSON.stringify(row))).toEqual({ partition: 'main', id: 'theirs', n: 4294967297 });
  });

  test('sends text that is no proper Unicode as bytes, which no service changes', async () => {
    await store.insert('Sessions', {
      partition: 'main',
      id: 'a',
      odd: 'a\ud800',
      control: '\u0000',
      plain: 'ü\n',
    });
    const entity = await table('Sessions').getEntity('main', 'a');
    expect(entity).toMatchObject({
      odd: Buffer.from('a\ud800', 'utf16le'),
      control: Buffer.from('\u0000', 'utf16le'),
      plain: 'ü\n',
    });
  });

  describe('that loses', () => {
    test('a container while it is used says so, and never that it is empty', async () => {
      await store.append(log, 0, bytes('abc'));
      await container('sessions').delete();
      expect(await codeOf(store.stat(log))).toBe('unavailable');
      expect(await codeOf(text(store.open(log)))).toBe('unavailable');
      expect(await codeOf(collect(store.list('sessions/')))).toBe('unavailable');
      expect(await codeOf(store.append(log, 3, bytes('d')))).toBe('unavailable');
      expect(await codeOf(store.append('sessions/inbox/main/new.jsonl', 0, bytes('d')))).toBe('unavailable');
      expect(await codeOf(store.remove(log))).toBe('unavailable');
    });

    test('its transcripts is another store to who opens it then', async () => {
      await store.append(log, 0, bytes('abc'));
      const id = await store.id();
      await container('sessions').delete();
      const again = await open();
      expect(await again.id()).not.toBe(id);
      expect(await again.stat(log)).toBeUndefined();
    });

    test('a table while it is used says so, and never that it is empty', async () => {
      const row = { partition: 'main', id: 'a' };
      await store.insert('Sessions', row);
      await table('Sessions').deleteTable();
      expect(await codeOf(rowOf(store, 'Sessions', 'main', 'a'))).toBe('unavailable');
      expect(await codeOf(collect(store.rows('Sessions', 'main')))).toBe('unavailable');
      expect(await codeOf(store.insert('Sessions', row))).toBe('unavailable');
      expect(await codeOf(store.put('Sessions', row))).toBe('unavailable');
      expect(await codeOf(store.removeRows('Sessions', 'main', ['a']))).toBe('unavailable');
      expect(await codeOf(store.removeRows('Sessions', 'main', ['a', 'b']))).toBe('unavailable');
    });
  });

  describe('that cannot be used', () => {
    const wrongKey = Buffer.alloc(64, 7).toString('base64');

    test('with a wrong key is forbidden, with a hint and without the key', async () => {
      const connectionString = connectionStringOf(azurite.blobs, azurite.tables, wrongKey);
      const other = await open({ connectionString });
      const calls = [
        () => other.stat(log),
        () => other.insert('Sessions', { partition: 'main', id: 'a' }),
        () => other.id(),
      ];
      for (const call of calls) {
        const error = await failure(call());
        expect(error.code).toBe('forbidden');
        expect(error.hint).toMatch(/key/);
        expect(inspect(error, { depth: 9 })).not.toMatch(/SharedKey|devstoreaccount1|BwcHBwcH/);
      }
    });

    test('because nobody listens there is unavailable, soon', async () => {
      const connectionString = connectionStringOf('http://127.0.0.1:1', 'http://127.0.0.1:1');
      const other = await open({ connectionString, timeoutMs: 600 });
      const began = performance.now();
      expect(await failure(other.stat(log))).toMatchObject({
        code: 'unavailable',
        hint: expect.stringMatching(/account/),
      });
      expect(await codeOf(rowOf(other, 'Sessions', 'main', 'a'))).toBe('unavailable');
      expect(performance.now() - began).toBeLessThan(2000);
    });

    test('because its name is not known is unavailable', async () => {
      const connectionString = connectionStringOf('http://nowhere.invalid', 'http://nowhere.invalid');
      const other = await open({ connectionString, timeoutMs: 600 });
      expect(await codeOf(other.stat(log))).toBe('unavailable');
      expect(await codeOf(other.put('Sessions', { partition: 'main', id: 'a' }))).toBe('unavailable');
    });

    test.each([
      ['a login page', 200, 'text/html', '<html><body>Sign in</body></html>'],
      ['an empty object', 200, 'application/json', '{}'],
      ['an empty list', 200, 'application/json', '{"value":[]}'],
      ['nothing', 204, 'text/plain', ''],
      ['a page that is not there', 404, 'text/html', '<html><body>Not found</body></html>'],
      ['a redirect', 302, 'text/html', ''],
    ])(
      'because %s answers in its place says so, and never that it is empty',
      async (_, status, type, body) => {
        const stranger = createServer((request, response) => {
          request.resume();
          response.writeHead(status, {
            'content-type': type,
            etag: '"1"',
            'last-modified': new Date().toUTCString(),
          });
          response.end(request.method === 'HEAD' ? undefined : body);
        });
        await once(stranger.listen(0, '127.0.0.1'), 'listening');
        const address = stranger.address();
        const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
        const other = await open({ connectionString: connectionStringOf(url, url), timeoutMs: 8000 });
        const calls = [
          () => other.id(),
          () => other.stat(log),
          () => collect(other.list('sessions/inbox/')),
          () => collect(other.open(log)),
          () => other.append(log, 0, bytes('x')),
          () => other.create('payloads/main/one', bytes('x')),
          () => other.remove(log),
          () => collect(other.rows('Sessions', 'main')),
          () => rowOf(other, 'Sessions', 'main', 'a'),
          () => other.insert('Sessions', { partition: 'main', id: 'a' }),
          () => other.put('Sessions', { partition: 'main', id: 'a' }),
          () => other.removeRows('Sessions', 'main', ['a']),
          () => other.removeRows('Sessions', 'main', ['a', 'b']),
        ];
        const told = await Promise.all(calls.map((call) => failure(call())));
        stranger.close();
        expect(told.map(({ code }) => code)).toEqual(calls.map(() => 'unavailable'));
        for (const { message } of told)
          expect(message).toMatch(/^What answers is not Azure Storage: (HTTP \d+|it makes no sense) to/);
      },
    );

    test.each<[string, AzureOptions]>([
      ['no account', { connectionString: undefined }],
      ['a wrong account', { connectionString: undefined, account: 'Not_An_Account' }],
      ['no connection string', { connectionString: 'AccountKey=c2VjcmV0' }],
      ['a prefix with a dash', { prefix: 'a-b' }],
    ])('for %s is a wrong configuration, told without secrets', async (_, options) => {
      const error = await failure(openAzureStore({ connectionString: azurite.connectionString, ...options }));
      expect(error).toBeInstanceOf(NexusError);
      expect(error.code).toBe('config');
      expect(inspect(error, { depth: 9 })).not.toContain('c2VjcmV0');
    });
  });

  test('refuses new calls when it is closed', async () => {
    await store.close();
    expect(await codeOf(store.stat(log))).toBe('unavailable');
    expect(await codeOf(ids(store.rows('Sessions', 'main')))).toBe('unavailable');
  });
});
