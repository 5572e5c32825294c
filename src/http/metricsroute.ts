import { type JobReports, seriesOf } from '../jobreports.ts';
import type { authenticate } from './auth.ts';
import { askedBy, headerOf, type Routes } from './context.ts';
import { errorOf } from './failures.ts';
import { type Metrics, type Seen, sourceLabel } from './metrics.ts';
import { queryText } from './query.ts';
import { remembering } from './remembered.ts';
import { NexusError } from '../errors.ts';
import { headers } from './wire.ts';

/** What the endpoint and its store say to a monitor. Never fails for the store's sake. */
export function metricsRoutes(
  { app, sessions, webhooks, keys, mailboxes, now }: Routes,
  {
    metrics,
    jobs,
    waitMs,
    keyCheck,
  }: { metrics: Metrics; jobs: JobReports; waitMs: number; keyCheck: typeof authenticate },
): void {
  const answers = remembering(() => sessions.stat('main', 'readyz'), { freshMs: 1000, waitMs });
  const mail = remembering(async () => ({ countedAt: now(), standings: await webhooks.standing() }), {
    freshMs: 10_000,
    waitMs,
  });
  const reports = remembering(() => jobs.list(), { freshMs: 10_000, waitMs });

  async function look(): Promise<Seen> {
    const [up, standing, reported] = await Promise.all([answers(), mail(), reports()]);
    return {
      storeUp: up?.late === false,
      ...(standing === undefined ? {} : { mail: standing.value }),
      ...(reported === undefined ? {} : { jobs: seriesOf(reported.value.reports, reported.value.leftOut) }),
      now: now(),
    };
  }

  app.addHook('onError', async (request, _reply, error) => {
    if (request.routeOptions.url !== '/api/webhook/:agentId' || request.method !== 'POST') return;
    const { params } = request;
    const agent = typeof params === 'object' && params !== null && 'agentId' in params ? params.agentId : '';
    const source = await sourceLabel(mailboxes, String(agent), queryText(request, 'source'));
    metrics.refused(source, errorOf(error)?.code ?? 'internal');
  });

  // It lets in by itself: what lets in elsewhere asks the store first, which may be what is down.
  app.get('/metrics', { config: { open: true } }, async (request, reply) => {
    const asked = askedBy(request);
    const caller = keyCheck(await keys(), {
      ...asked,
      headers: { ...bearer(asked.headers), ...asked.headers },
    });
    request.caller = caller;
    caller.require(['read']);
    if (caller.agents !== '*')
      throw new NexusError(
        'forbidden',
        'These metrics are of all agents: they need a key with the scope "read" that is for no agent alone.',
      );
    const { type, body } = await metrics.text(await look(), headerOf(request, 'accept'));
    return reply.header('content-type', type).send(body);
  });
}

/** A key as monitors send it. */
function bearer({ authorization }: { authorization?: string | undefined }): Record<string, string> {
  const key = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
  return key === undefined ? {} : { [headers.key]: key };
}
