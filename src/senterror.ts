import { describe, type ErrorCode, NexusError } from './errors.ts';

/** An error as one thread can send it to another. */
export interface SentError {
  /** Without a code it is a bug. */
  code: ErrorCode | undefined;
  message: string;
  hint?: string | undefined;
  length?: number | undefined;
  retryAfter?: number | undefined;
  stack?: string | undefined;
}

export function toSend(error: unknown): SentError {
  if (!(error instanceof NexusError))
    return {
      code: undefined,
      message: describe(error),
      stack: error instanceof Error ? error.stack : undefined,
    };
  const { code, message, hint, length, retryAfter } = error;
  return { code, message, hint, length, retryAfter };
}

/** What was sent, as an error of this thread. */
export function received({ code, message, hint, length, retryAfter, stack }: SentError): Error {
  if (code === undefined) return Object.assign(new Error(message), { stack });
  return new NexusError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(length === undefined ? {} : { length }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}
