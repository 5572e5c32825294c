import { failedWith, NexusError } from './errors.ts';
import { rowOf, type Store } from './stores/store.ts';

const table = 'Mailboxes';
const id = 'host';

/** The host that an agent's mailbox is bound to. */
export async function boundTo(store: Store, agent: string): Promise<string | undefined> {
  const row = await rowOf(store, table, agent, id);
  return row === undefined ? undefined : String(row['host']);
}

/** Refuses with `conflict`, and binds nothing, when one of the mailboxes is bound to another host; binds the others. */
export async function bindAll(
  store: Store,
  agents: readonly string[],
  host: string,
  at: string,
): Promise<void> {
  checkHost(host);
  const unbound: string[] = [];
  await Promise.all(
    agents.map(async (agent) => {
      const bound = await boundTo(store, agent);
      if (bound === undefined) unbound.push(agent);
      else if (bound !== host) throw elsewhere(agent, bound);
    }),
  );
  for (const agent of unbound) await bind(store, agent, host, at);
}

async function bind(store: Store, agent: string, host: string, at: string): Promise<void> {
  try {
    await store.insert(table, { partition: agent, id, host, at });
  } catch (error) {
    if (!failedWith(error, 'conflict')) throw error;
    const bound = await boundTo(store, agent);
    if (bound !== undefined && bound !== host) throw elsewhere(agent, bound);
  }
}

/** Binds it to this host, whoever had it, and answers who that was. */
export async function rebind(
  store: Store,
  agent: string,
  host: string,
  at: string,
): Promise<string | undefined> {
  checkHost(host);
  const before = await boundSoundly(store, agent);
  if (before !== host) await store.put(table, { partition: agent, id, host, at });
  return before;
}

/** Whoever claims a mailbox need not know whose it was. */
async function boundSoundly(store: Store, agent: string): Promise<string | undefined> {
  try {
    return await boundTo(store, agent);
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    return undefined;
  }
}

function checkHost(host: string): void {
  if (!/^\P{Cc}{1,255}$/u.test(host))
    throw new NexusError('invalid', `${JSON.stringify(host.slice(0, 80))} is no host's name.`);
}

function elsewhere(agent: string, host: string): NexusError {
  return new NexusError(
    'conflict',
    `The mailbox of ${agent} belongs to the host ${host}; \`nexus webhooks claim --agent ${agent}\` on this host takes it over.`,
  );
}
