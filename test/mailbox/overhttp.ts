import { createHmac, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serve } from '../../src/http/listen.ts';
import { openMailboxClient } from '../../src/http/mailboxclient.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import type { Store } from '../../src/stores/store.ts';
import { nounsOver } from '../http/nouns.ts';
import { secret, sources } from '../http/senders.ts';
import { describeMailbox, type OpenMailbox } from './suite.ts';

/** An empty store, which is the suite's until it removes it. */
export interface Under {
  store: Store;
  spoil?: (name: string) => Promise<void>;
  remove: () => Promise<void>;
}

/** An endpoint that knows the sources of `servedSources`, and a client of it. */
export type ServedMailbox = OpenMailbox & { url: string };

export const servedSources = sources({ github: { verify: 'github', secret } });

async function serveOver({ remove, ...under }: Under): Promise<ServedMailbox> {
  const stop = new AbortController();
  const key = makeKey();
  const nouns = nounsOver(under.store, servedSources);
  const { url, closed } = await serve({
    ...nouns,
    host: '127.0.0.1',
    port: 0,
    signal: stop.signal,
    keys: () => [{ name: 'suite', hash: hashKey(key), agents: '*', scopes: ['pull'] }],
    version: '0.0.0',
  });
  return {
    ...under,
    url,
    mailbox: openMailboxClient({ endpoint: url, key, retries: { tries: 2, baseMs: 1, maxMs: 1 } }),
    webhooks: nouns.webhooks,
    async close() {
      stop.abort();
      await closed;
      await remove();
    },
  };
}

/** The promises of a mailbox by the endpoint's routes, and of the route that senders call. */
export function describeRoutes(name: string, open: () => Promise<Under>): void {
  describeServed(name, async () => await serveOver(await open()));
}

/** The same of an endpoint that runs already, wherever. */
export function describeServed(name: string, open: () => Promise<ServedMailbox>): void {
  describeMailbox(name, open);

  describe(`a webhook that is posted, ${name}`, () => {
    let served: ServedMailbox;
    beforeAll(async () => {
      served = await open();
    }, 60_000);
    afterAll(() => served.close());

    async function post(body: Buffer<ArrayBuffer>, headers: Record<string, string> = {}) {
      const signature = createHmac('sha256', secret).update(body).digest('hex');
      const response = await fetch(`${served.url}/api/webhook/main?source=github`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'x-hub-signature-256': `sha256=${signature}`,
          ...headers,
        },
        body,
      });
      const answer: unknown = await response.json();
      return { status: response.status, answer };
    }
    const pending = async () => (await served.mailbox.pending({ agents: ['main'] })).items;
    const acknowledge = async () => {
      const ids = (await pending()).map(({ id }) => id);
      await served.mailbox.acknowledge(ids, 'box');
    };

    test.each([
      ['small', Buffer.from('{"n":1}')],
      ['larger than a row', Buffer.from(JSON.stringify(randomBytes(150_000).toString('hex')))],
    ])('is pending when it was accepted, and no more when it was acknowledged: %s', async (_, body) => {
      const { status, answer } = await post(body, { 'x-github-event': 'push' });
      expect(status).toBe(202);
      const [item, ...more] = await pending();
      expect(more).toEqual([]);
      expect(answer).toEqual({ status: 'accepted', id: item?.id });
      expect(item).toMatchObject({ source: 'github', headers: { 'x-github-event': 'push' } });
      expect(item).toHaveProperty('payloadText', body.toString());
      await acknowledge();
      expect(await pending()).toEqual([]);
    });

    test('is one item however often and at once it comes, also after it was acknowledged', async () => {
      const headers = { 'x-github-delivery': 'd-1' };
      const answers = await Promise.all(
        Array.from({ length: 4 }, () => post(Buffer.from('{"n":2}'), headers)),
      );
      const [item, ...more] = await pending();
      expect(more).toEqual([]);
      expect(answers.filter(({ status }) => status === 202)).toHaveLength(1);
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(3);
      for (const { answer } of answers) expect(answer).toMatchObject({ id: item?.id });
      await acknowledge();
      expect(await post(Buffer.from('{"n":2}'), headers)).toEqual({
        status: 200,
        answer: { status: 'duplicate', id: item?.id },
      });
      expect(await pending()).toEqual([]);
    });

    test('leaves nothing where it was not signed', async () => {
      const { status } = await post(Buffer.from('{}'), { 'x-hub-signature-256': `sha256=${'0'.repeat(64)}` });
      expect(status).toBe(401);
      expect(await pending()).toEqual([]);
    });
  });
}
