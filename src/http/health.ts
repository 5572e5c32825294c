import { setTimeout as delay } from 'node:timers/promises';
import { NexusError } from '../errors.ts';
import type { Routes } from './context.ts';
import { errorEntry } from './log.ts';

/** `/healthz`: the process serves. `/readyz`: its store answers within the time for it. Both open to anybody. */
export function healthRoutes({ app, sessions, version, log, readyMs }: Routes): void {
  let probe: Promise<void> | undefined;

  /** One probe at a time, however many ask: nobody without a key can load the store. */
  function storeAnswers(): Promise<void> {
    // Its id too, which every answer carries: a store that was replaced answers everything else.
    probe ??= Promise.all([sessions.storeId(), sessions.stat('main', 'readyz')])
      .then(() => undefined)
      .finally(() => {
        probe = undefined;
      });
    return probe;
  }

  app.route({
    method: ['GET', 'HEAD'],
    url: '/healthz',
    config: { open: true },
    handler: () => ({ status: 'ok', version }),
  });

  app.route({
    method: ['GET', 'HEAD'],
    url: '/readyz',
    config: { open: true },
    handler: async (request) => {
      const patience = new AbortController();
      try {
        await Promise.race([
          storeAnswers(),
          delay(readyMs, undefined, { signal: patience.signal }).then(() => {
            throw new NexusError('unavailable', `There was no answer within ${readyMs} ms.`);
          }),
        ]);
      } catch (error) {
        log(errorEntry('warn', 'The store does not answer.', error, request.id));
        // Said to anybody, so nothing of the inside.
        throw new NexusError('unavailable', 'The store does not answer.');
      } finally {
        patience.abort();
      }
      return { status: 'ok', version };
    },
  });
}
