import { agentIdPattern } from './agents.ts';
import type { Rotted, Store } from './stores/store.ts';

/** The containers that Nexus keeps, and how their blobs are made. */
export const containers = { sessions: 'append', payloads: 'create' } as const;

/**
 * The tables that Nexus keeps, all partitioned by agent but `Agents`, `Alerts`, `SignIns` and `Jobs`, which have one
 * partition, and `Changes`, which has one a day. `Marks`, `Changes` and `SignIns` belong to one store and are never copied to
 * another: they tell a host that this very store is the one it shipped to, a reader of this very store what to read,
 * and who is signed in to its dashboard. Nor are `Jobs`, which every host tells anew after each run.
 */
export const tables = [
  'Agents',
  'Sessions',
  'Marks',
  'Changes',
  'Prices',
  'WebhookItems',
  'Deliveries',
  'History',
  'Mailboxes',
  'Alerts',
  'SignIns',
  'Jobs',
] as const;

const notByAgent: ReadonlySet<string> = new Set(['Agents', 'Alerts', 'SignIns', 'Jobs', 'Changes']);
const byAgent: ReadonlySet<string> = new Set(tables.filter((table) => !notByAgent.has(table)));

/** Whose a row is, where its table tells. */
export function agentOfRow(table: string, partition: string, id: string): string | undefined {
  if (table === 'Agents') return agentIn(id);
  return byAgent.has(table) ? agentIn(partition) : undefined;
}

/** Whose a blob is: the third part of its name is the agent. */
export function agentOfBlob(name: string): string | undefined {
  const [container = '', , agent = '', rest] = name.split('/');
  return Object.hasOwn(containers, container) && rest !== undefined ? agentIn(agent) : undefined;
}

function agentIn(text: string): string | undefined {
  return agentIdPattern.test(text) ? text : undefined;
}

/**
 * Every agent that a store knows: by name, or by transcripts that a crash has left without it. A row that rotted has
 * nothing but its name, under which an agent without anything does no harm; a length that rotted has the agent's.
 */
export async function agentsOf(store: Store, rotted?: Rotted): Promise<string[]> {
  const agents = new Set<string>(await namedAgents(store, rotted));
  const named = (name: string): void => {
    const agent = agentOfBlob(name);
    if (agent !== undefined) agents.add(agent);
  };
  for await (const { name } of store.list('sessions/inbox/', named)) named(name);
  return [...agents].sort();
}

/** The agents that have a row, in their order. */
export async function namedAgents(store: Store, rotted?: Rotted): Promise<string[]> {
  const agents: string[] = [];
  const kept: Rotted = (id, error) => {
    if (agentIdPattern.test(id)) agents.push(id);
    rotted?.(id, error);
  };
  for await (const { id } of store.rows('Agents', 'agents', {}, kept)) agents.push(id);
  return agents.sort();
}

/** How long the agents that are known by their transcripts alone are taken for all of those, ms. */
const agentsFreshMs = 600_000;

/**
 * As `agentsOf`, for who asks often: new agents have their row, and the names of all transcripts are read only every
 * ten minutes, for those whose row a crash, or a table that was deleted, has taken away.
 */
export function knownAgentsOf(store: Store): () => Promise<string[]> {
  let known: { agents: string[]; at: number } | undefined;
  return async () => {
    const now = performance.now();
    if (known === undefined || now - known.at > agentsFreshMs)
      known = { agents: await agentsOf(store), at: now };
    const agents = new Set(known.agents);
    for (const id of await namedAgents(store)) agents.add(id);
    return [...agents].sort();
  };
}

/**
 * Notes an agent's name in the store before anything else of it is stored, so that a listing finds what a crash left
 * behind it. Written once by each process.
 */
export function rememberingAgents(store: Store): (agent: string) => Promise<void> {
  const known = new Set<string>();
  return async (agent) => {
    if (known.has(agent)) return;
    await store.put('Agents', { partition: 'agents', id: agent });
    known.add(agent);
  };
}
