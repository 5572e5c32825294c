import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { serve } from '../../src/http/listen.ts';
import type { Webhooks } from '../../src/mailbox.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { type Azurite, freshPrefix, startAzurite } from '../stores/azurite.ts';
import { nounsOver } from './nouns.ts';
import { secret, sources } from './senders.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(() => azurite.stop());

interface Replica {
  url: string;
  webhooks: Webhooks;
  stop: () => Promise<void>;
}

/** One of several endpoints over one account. */
async function replica(prefix: string): Promise<Replica> {
  const store = await openAzureStore({ connectionString: azurite.connectionString, prefix });
  const nouns = nounsOver(store, sources({ github: { verify: 'github', secret } }));
  const stop = new AbortController();
  const { url, closed } = await serve({
    ...nouns,
    host: '127.0.0.1',
    port: 0,
    signal: stop.signal,
    keys: () => [],
    version: '0',
  });
  return {
    url,
    webhooks: nouns.webhooks,
    async stop() {
      stop.abort();
      await closed;
      await store.close();
    },
  };
}

async function send(url: string, body: string, delivery: string): Promise<{ status: number; id: string }> {
  const signature = createHmac('sha256', secret).update(body).digest('hex');
  const answer = await fetch(`${url}/api/webhook/main?source=github`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-hub-signature-256': `sha256=${signature}`,
      'x-github-delivery': delivery,
    },
  });
  const { id }: { id: string } = Object(await answer.json());
  return { status: answer.status, id };
}

test('of deliveries that come to two replicas at once each is kept once, and each answer is right', async () => {
  const prefix = freshPrefix();
  const replicas = [await replica(prefix), await replica(prefix)];
  try {
    // 200 requests: each of 50 deliveries twice through either replica, some too long for a row.
    const sent = Array.from({ length: 200 }, (_, n) => ({
      delivery: `d-${n % 50}`,
      body: JSON.stringify({ n: n % 50, text: 'x'.repeat(n % 50 === 7 ? 100_000 : 10) }),
      url: replicas[Math.floor(n / 50) % 2]?.url ?? '',
    }));
    const answers = await Promise.all(
      sent.map(async ({ delivery, body, url }) => ({ delivery, ...(await send(url, body, delivery)) })),
    );
    for (let n = 0; n < 50; n++) {
      const same = answers.filter(({ delivery }) => delivery === `d-${n}`);
      expect(same.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 200, 200, 202]);
      expect(new Set(same.map(({ id }) => id)).size).toBe(1);
    }
    for (const { webhooks } of replicas) {
      const { items } = await webhooks.pending({ agents: '*', limit: 1000 });
      expect(items.map(({ id }) => id).sort()).toEqual([...new Set(answers.map(({ id }) => id))].sort());
      expect(new Set(items.map(({ payloadText }) => JSON.parse(payloadText).n)).size).toBe(50);
    }
  } finally {
    await Promise.all(replicas.map(({ stop }) => stop()));
  }
}, 60_000);

test('who waits at one replica is given what the other received', async () => {
  const prefix = freshPrefix();
  const [one, other] = [await replica(prefix), await replica(prefix)];
  try {
    const waiting = fetch(`${one.url}/api/webhook/pending?agentId=main&wait=20`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const { id } = await send(other.url, '{}', 'd');
    expect(await (await waiting).json()).toMatchObject({ main: [{ id }] });
  } finally {
    await Promise.all([one.stop(), other.stop()]);
  }
}, 60_000);
