import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Key, Scope } from '../keys.ts';
import type { Webhooks } from '../mailbox.ts';
import type { Facts } from '../logline.ts';
import type { Nexus } from '../nexus.ts';
import type { Secret } from '../secrets.ts';
import type { Mailboxes } from '../sources.ts';
import type { Usage } from '../usage.ts';
import type { Asked, Caller } from './auth.ts';
import { type Body, noBody } from './body.ts';
import type { Log } from './log.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Answered to anybody. Every other route needs a caller who was let in. */
    open?: boolean;
    /** One of these is needed, for the agent in the path where there is one. Without: any key will do. */
    scopes?: readonly Scope[];
  }
  interface FastifyRequest {
    /** Set by the server before any route that is not open. */
    caller: Caller | null;
    /** More for the request's line in the log. */
    facts: Facts | null;
  }
}

/** What routes are made of. */
export interface Routes {
  app: FastifyInstance;
  sessions: Nexus;
  webhooks: Webhooks;
  /** Absent where no index is kept. */
  usage: Usage | undefined;
  keys: () => readonly Key[] | Promise<readonly Key[]>;
  mailboxes: () => Mailboxes | Promise<Mailboxes>;
  secretOf: (secret: Secret) => Promise<string>;
  version: string;
  now: () => Date;
  log: Log;
  readyMs: number;
  /** How many proxies stand before it; 0 believes no forwarding header. */
  proxies: number;
  /** The most bytes of webhooks in memory at once; more are asked to come later. */
  webhookBytes: number;
}

/** What `authenticate` wants to know of a request. */
export function askedBy({ headers, query, socket }: FastifyRequest): Asked {
  return { headers, query, address: socket.remoteAddress };
}

export function callerOf(request: FastifyRequest): Caller {
  if (request.caller === null) throw new Error('an open route asked who the caller is');
  return request.caller;
}

export function bodyIn(request: FastifyRequest): Body {
  // The server's one content-type parser makes a Body of every body; without a body none is made.
  return isBody(request.body) ? request.body : noBody;
}

function isBody(body: unknown): body is Body {
  return typeof body === 'object' && body !== null && 'read' in body;
}

/** One value of a header; a repeated one is joined as HTTP says. */
export function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}
