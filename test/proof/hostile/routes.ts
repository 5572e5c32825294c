import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { FastifyInstance } from 'fastify';
import type { DashboardOptions } from '../../../src/http/dashboard/routes.ts';
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
    if (isBegun(message))
      message.fastify.addHook('onRoute', ({ method, url }) => {
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

function isBegun(message: unknown): message is { fastify: FastifyInstance } {
  return typeof message === 'object' && message !== null && 'fastify' in message;
}

type Asked = Pick<ServerOptions, 'sessions' | 'webhooks' | 'usage' | 'jobs'> &
  Pick<DashboardOptions, 'signIns'>;

/** Nothing is asked of what it stands on: a route is registered before anything is. */
function options(): ServerOptions {
  const { signIns, ...nouns }: Asked = JSON.parse(
    '{"sessions":{},"webhooks":{},"usage":{},"jobs":{},"signIns":{}}',
  );
  return {
    ...nouns,
    keys: () => [],
    mailboxes: () => ({}),
    secretOf: () => Promise.resolve(''),
    version: '0',
    dashboard: { signIns },
  };
}
