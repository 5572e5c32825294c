import { type ErrorCode, messageOf, NexusError } from '../errors.ts';
import type { Say } from '../logline.ts';
import type { Endpoint } from './endpoint.ts';
import { pause, pauseAfter, type Retries, retryAfterMs } from './retry.ts';
import { headers, parseJson } from './wire.ts';

export interface Ask {
  method: 'GET' | 'HEAD' | 'PATCH' | 'PUT' | 'POST' | 'DELETE';
  /** Below the endpoint, beginning with "/". */
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array;
  /** Statuses below 400 that make sense; any other is not Nexus's. */
  expect: readonly number[];
  /** For one try, in milliseconds, where the usual is too short. */
  timeoutMs?: number;
  /** Ends this request alone: it rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** An answer whose body is still to come. It must be read with `read`, or left with `done`. */
export interface Answer {
  status: number;
  headers: Headers;
  /** Pieces of the body; each must come within the time for one try. */
  read(): AsyncIterable<Uint8Array>;
  /** Gives up the body and frees the connection. */
  done(): void;
}

export interface Requester {
  /** Tries until there is an answer that means something; every other end is a NexusError or the signal's reason. */
  ask(request: Ask): Promise<Answer>;
  /** Waits as after the n-th failed try, from 0. */
  pause(n: number): Promise<void>;
  /** The id of the store that answered first, when one has. */
  store(): string | undefined;
}

export interface RequesterOptions {
  endpoint: Endpoint;
  key: string | undefined;
  agent: string;
  retries: Retries;
  timeoutMs: number;
  signal: AbortSignal | undefined;
  say: Say | undefined;
  fetch: typeof fetch;
  random: () => number;
  now: () => Date;
}

/** Fails a try, and asks for another one after a pause. */
interface TryAgain {
  cause: unknown;
  why: string;
  afterMs: number | undefined;
}

/** Everything that is asked of an endpoint goes through here: retries, time limits, and what an answer means. */
export function openRequester(options: RequesterOptions): Requester {
  const { endpoint, key, agent, retries, random, now } = options;
  let store: string | undefined;

  async function once(
    request: Ask,
    signal: AbortSignal | undefined,
    repeated: boolean,
  ): Promise<Answer | TryAgain> {
    const timed = timeLimit(request.timeoutMs ?? options.timeoutMs, signal);
    let response: Response;
    try {
      response = await options.fetch(`${endpoint.base}${request.path}`, {
        method: request.method,
        headers: {
          'user-agent': agent,
          ...(key === undefined ? {} : { [headers.key]: key }),
          ...request.headers,
        },
        // As a stream, of which fetch makes no copies: a gigabyte's worth of those is not collected in time.
        ...(request.body === undefined
          ? {}
          : { body: ReadableStream.from(slices(request.body)), duplex: 'half' }),
        // A redirect followed would carry the key to somebody else.
        redirect: 'manual',
        signal: timed.signal,
      });
    } catch (error) {
      timed.end();
      signal?.throwIfAborted();
      return { cause: error, why: whyOf(error), afterMs: undefined };
    }
    const answer = answerOf(response, timed);
    if (request.expect.includes(response.status)) {
      try {
        checkStore(response);
      } catch (error) {
        answer.done();
        throw error;
      }
      return answer;
    }
    const text = request.method === 'HEAD' ? '' : await shortText(answer);
    answer.done();
    return failureOf(response, text, repeated);
  }

  /** The same store as at first; an answer that names none is not from Nexus. */
  function checkStore(response: Response): void {
    const id = response.headers.get(headers.store);
    if (id === null)
      throw new NexusError(
        'unavailable',
        `What answers at ${endpoint.base} is not Nexus: check the endpoint's URL.`,
      );
    store ??= id;
    if (store !== id)
      throw new NexusError('unavailable', `The endpoint ${endpoint.base} now answers from another store.`, {
        hint: 'The next run settles with that one.',
      });
  }

  /** Throws what trying again cannot change. */
  function failureOf(response: Response, text: string, repeated: boolean): TryAgain {
    const { status } = response;
    const code = response.headers.get(headers.error);
    const sentence = sentenceIn(text);
    if (status >= 300 && status < 400)
      throw new NexusError(
        'config',
        `The endpoint ${endpoint.base} redirects elsewhere: set \`endpoint\` to its true URL.`,
      );
    if (status < 300)
      throw new NexusError(
        'unavailable',
        `What answers at ${endpoint.base} is not Nexus: check the endpoint's URL.`,
      );
    if (status >= 500 && code === 'corrupt')
      throw new NexusError('corrupt', sentence ?? 'The endpoint finds that its stored bytes have changed.');
    if (status >= 500 || status === 408 || status === 429)
      return {
        cause: undefined,
        why: sentence === undefined ? `HTTP ${status}` : `HTTP ${status}: ${sentence}`,
        afterMs: retryAfterMs(response.headers.get('retry-after'), now()),
      };
    // Absent is only believed of Nexus: a proxy or a wrong path answers 404 too.
    if ((status === 404 || status === 409 || status === 416) && code === null)
      throw new NexusError(
        'unavailable',
        `What answers at ${endpoint.base} is not Nexus: check the endpoint's URL.`,
      );
    if (code !== null && (status === 404 || status === 409 || status === 416)) checkStore(response);
    const length = lengthIn(response);
    throw new NexusError(
      code === 'full' ? code : (codes[status] ?? 'invalid'),
      sentence ?? `The endpoint ${endpoint.base} ${unsaid[status] ?? `answers HTTP ${status}`}.`,
      { repeated, ...(length === undefined ? {} : { length }) },
    );
  }

  return {
    store: () => store,
    pause: (n) => pause(pauseAfter(n, retries, undefined, random), options.signal),
    async ask(request) {
      const signal = either(options.signal, request.signal);
      let last: TryAgain | undefined;
      for (let n = 0; n < retries.tries; n++) {
        signal?.throwIfAborted();
        if (last !== undefined) {
          const ms = pauseAfter(n - 1, retries, last.afterMs, random);
          options.say?.(`${endpoint.base} is asked again: ${last.why}`, {
            method: request.method,
            attempt: n + 1,
            ms: Math.round(ms),
          });
          await pause(ms, signal);
        }
        const result = await once(request, signal, last !== undefined);
        if ('headers' in result) return result;
        last = result;
      }
      throw new NexusError(
        'unavailable',
        `The endpoint ${endpoint.base} cannot be reached after ${retries.tries} tries (${last?.why ?? 'none made'}).`,
        { cause: last?.cause },
      );
    },
  };
}

/** Whichever of both is aborted first. */
export function either(
  one: AbortSignal | undefined,
  other: AbortSignal | undefined,
): AbortSignal | undefined {
  return one === undefined || other === undefined ? (one ?? other) : AbortSignal.any([one, other]);
}

const codes: Record<number, ErrorCode> = {
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  413: 'too_large',
  415: 'unsupported',
  416: 'range',
};

/** What a refusal means that came without a sentence, as the answer to HEAD does. */
const unsaid: Record<number, string> = {
  401: 'does not know this key (HTTP 401)',
  403: 'refuses this key, which lacks the scope or the agent (HTTP 403)',
};

/** The true length that a conflict or a wrong range tells. */
function lengthIn(response: Response): number | undefined {
  const field =
    response.headers.get(headers.offset) ??
    /^bytes \*\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  return field !== undefined && field !== null && /^\d{1,15}$/.test(field) ? Number(field) : undefined;
}

interface TimeLimit {
  signal: AbortSignal;
  /** Begins the time anew: something has arrived. */
  again(): void;
  /** Ends it without an abort. */
  end(): void;
  /** Aborts what is under way. */
  abort(): void;
}

function timeLimit(ms: number, outer: AbortSignal | undefined): TimeLimit {
  const controller = new AbortController();
  const late = () => controller.abort(new DOMException(`no answer within ${ms / 1000} s`, 'TimeoutError'));
  const timer = setTimeout(late, ms);
  const stop = () => controller.abort(outer?.reason);
  outer?.addEventListener('abort', stop, { once: true });
  if (outer?.aborted === true) stop();
  const end = () => {
    clearTimeout(timer);
    outer?.removeEventListener('abort', stop);
  };
  return {
    signal: controller.signal,
    again: () => void timer.refresh(),
    end,
    abort() {
      end();
      controller.abort();
    },
  };
}

function answerOf(response: Response, timed: TimeLimit): Answer {
  // Nothing is to come, so nothing is to be waited for.
  if (response.body === null) timed.end();
  return {
    status: response.status,
    headers: response.headers,
    async *read() {
      try {
        for await (const piece of response.body ?? []) {
          timed.again();
          yield piece;
        }
        timed.end();
      } finally {
        timed.abort();
      }
    },
    done: () => timed.abort(),
  };
}

const longestError = 64 * 1024;

/** The body of an error, as far as it is worth reading. */
async function shortText(answer: Answer): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const piece of answer.read()) {
      pieces.push(piece);
      length += piece.length;
      if (length > longestError) break;
    }
  } catch {
    // The status says enough; the sentence is lost.
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** The endpoint's own sentence. Anything else that a proxy may have put there is not repeated. */
function sentenceIn(text: string): string | undefined {
  const body = parseJson(text);
  if (typeof body !== 'object' || body === null || !('error' in body)) return undefined;
  return typeof body.error === 'string' && body.error !== '' ? body.error.slice(0, 300) : undefined;
}

/** What went wrong on the way, in a few words: fetch hides it in the cause. */
export function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return messageOf(error);
  const { cause } = error;
  if (cause instanceof Error && error.message !== cause.message) {
    const code = 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
    return code !== undefined && !cause.message.includes(code)
      ? `${code} ${messageOf(cause)}`.trim()
      : messageOf(cause);
  }
  return messageOf(error);
}

const sliceBytes = 64 * 1024;

function* slices(body: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < body.length; at += sliceBytes) yield body.subarray(at, at + sliceBytes);
}
