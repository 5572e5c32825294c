import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import cookie from '@fastify/cookie';
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { checkAgentId } from '../agents.ts';
import type { JobReports } from '../jobreports.ts';
import type { Key } from '../keys.ts';
import type { Webhooks } from '../mailbox.ts';
import { codeIn } from '../logline.ts';
import type { Nexus } from '../nexus.ts';
import type { Secret } from '../secrets.ts';
import type { Mailboxes } from '../sources.ts';
import type { Usage } from '../usage.ts';
import { bodyOf } from './body.ts';
import { askedBy, bodyIn, type Routes } from './context.ts';
import { damageRoute } from './damage.ts';
import { type DashboardOptions, dashboardRoutes } from './dashboard/routes.ts';
import { answerError, errorOf, unknownRoute } from './failures.ts';
import { openKeyCheck } from './guesses.ts';
import { healthRoutes } from './health.ts';
import { itemRoutes } from './items.ts';
import { jobRoutes } from './jobs.ts';
import { errorEntry, fastifyLogger, type Log, requestEntry } from './log.ts';
import { mailboxRoutes } from './mailboxes.ts';
import { markRoutes } from './marks.ts';
import { type Metrics, openMetrics } from './metrics.ts';
import { metricsRoutes } from './metricsroute.ts';
import { ownStore } from './ownstore.ts';
import { pendingRoutes } from './pending.ts';
import { sessionRoutes } from './sessions.ts';
import { transcriptRoutes } from './transcripts.ts';
import { usageRoutes } from './usage.ts';
import { webhookRoutes } from './webhooks.ts';
import { headers } from './wire.ts';

/** Milliseconds, and connections. Slow, half-open and too many peers are cut by these. */
export interface Limits {
  /** For the head of a request, from the connection's first moment. */
  headersMs: number;
  /** For a whole request, body included. */
  requestMs: number;
  /** Between requests on a connection. */
  keepAliveMs: number;
  /** Without a byte either way: a reader who no longer reads. */
  silenceMs: number;
  /** Between signs of life in an answer that takes long: less than who asks, or is in between, takes for an outage. */
  signMs: number;
  /** For the rest of a body that was refused before its end. */
  lingerMs: number;
  /** For the store to answer when readiness is asked for. */
  readyMs: number;
  /** For the store to answer when metrics are asked for; what it has not said then is left out. */
  metricsMs: number;
  /** At most; where they are all taken those without a request make room. */
  connections: number;
  /** Bytes of webhooks that are in memory at once. */
  webhookBytes: number;
}

export const defaultLimits: Limits = {
  headersMs: 15_000,
  requestMs: 300_000,
  keepAliveMs: 65_000,
  silenceMs: 330_000,
  signMs: 5000,
  lingerMs: 2000,
  readyMs: 5000,
  metricsMs: 3000,
  connections: 1000,
  webhookBytes: 256 * 1024 * 1024,
};

export interface ServerOptions {
  sessions: Nexus;
  webhooks: Webhooks;
  /** What was spent; absent, it answers that it knows nothing of that. */
  usage?: Usage | undefined;
  jobs: JobReports;
  /** Asked at every request, so that keys can come and go while it runs. None: loopback only. */
  keys: () => readonly Key[] | Promise<readonly Key[]>;
  /** What is known of the senders of webhooks. Asked at every request too. */
  mailboxes: () => Mailboxes | Promise<Mailboxes>;
  /** Throws `config`, naming the place, for a secret that is not there. */
  secretOf: (secret: Secret) => Promise<string>;
  version: string;
  /** Absent, or without `usage`: no dashboard. */
  dashboard?: Omit<DashboardOptions, 'usage'> | undefined;
  /** How many proxies stand before it, each writing X-Forwarded-For. Default: none, and no such header is believed. */
  proxies?: number;
  /** Where it is counted what happens. Absent: in some of its own, that know nothing of the store's operations. */
  metrics?: Metrics;
  /** Absent: nothing is logged. */
  log?: Log;
  now?: () => Date;
  limits?: Partial<Limits>;
}

