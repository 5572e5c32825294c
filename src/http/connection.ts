import type * as z from 'zod';
import { NexusError } from '../errors.ts';
import type { Say } from '../logline.ts';
import { checkKey, type Endpoint, readEndpoint } from './endpoint.ts';
import { type Answer, type Ask, openRequester, type Requester } from './request.ts';
import { defaultRetries, type Retries } from './retry.ts';
import { parseJson } from './wire.ts';

export interface ClientOptions {
  endpoint: string;
  key?: string | undefined;
  retries?: Retries;
  /** Ends whatever is under way: it rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Nexus's own, said in User-Agent. */
  version?: string;
  /** For one try, until an answer, and between two pieces of one. Default 60 s. */
  timeoutMs?: number;
  /** Default: when the endpoint is another machine, where the network is dearer than the processor. */
  compress?: boolean;
  /** Told of each request that is tried again. */
  say?: Say | undefined;
  fetch?: typeof fetch;
  random?: () => number;
  now?: () => Date;
}

/** What clients of the several nouns have in common. */
export interface Connection {
  endpoint: Endpoint;
  requester: Requester;
  retries: Retries;
  timeoutMs: number;
  /** An answer with all of its body; one that was cut short is asked for again. So nothing that must not be repeated. */
  whole(ask: Ask): Promise<{ answer: Answer; body: Buffer }>;
  /** The same of JSON: `unavailable` when it is not what Nexus says. */
  json<T>(schema: z.ZodType<T>, ask: Ask, parse?: (text: string) => unknown): Promise<Told<T>>;
}

export interface Told<T> {
  value: T;
  headers: Headers;
}

export function openConnection(options: ClientOptions): Connection {
  const endpoint = readEndpoint(options.endpoint);
  checkKey(options.key);
  const retries = options.retries ?? defaultRetries;
  const timeoutMs = options.timeoutMs ?? 60_000;
  const requester = openRequester({
    endpoint,
    key: options.key,
    agent: `nexus/${options.version ?? '0'}`,
    retries,
    timeoutMs,
    signal: options.signal,
    say: options.say,
    fetch: options.fetch ?? fetch,
    random: options.random ?? Math.random,
    now: options.now ?? (() => new Date()),
  });

  async function whole(ask: Ask): Promise<{ answer: Answer; body: Buffer }> {
    for (let n = 1; ; n++) {
      const answer = await requester.ask(ask);
      try {
        const pieces: Uint8Array[] = [];
        for await (const piece of answer.read()) pieces.push(piece);
        return { answer, body: Buffer.concat(pieces) };
      } catch (error) {
        options.signal?.throwIfAborted();
        ask.signal?.throwIfAborted();
        if (n >= retries.tries)
          throw new NexusError('unavailable', `The answer of ${endpoint.base} was cut short ${n} times.`, {
            cause: error,
          });
        await requester.pause(n - 1);
      }
    }
  }

  return {
    endpoint,
    requester,
    retries,
    timeoutMs,
    whole,
    async json(schema, ask, parse = parseJson) {
      const { answer, body } = await whole(ask);
      const read = schema.safeParse(parse(body.toString('utf8')));
      if (!read.success) throw notNexus(endpoint.base, answer);
      return { value: read.data, headers: answer.headers };
    },
  };
}

export function notNexus(base: string, answer: Answer): NexusError {
  return new NexusError(
    'unavailable',
    `What ${base} answers (HTTP ${answer.status}) is not what Nexus says: check the endpoint's URL and version.`,
  );
}
