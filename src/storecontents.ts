import type { Store } from './stores/store.ts';

/** The containers that Nexus keeps, and how their blobs are made. */
export const containers = { sessions: 'append', payloads: 'create' } as const;

/**
 * The tables that Nexus keeps, all partitioned by agent but `Agents`, which has one partition. `Marks` belong to one
 * store and are never copied to another: they tell a host that this very store is the one it shipped to.
 */
export const tables = [
  'Agents',
  'Sessions',
  'Marks',
  'Changes',
  'WebhookItems',
  'Deliveries',
  'History',
  'Mailboxes',
  'Alerts',
] as const;

/** Every agent that a store knows: by name, or by transcripts that a crash has left without it. */
export async function agentsOf(store: Store): Promise<string[]> {
  const agents = new Set<string>();
  for await (const { id } of store.rows('Agents', 'agents')) agents.add(id);
  for await (const { name } of store.list('sessions/inbox/')) agents.add(name.split('/')[2] ?? '');
  return [...agents].sort();
}
