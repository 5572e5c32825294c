import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { httpStatus, NexusError } from '../errors.ts';
import { headers } from './wire.ts';

/** Seconds that a caller is asked to wait when the failure does not say. */
const retryAfter = 5;

const sentences: Record<string, string> = {
  FST_ERR_BAD_URL: 'The URL is not well formed: percent-encode what it names.',
  FST_ERR_MAX_PARAM_LENGTH: 'A name in the URL is too long.',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'The Content-Type is not one that is understood here.',
};

/** The expected failure that an error is, or `undefined` for a bug. Fastify's own get a sentence of ours. */
export function errorOf(error: unknown): NexusError | undefined {
  if (error instanceof NexusError) return error;
  if (!(error instanceof Error) || !('code' in error) || !('statusCode' in error)) return undefined;
  const { code, statusCode } = error;
  if (typeof code !== 'string' || !code.startsWith('FST_') || typeof statusCode !== 'number')
    return undefined;
  if (statusCode < 400 || statusCode > 499) return undefined;
  return new NexusError(
    statusCode === 415 ? 'unsupported' : statusCode === 413 ? 'too_large' : 'invalid',
    sentences[code] ?? 'The request cannot be understood.',
    { cause: error },
  );
}

/** Answers a failure: its status, its sentence, and what its caller needs to go on. `undefined` is a bug's 500. */
export function answerError(
  reply: FastifyReply,
  error: NexusError | undefined,
  more: Record<string, string> = {},
): FastifyReply {
  if (error === undefined) return reply.code(500).send({ error: 'Internal error' });
  const status = httpStatus(error);
  reply.code(status).header(headers.error, error.code);
  const after = error.retryAfter ?? (status === 503 || status === 429 ? retryAfter : undefined);
  if (after !== undefined) reply.header('retry-after', Math.ceil(after));
  if (error.code === 'conflict' && error.length !== undefined) reply.header(headers.offset, error.length);
  if (error.code === 'range' && error.length !== undefined)
    reply.header('content-range', `bytes */${error.length}`);
  return reply.send({
    error: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...more,
  });
}

const methods: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];

/** 405 with `Allow` where another method has a route, else 404. Neither tells whether anything is stored. */
export function unknownRoute(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const [path = '/'] = request.url.split('?', 1);
  const allowed = methods.filter((method) => app.findRoute({ method, url: path }) !== null);
  if (allowed.length === 0) return reply.code(404).send({ error: 'There is nothing at this path.' });
  return reply
    .code(405)
    .header('allow', allowed.join(', '))
    .send({ error: `This path takes ${allowed.join(', ')}, not ${request.method}.` });
}
