import type { FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { type PendingPage, positionOf } from '../mailbox.ts';
import { parseBody, requireType } from './body.ts';
import { agentsOf } from './callers.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';
import {
  brokenField,
  cursorOfPosition,
  mostItems,
  mostWait,
  pageText,
  readHost,
  readPosition,
} from './mailboxwire.ts';
import { readQuery } from './query.ts';
import { headers } from './wire.ts';

const pendingSchema = z.object({
  agentId: z.union([z.string(), z.array(z.string())]).optional(),
  limit: z.coerce.number().int().min(1).max(mostItems).default(100),
  cursor: z.string().optional(),
  wait: z.coerce.number().min(0).max(mostWait).default(0),
});

const deleteSchema = z.object({ ids: z.array(z.string()).max(mostItems), drop: z.boolean().optional() });
const maxDeleteBytes = 1024 * 1024;

/** What a host fetches, and what it no longer needs. */
export function pendingRoutes({ app, webhooks }: Routes): void {
  const scopes = ['pull'] as const;
  /** Those who wait. */
  const waiting = new Set<AbortController>();

  // An endpoint that shall stop does not sit out their time.
  app.addHook('preClose', async () => {
    for (const wait of waiting) wait.abort();
  });

  app.get('/api/webhook/pending', { config: { scopes } }, async (request, reply) => {
    const { agentId, limit, cursor, wait } = readQuery(pendingSchema, request);
    const agents = agentsOf(callerOf(request), scopes, agentId);
    const host = readHost(headerOf(request, headers.host));
    const patience = new AbortController();
    const leave = () => patience.abort();
    reply.raw.once('close', leave);
    waiting.add(patience);
    try {
      const page = await webhooks.pending({
        agents,
        limit,
        waitMs: wait * 1000,
        signal: patience.signal,
        ...(cursor === undefined ? {} : { after: readPosition(cursor) }),
        ...(host === undefined ? {} : { host }),
      });
      if (page.broken !== undefined) reply.header(headers.broken, brokenField(page.broken));
      if (page.next !== undefined) reply.header('link', `<${nextOf(request, page.next)}>; rel="next"`);
      return sendJsonText(reply, pageText(page.items, agentId === undefined ? [] : [agentId].flat()));
    } finally {
      waiting.delete(patience);
      reply.raw.off('close', leave);
    }
  });

  app.delete('/api/webhook/items', { config: { scopes } }, async (request) => {
    requireType(headerOf(request, 'content-type'), 'application/json');
    const bytes = await bodyIn(request).read(maxDeleteBytes, 'The body exceeds 1 MB: name fewer ids.');
    const body = deleteSchema.safeParse(parseBody(bytes));
    if (!body.success)
      throw new NexusError('invalid', `The body must be {"ids": ["<id>", …]} with at most ${mostItems} ids.`);
    const { ids, drop = false } = body.data;
    const caller = callerOf(request);
    const known = ids.flatMap((id) => {
      const position = positionOf(id);
      if (position !== undefined) caller.require(scopes, position.agent);
      return position === undefined ? [] : [id];
    });
    const host = readHost(headerOf(request, headers.host));
    const deleted = drop ? await webhooks.drop(known) : await webhooks.acknowledge(known, host);
    return { deleted };
  });
}

/** Relative to the page that was asked for, so that it holds behind whatever prefix a proxy put before it. */
function nextOf(request: FastifyRequest, next: NonNullable<PendingPage['next']>): string {
  const asked = new URLSearchParams(request.url.split('?').slice(1).join('?'));
  // A key that came in the query is not sent back.
  const query = new URLSearchParams(
    [...asked].filter(([name]) => name === 'agentId' || name === 'limit' || name === 'wait'),
  );
  query.set('cursor', cursorOfPosition(next));
  return `?${query.toString()}`;
}

/** JSON that is written already. */
export function sendJsonText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json; charset=utf-8').send(text);
}
