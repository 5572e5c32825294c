import * as z from 'zod';
import { NexusError } from '../errors.ts';
import { modelPricesSchema } from '../prices.ts';
import { parseBody, requireType } from './body.ts';
import { bodyIn, headerOf, type Routes } from './context.ts';

const pricesSchema = z.strictObject({ prices: modelPricesSchema });
const maxPricesBytes = 1024 * 1024;

const bodySchema = z.strictObject({ mark: z.string().min(1).max(200) });

/**
 * What a host leaves for an agent: the marks by which it recognises the store it has shipped to, and what models cost
 * there. And the store's id.
 */
export function markRoutes({ app, sessions, version }: Routes): void {
  app.get('/api/store', async () => ({ id: await sessions.storeId(), version }));

  const scopes = ['upload'] as const;
  const url = '/api/marks/:agentId/:host';

  app.get<{ Params: { agentId: string; host: string } }>(url, { config: { scopes } }, async (request) => {
    const { agentId, host } = request.params;
    return { mark: (await sessions.mark(agentId, checkHost(host))) ?? null };
  });

  app.put<{ Params: { agentId: string; host: string } }>(url, { config: { scopes } }, async (request) => {
    const { agentId, host } = request.params;
    requireType(headerOf(request, 'content-type'), 'application/json');
    const body = bodySchema.safeParse(
      parseBody(await bodyIn(request).read(4096, 'A mark is at most 200 long.')),
    );
    if (!body.success)
      throw new NexusError('invalid', 'The body must be {"mark": "<at most 200 characters>"}.');
    await sessions.setMark(agentId, checkHost(host), body.data.mark);
    return { mark: body.data.mark };
  });

  app.put<{ Params: { agentId: string; host: string } }>(
    '/api/prices/:agentId/:host',
    { config: { scopes } },
    async (request) => {
      const { agentId, host } = request.params;
      requireType(headerOf(request, 'content-type'), 'application/json');
      const body = pricesSchema.safeParse(
        parseBody(await bodyIn(request).read(maxPricesBytes, 'Prices exceed the 1 MB limit.')),
      );
      if (!body.success)
        throw new NexusError(
          'invalid',
          'The body must be {"prices": [{"provider", "model", "input", "output", "cacheRead", "cacheWrite"}, …]}.',
        );
      await sessions.setPrices(agentId, checkHost(host), body.data.prices);
      return { prices: body.data.prices.length };
    },
  );
}

function checkHost(host: string): string {
  if (host === '' || host.length > 255)
    throw new NexusError('invalid', 'A host is named by 1 to 255 characters.');
  return host;
}
