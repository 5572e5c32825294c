import { createHash } from 'node:crypto';
import { describe, failedWith, NexusError } from './errors.ts';
import type { Damaged } from './nexus.ts';
import { agentsOf } from './storecontents.ts';
import type { Store } from './stores/store.ts';
import { bodyOf } from './webhookbodies.ts';

/**
 * What is damaged in a store: what the store itself finds, webhooks whose bodies are not what was received, and
 * transcripts whose bytes are not those that their cards name by digest.
 */
export async function* damageIn(store: Store): AsyncIterable<Damaged> {
  const found = new Set<string>();
  for await (const one of store.damage()) {
    found.add(one.item);
    yield one;
  }
  const rotted: Damaged[] = [];
  const told = (item: string, { message }: NexusError): void => void rotted.push({ item, reason: message });
  const agents = await agentsOf(store, (item, error) => told(`Agents ${item}`, error));
  for (const agent of agents) {
    for await (const { id, length, digest } of store.rows('Sessions', agent, {}, () => undefined))
      if (
        typeof digest === 'string' &&
        typeof length === 'number' &&
        length > 0 &&
        !found.has(blobName(agent, id))
      )
        yield* reasonOf(`${agent}/${id}`, () => checkDigest(store, agent, id, length, digest));
    for (const table of ['WebhookItems', 'History'])
      for await (const row of store.rows(table, agent, {}, (id, error) => told(`${agent}.${id}`, error)))
        yield* reasonOf(`${agent}.${row.id}`, () => bodyOf(store, row));
  }
  yield* rotted;
}

async function checkDigest(
  store: Store,
  agent: string,
  id: string,
  length: number,
  digest: string,
): Promise<void> {
  const hash = createHash('sha256');
  for await (const piece of store.open(blobName(agent, id), 0, length)) hash.update(piece);
  if (hash.digest('hex') !== digest)
    throw new NexusError('corrupt', `The stored bytes of ${agent}/${id} are not the ones that were stored.`);
}

function blobName(agent: string, transcript: string): string {
  return `sessions/inbox/${agent}/${transcript}.jsonl`;
}

async function* reasonOf(item: string, read: () => Promise<unknown>): AsyncIterable<Damaged> {
  try {
    await read();
  } catch (error) {
    // Removed, or shorter than its card: that is told, and mended, where it is asked for.
    if (failedWith(error, 'not_found', 'range')) return;
    if (!failedWith(error, 'corrupt')) throw error;
    yield { item, reason: describe(error) };
  }
}
