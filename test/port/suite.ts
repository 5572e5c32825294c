import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ErrorCode, NexusError } from '../../src/errors.ts';
import { type About, type Card, maxChunkBytes, type Nexus } from '../../src/nexus.ts';
import type { Store } from '../../src/stores/store.ts';

export interface OpenPort {
  nexus: Nexus;
  /** The store behind it, to do what a crash does. */
  store: Store;
  /** Changes one bit of a blob behind the store's back. */
  spoil: (name: string) => Promise<void>;
  close: () => Promise<void>;
}

const more = { complete: false, about: {} };
const last = { complete: true, about: {} };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const bytesOf = (text: string) => Buffer.from(text);

/** What a promise was rejected with, as code and length. */
async function failure(promise: Promise<unknown>): Promise<{ code: ErrorCode; length?: number }> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    return error.length === undefined ? { code: error.code } : { code: error.code, length: error.length };
  }
  throw new Error('it was expected to fail');
}

async function readAll(nexus: Nexus, agent: string, transcript: string, from?: number, to?: number) {
  const pieces: Uint8Array[] = [];
  for await (const piece of nexus.read(agent, transcript, from, to)) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function listAll(nexus: Nexus, options?: Parameters<Nexus['list']>[0]): Promise<Card[]> {
  const cards: Card[] = [];
  for await (const card of nexus.list(options)) cards.push(card);
  return cards;
}

/** The promises of the port, the same for every way to open one. */
export function describePort(name: string, open: () => Promise<OpenPort>): void {
  describe(`the port, ${name}`, () => {
    let port: OpenPort;
    let nexus: Nexus;
    let count = 0;
    /** A transcript's name that no other test uses. */
    const fresh = () => `transcript-${++count}`;

    beforeAll(async () => {
      port = await open();
      nexus = port.nexus;
    });
    afterAll(() => port.close());

    test('names the store it stands on', async () => {
      expect(await nexus.storeId()).toBe(await port.store.id());
    });

    test('knows nothing of what was never stored', async () => {
      expect(await nexus.stat('main', fresh())).toBeUndefined();
      expect(await failure(readAll(nexus, 'main', fresh()))).toEqual({ code: 'not_found' });
    });

    test('stores bytes as they are', async () => {
      const transcript = fresh();
      const bytes = Buffer.from([0, 13, 10, 0xef, 0xbb, 0xbf, 0xff, 0xfe, 0xed, 0xa0, 0x80, 10, 0]);
      expect(await nexus.append('main', transcript, 0, bytes, more)).toBe(bytes.length);
      expect(bytes.equals(await readAll(nexus, 'main', transcript))).toBe(true);
    });

    test('puts a transcript where its path says', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('x\n'), more);
      expect((await nexus.stat('main', transcript))?.path).toBe(`inbox/main/${transcript}.jsonl`);
      expect((await port.store.stat(`sessions/inbox/main/${transcript}.jsonl`))?.length).toBe(2);
    });

    test('adds at the stored length and answers the new one', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('one\n'), more);
      expect(await nexus.append('main', transcript, 4, bytesOf('two\n'), more)).toBe(8);
      expect((await readAll(nexus, 'main', transcript)).toString()).toBe('one\ntwo\n');
    });

    test.each([0, 3, 5, 4000])('refuses an append at %d of 4 bytes and tells the true length', async (at) => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('one\n'), more);
      expect(await failure(nexus.append('main', transcript, at, bytesOf('x'), more))).toEqual({
        code: 'conflict',
        length: 4,
      });
      expect((await readAll(nexus, 'main', transcript)).toString()).toBe('one\n');
    });

    test('refuses an append beyond nothing and tells that nothing is there', async () => {
      const transcript = fresh();
      expect(await failure(nexus.append('main', transcript, 1, bytesOf('x'), more))).toEqual({
        code: 'conflict',
        length: 0,
      });
      expect(await nexus.stat('main', transcript)).toBeUndefined();
    });

    test('tells a repeated append that its bytes are there, by the length', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('again\n'), more);
      expect(await failure(nexus.append('main', transcript, 0, bytesOf('again\n'), more))).toEqual({
        code: 'conflict',
        length: 6,
      });
      expect((await nexus.stat('main', transcript, { digest: 'stored' }))?.digest).toBe(
        sha256(bytesOf('again\n')),
      );
    });

    test('lets one of several appends at the same place win', async () => {
      const transcript = fresh();
      const results = await Promise.allSettled(
        ['a', 'b', 'c', 'd'].map((text) => nexus.append('main', transcript, 0, bytesOf(text), more)),
      );
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(await readAll(nexus, 'main', transcript)).toHaveLength(1);
    });

    test('remembers that a transcript is complete', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('all\n'), last);
      expect(await nexus.stat('main', transcript)).toMatchObject({ complete: true, length: 4 });
    });

    test('completes a transcript without a further byte', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('all\n'), more);
      expect(await nexus.append('main', transcript, 4, new Uint8Array(), last)).toBe(4);
      expect(await nexus.stat('main', transcript)).toMatchObject({ complete: true, length: 4 });
    });

    test('refuses to complete a transcript that is longer than the caller thinks', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('all\n'), more);
      expect(await failure(nexus.append('main', transcript, 2, new Uint8Array(), last))).toEqual({
        code: 'conflict',
        length: 4,
      });
      expect((await nexus.stat('main', transcript))?.complete).toBe(false);
    });

    test('reopens a complete transcript when more comes at its end', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('all\n'), last);
      await nexus.append('main', transcript, 4, bytesOf('not all\n'), more);
      expect(await nexus.stat('main', transcript)).toMatchObject({ complete: false, length: 12 });
    });

    test('holds an empty transcript', async () => {
      const transcript = fresh();
      expect(await nexus.append('main', transcript, 0, new Uint8Array(), last)).toBe(0);
      expect(await nexus.stat('main', transcript, { digest: 'stored' })).toMatchObject({
        length: 0,
        complete: true,
        digest: sha256(Buffer.alloc(0)),
      });
      expect(await readAll(nexus, 'main', transcript)).toHaveLength(0);
      expect((await listAll(nexus, { agent: 'main' })).map((card) => card.transcript)).toContain(transcript);
    });

    test('fills an empty transcript', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, new Uint8Array(), last);
      expect(await nexus.append('main', transcript, 0, bytesOf('late\n'), more)).toBe(5);
      expect((await readAll(nexus, 'main', transcript)).toString()).toBe('late\n');
    });

    test('keeps what the host says about a transcript, and forgets nothing that is left out later', async () => {
      const transcript = fresh();
      const about: About = {
        host: 'böx "1"\\',
        era: 'sqlite',
        sessionKey: 'agent:main:telegram:direct:\u{1f980}\u2028\u007f',
        trigger: 'cron',
        firstEventAt: '2026-11-01T00:00:00.000Z',
        sessionId: 'a/b c',
      };
      await nexus.append('main', transcript, 0, bytesOf('1\n'), { complete: false, about });
      const lastEventAt = '2026-11-02T00:00:00.000Z';
      await nexus.append('main', transcript, 2, bytesOf('2\n'), { complete: false, about: { lastEventAt } });
      expect(await nexus.stat('main', transcript)).toMatchObject({ ...about, lastEventAt });
    });

    test('gives the digest of what is stored when asked', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('one\n'), more);
      await nexus.append('main', transcript, 4, bytesOf('two\n'), more);
      for (const digest of ['stored', 'reread'] as const)
        expect((await nexus.stat('main', transcript, { digest }))?.digest).toBe(
          sha256(bytesOf('one\ntwo\n')),
        );
    });

    test('never gives the digest of a shorter transcript for a longer one', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('one\n'), more);
      await nexus.stat('main', transcript, { digest: 'stored' });
      await nexus.append('main', transcript, 4, bytesOf('two\n'), more);
      const card = await nexus.stat('main', transcript);
      expect([undefined, sha256(bytesOf('one\ntwo\n'))]).toContain(card?.digest);
    });

    test('finds by reading again that a stored bit has changed', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('precious\n'), last);
      await nexus.stat('main', transcript, { digest: 'stored' });
      await port.spoil(`sessions/inbox/main/${transcript}.jsonl`);
      expect(await failure(nexus.stat('main', transcript, { digest: 'reread' }))).toEqual({
        code: 'corrupt',
      });
    });

    test('repairs the card of bytes that a crash left without one', async () => {
      const transcript = fresh();
      await port.store.append(`sessions/inbox/main/${transcript}.jsonl`, 0, bytesOf('orphan\n'));
      expect(await nexus.stat('main', transcript)).toMatchObject({ length: 7, complete: false });
    });

    test('repairs a card that a crash left behind its bytes', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('one\n'), {
        complete: false,
        about: { host: 'box' },
      });
      await nexus.stat('main', transcript, { digest: 'stored' });
      await port.store.append(`sessions/inbox/main/${transcript}.jsonl`, 4, bytesOf('two\n'));
      const card = await nexus.stat('main', transcript);
      expect(card).toMatchObject({ length: 8, host: 'box' });
      expect(card?.digest).toBeUndefined();
      expect((await nexus.stat('main', transcript, { digest: 'reread' }))?.digest).toBe(
        sha256(bytesOf('one\ntwo\n')),
      );
    });

    test('goes on after a crash between the bytes and the card', async () => {
      const transcript = fresh();
      await port.store.append(`sessions/inbox/main/${transcript}.jsonl`, 0, bytesOf('one\n'));
      expect(await failure(nexus.append('main', transcript, 0, bytesOf('one\n'), more))).toMatchObject({
        length: 4,
      });
      expect(await nexus.append('main', transcript, 4, bytesOf('two\n'), last)).toBe(8);
      expect(await nexus.stat('main', transcript)).toMatchObject({ length: 8, complete: true });
    });

    test('reads any range', async () => {
      const transcript = fresh();
      const text = '0123456789';
      await nexus.append('main', transcript, 0, bytesOf(text), more);
      const ranges: [number?, number?][] = [
        [],
        [0, 10],
        [3],
        [3, 7],
        [0, 1],
        [9, 10],
        [8, 99],
        [10],
        [4, 4],
        [0, 0],
      ];
      for (const [from, to] of ranges)
        expect((await readAll(nexus, 'main', transcript, from, to)).toString()).toBe(text.slice(from, to));
    });

    test('refuses a range that begins beyond the bytes and tells how many there are', async () => {
      const transcript = fresh();
      await nexus.append('main', transcript, 0, bytesOf('0123'), more);
      expect(await failure(readAll(nexus, 'main', transcript, 5))).toEqual({ code: 'range', length: 4 });
    });

    test('lets a reader stop early', async () => {
      const transcript = fresh();
      const bytes = Buffer.alloc(3 * 1024 * 1024, 'x');
      await nexus.append('main', transcript, 0, bytes, more);
      for await (const piece of nexus.read('main', transcript)) {
        expect(piece.length).toBeGreaterThan(0);
        break;
      }
      expect(bytes.equals(await readAll(nexus, 'main', transcript))).toBe(true);
    });

    test('takes a chunk of exactly the limit and no longer one', async () => {
      const transcript = fresh();
      const chunk = Buffer.alloc(maxChunkBytes, 'line\n');
      expect(await nexus.append('main', transcript, 0, chunk, more)).toBe(maxChunkBytes);
      const longer = Buffer.alloc(maxChunkBytes + 1);
      expect(await failure(nexus.append('main', transcript, maxChunkBytes, longer, more))).toEqual({
        code: 'too_large',
      });
      expect((await nexus.stat('main', transcript, { digest: 'reread' }))?.digest).toBe(sha256(chunk));
    });

    test.each(['', '..', '../main', 'a/b', 'a.b', '-a', 'a'.repeat(65), 'ä', 'a\u0000'])(
      'refuses the agent %j',
      async (agent) => {
        expect(await failure(nexus.append(agent, 'x', 0, bytesOf('x'), more))).toEqual({ code: 'invalid' });
        expect(await failure(nexus.stat(agent, 'x'))).toEqual({ code: 'invalid' });
        expect(await failure(listAll(nexus, { agent }))).toEqual({ code: 'invalid' });
        expect(await failure(nexus.mark(agent, 'box'))).toEqual({ code: 'invalid' });
      },
    );

    test.each(['', '.', '..', '../x', 'a/b', 'a\\b', '.x', 'x.', 'x'.repeat(191), 'ä', 'x\n'])(
      'refuses the transcript %j',
      async (transcript) => {
        expect(await failure(nexus.append('main', transcript, 0, bytesOf('x'), more))).toEqual({
          code: 'invalid',
        });
        expect(await failure(nexus.stat('main', transcript))).toEqual({ code: 'invalid' });
      },
    );

    test.each(['x~2', 'x-topic-a~x20b', 'X.y_z', '~e', 'x'.repeat(190)])(
      'takes the transcript %j',
      async (transcript) => {
        await nexus.append('names', transcript, 0, bytesOf('x'), more);
        expect((await nexus.stat('names', transcript))?.transcript).toBe(transcript);
      },
    );

    test('lists by agent and transcript in ascending order, those without a card in their place', async () => {
      for (const transcript of ['b', 'a-1', 'B', 'a'])
        await nexus.append('order-2', transcript, 0, bytesOf(transcript), more);
      await nexus.append('order-1', 'z', 0, bytesOf('z'), more);
      for (const orphan of ['a.b', 'A', 'zz'])
        await port.store.append(`sessions/inbox/order-2/${orphan}.jsonl`, 0, bytesOf('orphan'));
      const cards = (await listAll(nexus)).filter(({ agent }) => agent.startsWith('order-'));
      expect(cards.map(({ agent, transcript }) => `${agent}/${transcript}`)).toEqual([
        'order-1/z',
        ...['A', 'B', 'a', 'a-1', 'a.b', 'b', 'zz'].map((transcript) => `order-2/${transcript}`),
      ]);
    });

    test('lists what a crash has left of an agent that was new', async () => {
      // The append ends before its card is written.
      const cut = port.store.append.bind(port.store);
      await nexus.append('new-agent', 'first', 0, new Uint8Array(), more);
      await cut('sessions/inbox/new-agent/second.jsonl', 0, bytesOf('x'));
      await port.store.removeRows('Sessions', 'new-agent', ['first']);
      expect((await listAll(nexus)).map(({ transcript }) => transcript)).toContain('second');
    });

    test('lists from after a transcript, there or not', async () => {
      for (const transcript of ['a', 'b', 'c'])
        await nexus.append('after', transcript, 0, bytesOf('x'), more);
      const names = async (transcript: string) =>
        (await listAll(nexus, { agent: 'after', after: { agent: 'after', transcript } })).map(
          (card) => card.transcript,
        );
      expect(await names('a')).toEqual(['b', 'c']);
      expect(await names('aa')).toEqual(['b', 'c']);
      expect(await names('c')).toEqual([]);
    });

    test('lists only what changed since a time', async () => {
      await nexus.append('since', 'old', 0, bytesOf('x'), more);
      await new Promise((resolve) => setTimeout(resolve, 20));
      await nexus.append('since', 'new', 0, bytesOf('x'), more);
      const changed = (await nexus.stat('since', 'new'))?.updatedAt ?? '';
      expect(
        (await listAll(nexus, { agent: 'since', since: changed })).map((card) => card.transcript),
      ).toEqual(['new']);
    });

    test('lists the same cards as it shows one by one', async () => {
      await nexus.append('cards', 'x', 0, bytesOf('x'), { complete: true, about: { host: 'bøx' } });
      expect(await listAll(nexus, { agent: 'cards' })).toEqual([await nexus.stat('cards', 'x')]);
    });

    test('keeps a mark for each agent and host, the last one set', async () => {
      expect(await nexus.mark('main', 'box')).toBeUndefined();
      await nexus.setMark('main', 'box', 'one');
      await nexus.setMark('main', 'box', 'two');
      await nexus.setMark('main', 'a/b c%2f?ö', 'three');
      expect(await nexus.mark('main', 'box')).toBe('two');
      expect(await nexus.mark('main', 'a/b c%2f?ö')).toBe('three');
      expect(await nexus.mark('other', 'box')).toBeUndefined();
    });

    test('takes the prices of a host, also many and none, and refuses what is no price', async () => {
      const price = { provider: 'a/ö', model: 'x:y', input: 1, output: 2.5, cacheRead: 0, cacheWrite: 0 };
      await nexus.setPrices('main', 'a/b c%2f?ö', [price]);
      await nexus.setPrices('main', 'box', []);
      const many = Array.from({ length: 2000 }, (_, n) => ({ ...price, model: `model ${n}` }));
      await nexus.setPrices('main', 'box', many);
      expect(await failure(nexus.setPrices('../x', 'box', []))).toEqual({ code: 'invalid' });
      expect(await failure(nexus.setPrices('main', 'box', [{ ...price, input: -1 }]))).toEqual({
        code: 'invalid',
      });
    });

    test('stores the same bytes however they are split', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.uint8Array({ maxLength: 3000 }), { minLength: 1, maxLength: 8 }),
          fc.boolean(),
          async (pieces, complete) => {
            const transcript = fresh();
            let length = 0;
            for (const [index, piece] of pieces.entries()) {
              const facts = { complete: complete && index === pieces.length - 1, about: {} };
              length = await nexus.append('split', transcript, length, piece, facts);
            }
            const whole = Buffer.concat(pieces);
            const card = await nexus.stat('split', transcript, { digest: 'reread' });
            expect(card).toMatchObject({ length: whole.length, complete, digest: sha256(whole) });
            expect(whole.equals(await readAll(nexus, 'split', transcript))).toBe(true);
          },
        ),
        { numRuns: 25 },
      );
    });
  });
}
