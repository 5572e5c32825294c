import type { FastifyRequest } from 'fastify';
import type * as z from 'zod';
import { NexusError } from '../errors.ts';

/** The query of a request, as its route wants it; `invalid` names the field that is wrong. */
export function readQuery<T>(schema: z.ZodType<T>, request: FastifyRequest): T {
  const read = schema.safeParse(request.query);
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  throw new NexusError('invalid', `Invalid ${issue?.path.join('.') ?? 'query'}: ${issue?.message ?? ''}.`);
}

/** A field of the query that was given once; `undefined` for any other. */
export function queryText({ query }: FastifyRequest, name: string): string | undefined {
  if (typeof query !== 'object' || query === null) return undefined;
  const value: unknown = Object.getOwnPropertyDescriptor(query, name)?.value;
  return typeof value === 'string' ? value : undefined;
}
