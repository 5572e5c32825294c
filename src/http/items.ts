import * as z from 'zod';
import { checkAgentId } from '../agents.ts';
import { NexusError } from '../errors.ts';
import type { BrokenItem, ItemFilter, ListedItem } from '../mailbox.ts';
import { checkPayload } from '../payload.ts';
import { parseBody, requireType } from './body.ts';
import { agentsOf, noSuchItem, placeOf } from './callers.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';
import {
  brokenField,
  checkHostName,
  cursorOfPosition,
  itemText,
  mostItems,
  readPosition,
} from './mailboxwire.ts';
import { sendJsonText } from './pending.ts';
import { readQuery } from './query.ts';
import { headers } from './wire.ts';

const listSchema = z.object({
  agentId: z.string().optional(),
  source: z.string().optional(),
  since: z.iso.datetime({ offset: true }).optional(),
  state: z.enum(['pending', 'history']).optional(),
  cursor: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(mostItems).default(100),
});

const addSchema = z.strictObject({
  agentId: z.string(),
  source: z.string().regex(/^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]{1,100}$/u),
  contentType: z.string().max(200),
  base64: z.base64(),
  delivery: z.string().min(1).max(1000),
  otherwise: z
    .strictObject({ delivery: z.string().min(1).max(1000), since: z.iso.datetime() })
    .exactOptional(),
  host: z.string().exactOptional(),
});
const maxAddBytes = 1024 * 1024;

const replaySchema = z.object({ request: z.uuid() });

interface One {
  Params: { id: string };
}

/** What was received, pending and history: to look at, and to have delivered again. */
export function itemRoutes({ app, webhooks }: Routes): void {
  const look = ['read', 'pull'] as const;
  const act = ['pull'] as const;

  app.get('/api/webhook/items', { config: { scopes: look } }, async (request, reply) => {
    const { agentId, source, since, state, cursor, limit } = readQuery(listSchema, request);
    const agents = agentsOf(callerOf(request), look, agentId);
    const broken = new Map<string, BrokenItem>();
    const listing = itemsOf(agents, {
      broken(item) {
        broken.set(item.id, item);
        reply.header(headers.broken, brokenField([...broken.values()]));
      },
      ...(source === undefined ? {} : { source }),
      ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
      ...(state === undefined ? {} : { state }),
      ...(cursor === undefined ? {} : { after: readPosition(cursor) }),
    });
    const items: ListedItem[] = [];
    for await (const item of listing) {
      if (items.length === limit) return { items, next: cursorOfItem(items.at(-1)) };
      items.push(item);
    }
    return { items, next: null };
  });

  app.get<One>('/api/webhook/items/:id', { config: { scopes: look } }, async (request, reply) => {
    const { id } = request.params;
    placeOf(callerOf(request), look, id);
    const item = await webhooks.show(id);
    if (item === undefined) throw noSuchItem(id);
    return sendJsonText(reply, itemText(item));
  });

  app.get<One>('/api/webhook/items/:id/body', { config: { scopes: look } }, async (request, reply) => {
    const { id } = request.params;
    placeOf(callerOf(request), look, id);
    const { body, contentType } = await webhooks.body(id);
    // Anybody may have written it: no browser shall take it for a page of this endpoint.
    return reply
      .header('content-type', contentType)
      .header('content-disposition', 'attachment')
      .header('content-security-policy', "default-src 'none'; sandbox")
      .send(body);
  });

  app.post('/api/webhook/items', { config: { scopes: act } }, async (request, reply) => {
    requireType(headerOf(request, 'content-type'), 'application/json');
    const bytes = await bodyIn(request).read(maxAddBytes, 'The body exceeds 1 MB.');
    const { data } = addSchema.safeParse(parseBody(bytes));
    if (data === undefined)
      throw new NexusError(
        'invalid',
        'The body must be {"agentId", "source", "contentType", "base64", "delivery"}, and may name another id in "otherwise" and the "host".',
      );
    const { agentId, base64, ...item } = data;
    if (item.host !== undefined) checkHostName(item.host);
    callerOf(request).require(act, checkAgentId(agentId));
    const body = Buffer.from(base64, 'base64');
    await checkPayload(item.contentType, undefined, body);
    const added = await webhooks.add({ ...item, agent: agentId, body });
    request.facts = { ...request.facts, source: item.source, item: added.id };
    return reply.code(added.status === 'accepted' ? 201 : 200).send(added);
  });

  app.post<One>('/api/webhook/items/:id/replay', { config: { scopes: act } }, async (request, reply) => {
    const { id } = request.params;
    placeOf(callerOf(request), act, id);
    requireType(headerOf(request, 'content-type'), 'application/json');
    const body = replaySchema.safeParse(
      parseBody(await bodyIn(request).read(4096, 'The body is longer than one request id.')),
    );
    if (!body.success) throw new NexusError('invalid', 'The body must be {"request": "<a random UUID>"}.');
    return reply.code(201).send({ id: await webhooks.replay(id, body.data.request) });
  });

  /** In the listing's order, of some agents or of all. */
  async function* itemsOf(agents: '*' | readonly string[], filter: ItemFilter): AsyncIterable<ListedItem> {
    if (agents === '*') yield* webhooks.list(filter);
    else
      for (const agent of [...agents].sort())
        if (filter.after === undefined || agent >= filter.after.agent)
          yield* webhooks.list({ ...filter, agent });
  }
}

function cursorOfItem(item: ListedItem | undefined): string | null {
  return item === undefined
    ? null
    : cursorOfPosition({ agent: item.agent, row: item.id.slice(item.agent.length + 1) });
}
