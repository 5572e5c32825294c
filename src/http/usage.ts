import type { FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { checkAgentId } from '../agents.ts';
import { NexusError } from '../errors.ts';
import { positionOf } from '../mailbox.ts';
import type { Standing, Usage, Within } from '../usage.ts';
import { csvOf } from '../usagecsv.ts';
import { parsed, sessionsRequestSchema, usageRequestSchema } from '../usagerequest.ts';
import { callerOf, headerOf, type Routes } from './context.ts';
import { errorEntry } from './log.ts';
import { notLooked, openRecent } from './recent.ts';
import { headers } from './wire.ts';

const scopes = ['read'] as const;

const listSchema = z.object({
  ...sessionsRequestSchema.shape,
  ascending: z.stringbool({ error: 'must be true or false' }).default(false),
  uncalled: z.stringbool({ error: 'must be true or false' }).default(false),
  limit: z.coerce.number().int().min(1).max(1000).default(50),
  offset: z.coerce.number().int().min(0).default(0),
});

/** What agents have spent, of the agents that the caller may see and of no other. */
export function usageRoutes({ app, usage, log }: Routes): void {
  const look = usage === undefined ? undefined : openRecent(usage);

  /** The index, as it is after a look at what was stored since. */
  async function recent(request: FastifyRequest): Promise<Usage> {
    if (usage === undefined || look === undefined)
      throw new NexusError('unavailable', 'This endpoint keeps no index of usage.');
    await look((error) => log(errorEntry('warn', notLooked, error, request.id)));
    return usage;
  }

  app.get('/api/usage', { config: { scopes } }, async (request, reply) => {
    const asked = parsed(usageRequestSchema, queryOf(request));
    const within = withinOf(request, asked.agent);
    const answer = await (await recent(request)).query(asked, within);
    sayStanding(reply, answer);
    reply.header('vary', 'accept');
    if (!prefersCsv(headerOf(request, 'accept'))) return answer;
    return reply.type('text/csv; charset=utf-8; header=present').send(csvOf(asked.by, answer));
  });

  app.get('/api/usage/sessions', { config: { scopes } }, async (request, reply) => {
    const asked = parsed(listSchema, queryOf(request));
    const within = withinOf(request, asked.agent);
    const answer = await (await recent(request)).sessions(asked, within);
    sayStanding(reply, answer);
    return answer;
  });

  app.get('/api/usage/top', { config: { scopes } }, async (request, reply) => {
    const asked = parsed(usageRequestSchema, queryOf(request));
    const within = withinOf(request, asked.agent);
    const answer = await (await recent(request)).top(asked, within);
    sayStanding(reply, answer);
    return answer;
  });

  app.get<{ Params: { id: string } }>(
    '/api/usage/items/:id',
    { config: { scopes } },
    async (request, reply) => {
      const { id } = request.params;
      const agent = positionOf(id)?.agent;
      if (agent === undefined)
        throw new NexusError('invalid', 'Invalid id: an item is named {agentId}.{row}.');
      callerOf(request).require(scopes, agent);
      const index = await recent(request);
      const [cost, standing] = [await index.costOf(id), await index.standing([agent])];
      sayStanding(reply, standing);
      if (cost === undefined) throw new NexusError('not_found', 'No session is known that this item began.');
      return { id, ...cost, asOf: standing.asOf, complete: standing.complete };
    },
  );
}

/** Agents that are named are refused unless they are the caller's; the answer knows of the caller's alone. */
function withinOf(request: FastifyRequest, named: readonly string[] | undefined): Within {
  const caller = callerOf(request);
  for (const agent of named ?? []) caller.require(scopes, checkAgentId(agent));
  return caller.agents === '*' ? undefined : caller.agents;
}

/** The query without the key that may be in it. */
function queryOf({ query }: FastifyRequest): object {
  return Object.fromEntries(Object.entries(query ?? {}).filter(([name]) => name !== 'code'));
}

/** Also where the body cannot say it. */
function sayStanding(reply: FastifyReply, { asOf, complete }: Pick<Standing, 'asOf' | 'complete'>): void {
  if (asOf !== null) reply.header(headers.asOf, asOf);
  reply.header(headers.allRead, complete ? '?1' : '?0');
}

/** Whether CSV is wanted more than JSON. */
function prefersCsv(accept: string | undefined): boolean {
  const weights = new Map(
    (accept ?? '').split(',').map((range): [string, number] => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
      const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
      return [type, weight === undefined ? 1 : Number(weight)];
    }),
  );
  const csv = weights.get('text/csv') ?? 0;
  return csv > 0 && csv >= (weights.get('application/json') ?? 0);
}
