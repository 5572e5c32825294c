import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { FastifyInstance } from 'fastify';
import { createServer, type ServerOptions } from '../../../src/http/server.ts';

export interface Route {
  method: string;
  /** As it is registered, with `:names`. */
  url: string;
}

/** Every route that the endpoint registers, asked of the endpoint itself, so that a new one is not forgotten. */
export async function routesOf(): Promise<Route[]> {
  const routes: Route[] = [];
  const note = (message: unknown): void => {
    const { fastify } = message as { fastify: FastifyInstance };
    fastify.addHook('onRoute', ({ method, url }) => {
      for (const one of [method].flat()) routes.push({ method: one, url });
    });
  };
  subscribe('fastify.initialization', note);
  try {
    await createServer(options()).close();
  } finally {
    unsubscribe('fastify.initialization', note);
  }
  return routes;
}

export function nameOf({ method, url }: Route): string {
  return `${method} ${url}`;
}

/** Nothing is asked of them: a route is registered before anything is. */
function options(): ServerOptions {
  const nothing = new Proxy({}, { get: () => () => undefined });
  return {
    sessions: nothing as ServerOptions['sessions'],
    webhooks: nothing as ServerOptions['webhooks'],
    usage: nothing as NonNullable<ServerOptions['usage']>,
    jobs: nothing as ServerOptions['jobs'],
    keys: () => [],
    mailboxes: () => ({}),
    secretOf: () => Promise.resolve(''),
    version: '0',
    dashboard: { signIns: nothing as NonNullable<ServerOptions['dashboard']>['signIns'] },
  };
}
