import type { FastifyBaseLogger } from 'fastify';
import { bug, codeIn, type Entry, type Facts } from '../logline.ts';
import { describe, NexusError } from '../errors.ts';

/** Where entries of the log go. */
export type Log = (entry: Entry) => void;

export interface Asked {
  method: string;
  /** The route's template: what stands in the place of names, and in a query, may be a key. */
  route: string | undefined;
  /** `undefined`: the peer was gone before the answer. */
  status: number | undefined;
  ms: number;
  bytes: number | undefined;
  request: string;
  facts: Facts;
}

const ofHealth = new Set(['/healthz', '/readyz', '/metrics']);

/** One entry a request: what monitors ask all day is for who looks closely, what the endpoint could not do a warning. */
export function requestEntry({ method, route, status, ms, bytes, request, facts }: Asked, now: Date): Entry {
  const answered = status === undefined ? 'gone' : String(status);
  const asked = `${method} ${route ?? '(no route)'} ${answered}`;
  const { key, source, item, reason } = facts;
  const more = [
    `${Math.round(ms)} ms`,
    ...(key === undefined ? [] : [`(${key})`]),
    ...(source === undefined ? [] : [item === undefined ? source : `${source} → ${item}`]),
    ...(reason === undefined ? [] : [reason]),
  ];
  const fine = status !== undefined && status < 300;
  return {
    level: (status ?? 0) >= 500 ? 'warn' : fine && ofHealth.has(route ?? '') ? 'debug' : 'info',
    message: asked,
    facts: { request, method, route, status, ms: Math.round(ms * 10) / 10, bytes, ...facts },
    shown: `${now.toISOString().slice(11, 23)} ${asked} ${more.join(' ')}`,
  };
}

/** What is logged of an error: a bug's stack, and else what the operator is to know, with what lies behind it. */
export function errorEntry(
  level: 'warn' | 'error',
  sentence: string,
  error: unknown,
  request: string,
): Entry {
  if (!(error instanceof NexusError)) {
    const [message, facts] = bug(error);
    return { level: 'error', message, facts: { request, ...facts } };
  }
  const behind = behindOf(error);
  const reason = behind === sentence ? undefined : behind;
  return { level, message: sentence, facts: { request, code: codeIn(error), reason } };
}

/** Of another's error its name and code alone: its sentence may quote what it was given. */
function behindOf(error: NexusError): string {
  const { cause } = error;
  if (cause instanceof NexusError) {
    const behind = cause.cause instanceof NexusError ? ` (${behindOf(cause)})` : '';
    return describe(cause) + behind;
  }
  if (!(cause instanceof Error)) return describe(error);
  return 'code' in cause && typeof cause.code === 'string' ? `${cause.name} ${cause.code}` : cause.name;
}

/** What Fastify itself has to say. What it says of requests is left out: it knows their URLs and headers. */
export function fastifyLogger(log: Log, request?: string): FastifyBaseLogger {
  const at =
    (level: Entry['level']) =>
    (given: unknown, text?: unknown): void => {
      const message = typeof given === 'string' ? given : typeof text === 'string' ? text : 'Fastify';
      const error = typeof given === 'object' && given !== null && 'err' in given ? given.err : undefined;
      const facts: Facts = error === undefined ? {} : { reason: message, ...bug(error)[1] };
      log({ level, message, facts: { request, ...facts } });
    };
  return {
    level: 'debug',
    fatal: at('error'),
    error: at('error'),
    warn: at('warn'),
    // Where it listens is told by who asked it to.
    info: at('debug'),
    debug: at('debug'),
    trace: () => undefined,
    silent: () => undefined,
    child: ({ reqId }) => fastifyLogger(log, typeof reqId === 'string' ? reqId : request),
  };
}