/** The endpoint without its listener: routes, authentication, errors and the request log. */
export function createServer(options: ServerOptions): FastifyInstance {
  const {
    keys,
    mailboxes,
    secretOf,
    version,
    proxies = 0,
    now = () => new Date(),
    log = () => undefined,
  } = options;
  const metrics = options.metrics ?? openMetrics({ version });
  const sessions = metrics.sessions(ownStore(options.sessions));
  const webhooks = metrics.webhooks(ownStore(options.webhooks), mailboxes);
  const usage = options.usage === undefined ? undefined : ownStore(options.usage);
  const jobs = ownStore(options.jobs);
  const limits: Limits = { ...defaultLimits, ...options.limits };
  const keyCheck = openKeyCheck(now, proxies);
  const expecting = new WeakMap<IncomingMessage, ServerResponse>();

  const app: FastifyInstance = Fastify({
    loggerInstance: fastifyLogger(log),
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 1024 },
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionTimeout: limits.silenceMs,
    http: {
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: Math.min(5000, limits.headersMs, limits.requestMs),
    },
    frameworkErrors: (error, _request, reply) => {
      answerError(reply, errorOf(error));
    },
    clientErrorHandler: answerUnparsable,
  });

  // Each route reads its own body, when it wants it and no further than it wants it.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (request, stream, done) => {
    done(
      null,
      bodyOf(stream, () => {
        expecting.get(request.raw)?.writeContinue();
        expecting.delete(request.raw);
      }),
    );
  });
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    expecting.set(request, response);
    app.routing(request, response);
  });

  app.decorateRequest('caller', null);
  app.decorateRequest('facts', null);
  app.addHook('onRequest', async (request, reply) => {
    logWhenOver(log, request, reply);
    metrics.request(request, reply);
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
    const { open, scopes } = request.routeOptions.config;
    if (request.is404 || open === true) return;
    const caller = keyCheck(await keys(), askedBy(request));
    request.caller = caller;
    reply.header(headers.store, await sessions.storeId());
    if (scopes === undefined) return;
    caller.require(scopes);
    const agent = agentIn(request.params);
    if (agent === undefined) return;
    caller.require(scopes, checkAgentId(agent));
    request.facts = { ...request.facts, agent };
  });
  app.addHook('onResponse', async ({ raw }) => {
    if (raw.complete) return;
    // Cutting at once could take the answer away from a sender who is still sending, and so could not reading on: many
    // look for an answer only when they have sent all.
    raw.resume();
    setTimeout(() => {
      if (!raw.complete) raw.destroy();
    }, limits.lingerMs).unref();
  });

  app.setErrorHandler((error, request, reply) => {
    const known = errorOf(error);
    // What a refusal's sentence says can be of the request; its code cannot.
    request.facts = { ...request.facts, code: codeIn(known) };
    if (known === undefined) log(errorEntry('error', 'internal error', error, request.id));
    else if (known.code === 'corrupt' || known.code === 'unavailable')
      log(errorEntry('warn', known.message, known, request.id));
    return answerError(reply, known);
  });
  app.setNotFoundHandler((request, reply) => unknownRoute(app, request, reply));

  const { readyMs, metricsMs, webhookBytes } = limits;
  const opened = { sessions, webhooks, usage, keys, mailboxes, secretOf };
  const routes: Routes = { app, ...opened, version, now, log, readyMs, proxies, webhookBytes };
  metricsRoutes(routes, { metrics, jobs, waitMs: metricsMs, keyCheck });
  healthRoutes(routes);
  markRoutes(routes);
  damageRoute(routes, limits.signMs);
  sessionRoutes(routes);
  transcriptRoutes(routes);
  webhookRoutes(routes);
  pendingRoutes(routes);
  itemRoutes(routes);
  mailboxRoutes(routes);
  jobRoutes(routes, jobs);
  usageRoutes(routes);
  if (options.dashboard !== undefined && usage !== undefined) {
    // Read by the dashboard alone: to everything else a cookie says nothing.
    app.register(cookie, { hook: false });
    const { signIns, timeZone } = options.dashboard;
    dashboardRoutes(routes, { usage, signIns: ownStore(signIns), timeZone });
  }
  return app;
}

function agentIn(params: unknown): string | undefined {
  if (typeof params !== 'object' || params === null || !('agentId' in params)) return undefined;
  return typeof params.agentId === 'string' ? params.agentId : undefined;
}

/** One entry a request, when it is over. */
function logWhenOver(log: Log, request: FastifyRequest, reply: FastifyReply): void {
  const started = performance.now();
  let logged = false;
  const over = (whole: boolean) => {
    if (logged) return;
    logged = true;
    const key = request.caller?.name;
    const { method, id } = request;
    const status = reply.raw.headersSent ? reply.raw.statusCode : undefined;
    const entry = requestEntry(
      {
        method,
        route: request.is404 ? undefined : request.routeOptions.url,
        status,
        ms: performance.now() - started,
        bytes:
          method === 'GET'
            ? whole
              ? lengthOf(reply)
              : undefined
            : method === 'HEAD'
              ? undefined
              : bodyIn(request).bytes,
        request: id,
        facts: { ...(key === undefined ? {} : { key }), ...request.facts },
      },
      new Date(),
    );
    log(entry);
  };
  reply.raw.once('finish', () => over(true));
  reply.raw.once('close', () => over(false));
}

function lengthOf(reply: FastifyReply): number | undefined {
  const length = reply.getHeader('content-length');
  return length === undefined ? undefined : Number(length);
}

const unparsable: Record<string, [status: string, sentence: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request did not arrive in time.'],
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', "The request's headers are too long."],
};

/** Answers what is no HTTP request at all, where there is still somebody to answer. */
function answerUnparsable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, sentence] = unparsable[error.code ?? ''] ?? [
    '400 Bad Request',
    'This is not an HTTP request.',
  ];
  const body = JSON.stringify({ error: sentence });
  socket.write(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  socket.destroySoon();
}
