import { createHash } from 'node:crypto';
import { describe, failedWith, NexusError } from './errors.ts';
import type { Damaged } from './nexus.ts';
import { agentOfBlob, agentOfRow, agentsOf } from './storecontents.ts';
import type { Damage, Rotted, Store } from './stores/store.ts';
import { bodyOf } from './webhookbodies.ts';

/**
 * What is damaged in a store: what the store itself finds, webhooks whose bodies are not what was received, and
 * transcripts whose bytes are not those that their cards name by digest. Of what it has found it keeps the names.
 */
export async function* damageIn(store: Store, signal?: AbortSignal): AsyncIterable<Damaged> {
  const found = new Set<string>();
  for await (const one of store.damage(signal)) {
    found.add(one.item);
    yield withAgent(one);
  }
  /** Rows that have rotted since, to be named before the next is looked at. */
  const late: Damaged[] = [];
  const rottedIn = (table: string, partition: string): Rotted => {
    return (id, { message }) => {
      const item = `${table} ${partition}/${id}`;
      if (!found.has(item)) late.push(withAgent({ item, reason: message, row: { table, partition, id } }));
    };
  };
  async function* rows(table: string, agent: string) {
    for await (const row of store.rows(table, agent, {}, rottedIn(table, agent))) {
      signal?.throwIfAborted();
      yield row;
    }
  }
  const agents = await agentsOf(store, rottedIn('Agents', 'agents'));
  for (const agent of agents) {
    for await (const { id, length, digest } of rows('Sessions', agent)) {
      yield* late.splice(0);
      const name = blobName(agent, id);
      if (typeof digest === 'string' && typeof length === 'number' && length > 0 && !found.has(name))
        yield* reasonOf(agent, `${agent}/${id}`, () =>
          checkDigest(store, `${agent}/${id}`, name, { length, digest }, signal),
        );
    }
    for (const table of ['WebhookItems', 'History'])
      for await (const row of rows(table, agent)) {
        yield* late.splice(0);
        yield* reasonOf(agent, `${agent}.${row.id}`, () => bodyOf(store, row));
      }
    yield* late.splice(0);
  }
  yield* late;
}

function withAgent({ item, reason, row }: Damage): Damaged {
  const agent = row === undefined ? agentOfBlob(item) : agentOfRow(row.table, row.partition, row.id);
  return { item, reason, ...(agent === undefined ? {} : { agent }) };
}

async function checkDigest(
  store: Store,
  item: string,
  name: string,
  { length, digest }: { length: number; digest: string },
  signal: AbortSignal | undefined,
): Promise<void> {
  const hash = createHash('sha256');
  for await (const piece of store.open(name, 0, length)) {
    signal?.throwIfAborted();
    hash.update(piece);
  }
  if (hash.digest('hex') !== digest)
    throw new NexusError('corrupt', `The stored bytes of ${item} are not the ones that were stored.`);
}

function blobName(agent: string, transcript: string): string {
  return `sessions/inbox/${agent}/${transcript}.jsonl`;
}

async function* reasonOf(agent: string, item: string, read: () => Promise<unknown>): AsyncIterable<Damaged> {
  try {
    await read();
  } catch (error) {
    // Removed, or shorter than its card: that is told, and mended, where it is asked for.
    if (failedWith(error, 'not_found', 'range')) return;
    if (!failedWith(error, 'corrupt')) throw error;
    yield { item, reason: describe(error), agent };
  }
}
