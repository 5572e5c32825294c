import * as z from 'zod';
import { checkAgentId } from '../agents.ts';
import { failedWith, NexusError } from '../errors.ts';
import { type ListedItem, type Mailbox, type PendingPage, positionOf } from '../mailbox.ts';
import { type ClientOptions, notNexus, openConnection } from './connection.ts';
import {
  brokenIn,
  cursorOfPosition,
  hostField,
  listedSchema,
  mostItems,
  mostWait,
  readPage,
  readPosition,
  readShown,
  standingSchema,
} from './mailboxwire.ts';
import type { Ask } from './request.ts';
import { headers } from './wire.ts';

const listSchema = z.object({ items: z.array(listedSchema), next: z.string().nullable() });
const deletedSchema = z.object({ deleted: z.number().int().nonnegative() });
const replayedSchema = z.object({ id: z.string().refine((id) => positionOf(id) !== undefined) });
const addedSchema = z.object({
  status: z.enum(['accepted', 'duplicate']),
  id: z.string().refine((id) => positionOf(id) !== undefined),
});
const claimedSchema = z.object({ before: z.string().nullable() });
const standingsSchema = z.object({ mailboxes: z.array(standingSchema) });

/** So many ids of agents fit into one URL. */
const agentsAtOnce = 100;

