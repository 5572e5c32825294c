import { checkAgentId } from './agents.ts';
import { failedWith, NexusError } from './errors.ts';
import {
  type Delivery,
  type MailboxStanding,
  type Position,
  positionOf,
  type Pruned,
  type Received,
  type Webhooks,
} from './mailbox.ts';
import { namedAgents, rememberingAgents } from './storecontents.ts';
import { rowOf, type Store } from './stores/store.ts';
import { bindAll, boundTo, rebind } from './webhookbinding.ts';
import { bodyOf, readBody } from './webhookbodies.ts';
import { countPending, openCounts } from './webhookcounts.ts';
import { moveToHistory, pruneAgent, rowsByAgent } from './webhookhistory.ts';
import { findItem, type Found, openKeeping } from './webhookkeep.ts';
import { listItems } from './webhooklist.ts';
import { openArrivals, openPending } from './webhookpending.ts';
import {
  bytesOf,
  decodedOf,
  deliveryKey,
  fieldsOfDelivery,
  headersOf,
  listedItem,
  openRowIds,
  reconciledIn,
  replayKey,
  textOf,
} from './webhookrows.ts';

/** The mailboxes over a store, in this process. Any number of processes may have them open over one store. */
export function openWebhooks(store: Store, options: { now?: () => Date } = {}): Webhooks {
  const now = options.now ?? (() => new Date());
  const time = (): string => now().toISOString();
  const closing = new AbortController();
  const arrivals = openArrivals();
  const counts = openCounts(store);
  const keep = openKeeping(store, rememberingAgents(store), openRowIds(now), now);
  const agentsKnown = (): Promise<string[]> => namedAgents(store);
  const pending = openPending(store, agentsKnown, arrivals, now, closing.signal);

  async function found(id: string): Promise<Found & { position: Position }> {
    const position = positionOf(id);
    const item = position === undefined ? undefined : await findItem(store, position.agent, position.row);
    if (position === undefined || item === undefined)
      throw new NexusError('not_found', `There is no item ${JSON.stringify(id.slice(0, 100))}.`);
    return { ...item, position };
  }

  async function move(
    byAgent: Map<string, string[]>,
    facts: Parameters<typeof moveToHistory>[3],
  ): Promise<number> {
    let moved = 0;
    for (const [agent, rows] of byAgent) {
      const gone = await moveToHistory(store, agent, rows, facts);
      counts.left(
        agent,
        gone.length,
        gone.reduce((sum, row) => sum + bytesOf(row), 0),
      );
      moved += gone.length;
    }
    return moved;
  }

  async function standingOf(agent: string): Promise<MailboxStanding> {
    const { items, ...rest } = await countPending(store, checkAgentId(agent));
    const host = await boundTo(store, agent);
    return { agent, pending: items, ...rest, ...(host === undefined ? {} : { host }) };
  }

  async function receive(delivery: Delivery): Promise<Received> {
    const { agent, source, body, most, otherwise } = delivery;
    checkAgentId(agent);
    if (source === '' || source.length > 200)
      throw new NexusError('invalid', 'A source has a name of 1 to 200 characters.');
    const key = delivery.delivery === undefined ? undefined : deliveryKey(source, delivery.delivery);
    let settle: ((kept: boolean) => void) | undefined;
    try {
      if (most !== undefined) settle = await counts.take(agent, body.length, most);
    } catch (error) {
      const known =
        key === undefined || !failedWith(error, 'unavailable') ? undefined : await duplicateOf(agent, key);
      if (known === undefined) throw error;
      return { status: 'duplicate', id: `${agent}.${known}` };
    }
    let kept = false;
    try {
      const item = await keep({
        agent,
        body,
        ...(key === undefined ? {} : { key }),
        ...(otherwise === undefined
          ? {}
          : { otherwise: { key: deliveryKey(source, otherwise.delivery), since: otherwise.since } }),
        fields: (row) => fieldsOfDelivery(row, delivery, key),
      });
      kept = item.kept;
      if (kept) arrivals.arrived(agent);
      return { status: kept ? 'accepted' : 'duplicate', id: `${agent}.${item.row}` };
    } finally {
      settle?.(kept);
    }
  }

  return {
    receive,

    async add({ host, ...item }) {
      if (host !== undefined) await bindAll(store, [checkAgentId(item.agent)], host, time());
      return await receive({ ...item, headers: {}, reconciled: true });
    },

    pending,

    async acknowledge(ids, host) {
      const byAgent = rowsByAgent(ids);
      if (host !== undefined) await bindAll(store, [...byAgent.keys()], host, time());
      const Host = host === undefined ? {} : { Host: host };
      return await move(byAgent, { AcknowledgedAt: time(), ...Host, State: 'delivered' });
    },

    drop: (ids) => move(rowsByAgent(ids), { AcknowledgedAt: time(), State: 'dropped' }),

    claim: (agent, host) => rebind(store, checkAgentId(agent), host, time()),

    list: (filter = {}) => listItems(store, agentsKnown, filter),

    async show(id) {
      const position = positionOf(id);
      const item = position === undefined ? undefined : await findItem(store, position.agent, position.row);
      if (item === undefined) return undefined;
      const body = await bodyOf(store, item.row);
      return { ...listedItem(item.row, item.pending), ...(await readBody(item.row, body)) };
    },

    async body(id) {
      const { row } = await found(id);
      const said = textOf(row, 'ContentType') ?? '';
      return {
        body: await bodyOf(store, row),
        contentType: said === '' ? 'application/octet-stream' : said,
      };
    },

    async replay(id, request) {
      const position = positionOf(id);
      const key = replayKey(request);
      const made = position === undefined ? undefined : await replayMade(position, key);
      if (position !== undefined && made !== undefined) return `${position.agent}.${made}`;
      const { row, pending } = await found(id);
      if (pending) throw new NexusError('conflict', `${id} is pending still: the host will deliver it.`);
      const decoded = decodedOf(row);
      const delivery = {
        agent: row.partition,
        source: textOf(row, 'Source') ?? '',
        contentType: textOf(row, 'ContentType') ?? '',
        headers: headersOf(row),
        body: await bodyOf(store, row),
        ...(decoded === undefined ? {} : { decoded }),
        ...reconciledIn(row),
      };
      const senders = textOf(row, 'Delivery');
      const item = await keep({
        agent: row.partition,
        body: delivery.body,
        key,
        facts: { replayOf: row.id },
        fields: (fresh) => ({
          ...fieldsOfDelivery(fresh, delivery, key),
          ...(senders === undefined ? {} : { Delivery: senders }),
          ReplayOf: id,
        }),
      });
      if (item.kept) arrivals.arrived(row.partition);
      return `${row.partition}.${item.row}`;
    },

    async standing(agents) {
      const standings: MailboxStanding[] = [];
      for (const agent of agents ?? (await agentsKnown())) {
        const standing = await standingOf(agent);
        if (agents !== undefined || standing.pending > 0 || standing.host !== undefined)
          standings.push(standing);
      }
      return standings;
    },

    async prune({ signal, deliveries: all = true } = {}) {
      const pruned: Pruned = { items: 0, deliveries: 0, blobs: 0 };
      for (const agent of await agentsKnown()) {
        const { items, deliveries, blobs } = await pruneAgent(store, agent, {
          now: now(),
          signal,
          all,
        });
        pruned.items += items;
        pruned.deliveries += deliveries;
        pruned.blobs += blobs;
      }
      return pruned;
    },

    async close() {
      closing.abort();
      await store.close();
    },
  };

  /** The row of a delivery that is known and whose item is there. */
  async function duplicateOf(agent: string, key: string): Promise<string | undefined> {
    const row = (await rowOf(store, 'Deliveries', agent, key))?.['item'];
    if (typeof row !== 'string') return undefined;
    return (await findItem(store, agent, row)) === undefined ? undefined : row;
  }

  /** The row that this request has made of this item, also when that one is gone since. */
  async function replayMade(of: Position, key: string): Promise<string | undefined> {
    const known = await rowOf(store, 'Deliveries', of.agent, key);
    return known?.['replayOf'] === of.row ? await duplicateOf(of.agent, key) : undefined;
  }
}
