import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { parseBody, requireType } from './body.ts';
import { agentsOf } from './callers.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';
import { checkHostName } from './mailboxwire.ts';
import { readQuery } from './query.ts';

const standingSchema = z.object({ agentId: z.union([z.string(), z.array(z.string())]).optional() });
const claimSchema = z.strictObject({ host: z.string() });

/** How the mailboxes stand, and whose they are. */
export function mailboxRoutes({ app, webhooks }: Routes): void {
  const look = ['read', 'pull'] as const;

  app.get('/api/webhook/mailboxes', { config: { scopes: look } }, async (request) => {
    const { agentId } = readQuery(standingSchema, request);
    const agents = agentsOf(callerOf(request), look, agentId);
    return { mailboxes: await webhooks.standing(agents === '*' ? undefined : agents) };
  });

  app.put<{ Params: { agentId: string } }>(
    '/api/webhook/mailboxes/:agentId',
    { config: { scopes: ['pull'] } },
    async (request) => {
      requireType(headerOf(request, 'content-type'), 'application/json');
      const body = claimSchema.safeParse(
        parseBody(await bodyIn(request).read(4096, 'A host is named by at most 255 characters.')),
      );
      if (!body.success) throw new NexusError('invalid', 'The body must be {"host": "<its name>"}.');
      const host = checkHostName(body.data.host);
      return { host, before: (await webhooks.claim(request.params.agentId, host)) ?? null };
    },
  );
}