/** The mailboxes at an endpoint. Keeps the promises of the port: what resolves is durable there. */
export function openMailboxClient(options: ClientOptions): Mailbox {
  const connection = openConnection(options);
  const { endpoint, timeoutMs } = connection;

  async function page(
    request: Parameters<Mailbox['pending']>[0],
    wait: number,
    signal: AbortSignal | undefined,
  ): Promise<PendingPage> {
    const { agents, limit, after, host } = request;
    const query = new URLSearchParams();
    if (agents !== '*') for (const agent of agents) query.append('agentId', checkAgentId(agent));
    if (limit !== undefined) query.set('limit', String(limit));
    if (after !== undefined) query.set('cursor', cursorOfPosition(after));
    if (wait > 0) query.set('wait', String(wait));
    const { answer, body } = await connection.whole({
      ...get(`/api/webhook/pending?${query.toString()}`),
      ...(host === undefined ? {} : { headers: { [headers.host]: hostField(host) } }),
      timeoutMs: timeoutMs + wait * 1000,
      ...(signal === undefined ? {} : { signal }),
    });
    const items = await readPage(body.toString('utf8'));
    if (items === undefined) throw notNexus(endpoint.base, answer);
    const next = nextIn(answer.headers.get('link'));
    const broken = brokenIn(answer.headers.get(headers.broken));
    return {
      items,
      ...(next === undefined ? {} : { next: readPosition(next) }),
      ...(broken === undefined ? {} : { broken }),
    };
  }

  /** In as many requests as it takes. Their order puts one id of each agent into the first, which asks its host. */
  async function remove(ids: readonly string[], more: { drop?: true; host?: string }): Promise<number> {
    const { host, ...rest } = more;
    const ordered = eachAgentFirst([...new Set(ids)]);
    let deleted = 0;
    for (let first = 0; first < ordered.length; first += mostItems) {
      const body = { ids: ordered.slice(first, first + mostItems), ...rest };
      const said = host === undefined ? {} : { [headers.host]: hostField(host) };
      const ask: Ask = withJson('DELETE', '/api/webhook/items', body, said);
      deleted += (await connection.json(deletedSchema, ask)).value.deleted;
    }
    return deleted;
  }

  return {
    async pending(request) {
      if (request.agents !== '*' && request.agents.length === 0) return { items: [] };
      const { signal, waitMs = 0 } = request;
      const end = performance.now() + waitMs;
      for (;;) {
        // Who no longer waits still gets what there is.
        const left = signal?.aborted === true ? 0 : Math.max(0, end - performance.now());
        const wait = Math.min(mostWait, Math.ceil(left) / 1000);
        const began = performance.now();
        try {
          const found = await page(request, wait, wait === 0 ? undefined : signal);
          const empty = found.items.length === 0 && found.next === undefined;
          // One that answers before its time is about to stop: to ask it again at once helps nobody.
          const early = performance.now() - began < wait * 1000 - 100;
          if (!empty || early || performance.now() >= end || signal?.aborted === true) return found;
        } catch (error) {
          if (signal?.aborted !== true || error !== signal.reason) throw error;
          return { items: [] };
        }
      }
    },

    acknowledge: (ids, host) => remove(ids, host === undefined ? {} : { host }),
    drop: (ids) => remove(ids, { drop: true }),

    async claim(agent, host) {
      const path = `/api/webhook/mailboxes/${checkAgentId(agent)}`;
      const { value } = await connection.json(claimedSchema, withJson('PUT', path, { host }));
      return value.before ?? undefined;
    },

    async *list({ agent, source, since, state, after, broken } = {}) {
      let cursor = after === undefined ? undefined : cursorOfPosition(after);
      for (;;) {
        const query = new URLSearchParams({ limit: String(mostItems) });
        if (agent !== undefined) query.set('agentId', checkAgentId(agent));
        const more = { source, since, state, cursor };
        for (const [name, value] of Object.entries(more)) if (value !== undefined) query.set(name, value);
        const ask = get(`/api/webhook/items?${query.toString()}`);
        const { value, headers: said } = await connection.json(listSchema, ask);
        for (const one of brokenIn(said.get(headers.broken)) ?? []) {
          if (broken === undefined) throw new NexusError('corrupt', one.reason);
          broken(one);
        }
        yield* value.items satisfies ListedItem[];
        if (value.next === null) return;
        cursor = value.next;
      }
    },

    async show(id) {
      if (positionOf(id) === undefined) return undefined;
      try {
        const { answer, body } = await connection.whole(get(`/api/webhook/items/${id}`));
        const item = readShown(body.toString('utf8'));
        if (item === undefined) throw notNexus(endpoint.base, answer);
        return item;
      } catch (error) {
        if (failedWith(error, 'not_found')) return undefined;
        throw error;
      }
    },

    async body(id) {
      const ask = get(`/api/webhook/items/${checkItemId(id)}/body`);
      // Compressed on the way would be other bytes than were received.
      const { answer, body } = await connection.whole({
        ...ask,
        headers: { 'accept-encoding': 'identity' },
      });
      return { body, contentType: answer.headers.get('content-type') ?? 'application/octet-stream' };
    },

    async replay(id, request) {
      const path = `/api/webhook/items/${checkItemId(id)}/replay`;
      const { value } = await connection.json(replayedSchema, withJson('POST', path, { request }));
      return value.id;
    },

    async add({ agent, body, ...item }) {
      const added = { agentId: checkAgentId(agent), ...item, base64: body.toString('base64') };
      return (await connection.json(addedSchema, withJson('POST', '/api/webhook/items', added))).value;
    },

    async standing(agents) {
      const groups: (readonly string[] | undefined)[] = agents === undefined ? [undefined] : [];
      for (let first = 0; first < (agents?.length ?? 0); first += agentsAtOnce)
        groups.push(agents?.slice(first, first + agentsAtOnce));
      const found = [];
      for (const group of groups) {
        const query = new URLSearchParams();
        for (const agent of group ?? []) query.append('agentId', checkAgentId(agent));
        const ask = get(`/api/webhook/mailboxes?${query.toString()}`);
        found.push(...(await connection.json(standingsSchema, ask)).value.mailboxes);
      }
      return found;
    },

    close: () => Promise.resolve(),
  };

  function nextIn(link: string | null): string | undefined {
    if (link === null) return undefined;
    const [, target = ''] = /<([^>]*)>\s*;\s*rel="next"/.exec(link) ?? [];
    const cursor = new URL(target, `${endpoint.base}/`).searchParams.get('cursor');
    if (cursor === null)
      throw new NexusError('unavailable', `What ${endpoint.base} gives as the next page is none.`);
    return cursor;
  }
}

function get(path: string): Ask {
  return { method: 'GET', path, expect: [200] };
}

function withJson(
  method: 'PUT' | 'POST' | 'DELETE',
  path: string,
  body: unknown,
  more: Record<string, string> = {},
): Ask {
  return {
    method,
    path,
    headers: { 'content-type': 'application/json', ...more },
    body: Buffer.from(JSON.stringify(body)),
    expect: [200, 201],
  };
}

/** What is no id is nobody's. */
function eachAgentFirst(ids: readonly string[]): string[] {
  const first = new Map<string, string>();
  const others: string[] = [];
  for (const id of ids) {
    const agent = positionOf(id)?.agent;
    if (agent === undefined) continue;
    if (first.has(agent)) others.push(id);
    else first.set(agent, id);
  }
  return [...first.values(), ...others];
}

// Checked here too: an id that is none would make another path of it.
function checkItemId(id: string): string {
  if (positionOf(id) === undefined)
    throw new NexusError('not_found', `There is no item ${JSON.stringify(id.slice(0, 120))}.`);
  return id;
}
