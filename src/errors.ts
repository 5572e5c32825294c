/** Every way a Nexus operation can fail that its caller may act on. Anything else thrown is a bug. */
export type ErrorCode =
  | 'usage' // the command line makes no sense
  | 'config' // the configuration is wrong
  | 'invalid' // a value from outside breaks a rule
  | 'unauthorized' // no key, or a wrong one
  | 'forbidden' // a key, a uid or a policy that does not allow this
  | 'not_found'
  | 'conflict' // it exists, or it is not where the caller thought; `length` says where it is
  | 'too_large'
  | 'full' // a blob that takes no further append, at `length`; go on under another name
  | 'unsupported' // a content type or encoding that is never understood
  | 'range' // a byte range outside the bytes
  | 'limited' // asked too often; try again later
  | 'busy' // somebody else holds it; try again
  | 'unavailable' // cannot be reached or cannot take it now; try again
  | 'corrupt' // what is stored is not what was stored
  | 'changed'; // the source changed or vanished while it was read; the next run takes it up

export interface ErrorFacts {
  /** One sentence: what to run or change. Shown after the message. */
  hint?: string;
  /** The true length in bytes, with `conflict` on an append, with `range` and with `full`. */
  length?: number;
  /** With `conflict`: the call was tried before, and that try may be what is in the way. */
  repeated?: boolean;
  /** Seconds to wait, with `unavailable`, `busy` and `limited`, and of too many wrong keys. */
  retryAfter?: number;
  cause?: unknown;
}

/** An expected failure. `message` is one sentence for the person who reads it, without secrets. */
export class NexusError extends Error {
  override readonly name = 'NexusError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly length: number | undefined;
  readonly repeated: boolean;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.hint = facts.hint;
    this.length = facts.length;
    this.repeated = facts.repeated === true;
    this.retryAfter = facts.retryAfter;
  }
}

/** True for a NexusError with this code. */
export function failedWith(error: unknown, ...codes: ErrorCode[]): error is NexusError {
  return error instanceof NexusError && codes.includes(error.code);
}

/**
 * The message of an error that is not ours, without what it quotes: JSON's parser, HTTP's headers and Node's arguments
 * repeat what they were given, which may be a payload or a secret.
 */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${typeof error}`;
  return error.message
    .replace(/"[^]*"/, '"…"')
    .replace(/\bReceived [^]*$/, 'Received …')
    .replace(/^Cannot convert [^]* to a BigInt$/, 'Cannot convert … to a BigInt');
}

/** What a person is told: the sentence and its hint. A bug shows its own message. */
export function describe(error: unknown): string {
  if (!(error instanceof NexusError)) return messageOf(error);
  return error.hint === undefined ? error.message : `${error.message} ${error.hint}`;
}

/** Exit statuses, after sysexits.h; 0 is done or nothing to do, 3 is "ran, but some items failed". */
export const exit = { done: 0, internal: 1, someFailed: 3 } as const;

const exitStatuses: Record<ErrorCode, number> = {
  usage: 64,
  invalid: 64,
  not_found: 69,
  conflict: 69,
  too_large: 69,
  full: 69,
  unsupported: 69,
  range: 64,
  corrupt: 69,
  changed: 75,
  unavailable: 69,
  limited: 75,
  busy: 75,
  unauthorized: 77,
  forbidden: 77,
  config: 78,
};

/** The exit status of a command that ended with this error. */
export function exitStatus(error: unknown): number {
  return error instanceof NexusError ? exitStatuses[error.code] : exit.internal;
}

const httpStatuses: Record<ErrorCode, number> = {
  usage: 400,
  invalid: 400,
  config: 500,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  full: 413,
  unsupported: 415,
  range: 416,
  limited: 429,
  busy: 503,
  unavailable: 503,
  corrupt: 500,
  changed: 500,
};

/** The HTTP status that the endpoint answers for this error. */
export function httpStatus(error: unknown): number {
  return error instanceof NexusError ? httpStatuses[error.code] : 500;
}
