import { promisify } from 'node:util';
import { zstdCompress } from 'node:zlib';
import * as z from 'zod';
import { checkAgentId } from '../agents.ts';
import { failedWith, NexusError } from '../errors.ts';
import { type Card, maxChunkBytes, type Nexus } from '../nexus.ts';
import { checkTranscript } from '../transcripts.ts';
import { readBytes } from './clientread.ts';
import { type ClientOptions, notNexus, openConnection } from './connection.ts';
import { damageAt } from './damageclient.ts';
import { brokenIn } from './mailboxwire.ts';
import { type Answer, either } from './request.ts';
import {
  cardSchema,
  cursorOf,
  digestFieldOf,
  headerJson,
  headers,
  maxAboutBytes,
  parseJson,
  partialUpload,
  readDigestField,
} from './wire.ts';

export type { ClientOptions } from './connection.ts';

/** Below this, compressing saves nothing worth having. */
const compressFrom = 1024;
/** The endpoint reads every byte before it answers with a digest: so much longer it may take, for each ms of these bytes. */
const digestBytesPerMs = 2_000;
const cardsPerPage = 1000;

const storeSchema = z.object({ id: z.string().min(1) });
const markSchema = z.object({ mark: z.string().nullable() });
const pageSchema = z.object({ sessions: z.array(cardSchema), next: z.string().nullable() });
const compressed = promisify(zstdCompress);

/** Nexus at an endpoint. Keeps the promises of the port: what resolves is durable there. */
export function openClient(options: ClientOptions): Nexus {
  const connection = openConnection(options);
  const { endpoint, requester } = connection;
  const compress = options.compress ?? !endpoint.loopback;

  async function json<T>(schema: z.ZodType<T>, path: string): Promise<T> {
    return (await connection.json(schema, { method: 'GET', path, expect: [200] })).value;
  }

  /** The card; with a digest that the endpoint may have to read `of` so many bytes for, or more. */
  async function head(
    agent: string,
    transcript: string,
    asked?: { digest: 'stored' | 'reread'; of: number },
  ): Promise<Card | undefined> {
    let answer: Answer;
    try {
      answer = await requester.ask({
        method: 'HEAD',
        path: transcriptPath(agent, transcript),
        expect: [200],
        ...(asked === undefined
          ? {}
          : {
              headers: {
                [headers.wantReprDigest]: 'sha-256=1',
                ...(asked.digest === 'reread' ? { 'cache-control': 'no-cache' } : {}),
              },
              timeoutMs: connection.timeoutMs + asked.of / digestBytesPerMs,
            }),
      });
    } catch (error) {
      if (failedWith(error, 'not_found')) return undefined;
      if (failedWith(error, 'corrupt'))
        throw new NexusError(
          'corrupt',
          `The stored bytes of ${agent}/${transcript} are not the ones that were stored, says ${endpoint.base}.`,
          { cause: error },
        );
      throw error;
    }
    answer.done();
    const read = cardSchema.safeParse(parseJson(answer.headers.get(headers.card) ?? ''));
    const field = answer.headers.get(headers.reprDigest);
    const stated = field === null ? undefined : readDigestField(field);
    if (!read.success || (asked !== undefined && stated === undefined)) throw notNexus(endpoint.base, answer);
    return stated === undefined ? read.data : { ...read.data, digest: stated };
  }

  return {
    async storeId() {
      const known = requester.store();
      return known ?? (await json(storeSchema, '/api/store')).id;
    },

    async stat(agent, transcript, { digest = 'known' } = {}) {
      const card = await head(agent, transcript);
      const known = digest === 'known' || (digest === 'stored' && card?.digest !== undefined);
      // How long it is says how long its digest may take: a line that is silent is not waited for any longer.
      return card === undefined || known ? card : await head(agent, transcript, { digest, of: card.length });
    },

    async append(agent, transcript, offset, bytes, { complete, about }) {
      const path = transcriptPath(agent, transcript);
      if (bytes.length > maxChunkBytes)
        throw new NexusError('too_large', `A chunk of ${bytes.length} bytes exceeds the 10 MB limit.`);
      const said = headerJson(about);
      if (said.length > maxAboutBytes)
        throw new NexusError(
          'invalid',
          `What is said about ${agent}/${transcript} exceeds ${maxAboutBytes} bytes.`,
        );
      const packed = compress && bytes.length > compressFrom ? await compressed(bytes) : undefined;
      const smaller = packed !== undefined && packed.length < bytes.length ? packed : undefined;
      const body = smaller ?? bytes;
      const answer = await requester.ask({
        method: 'PATCH',
        path,
        headers: {
          'content-type': partialUpload,
          [headers.offset]: String(offset),
          [headers.complete]: complete ? '?1' : '?0',
          [headers.about]: said,
          [headers.contentDigest]: digestFieldOf(body),
          ...(smaller === undefined ? {} : { 'content-encoding': 'zstd' }),
        },
        body,
        expect: [201, 204],
      });
      answer.done();
      const length = offset + bytes.length;
      if (answer.headers.get(headers.offset) !== String(length)) throw notNexus(endpoint.base, answer);
      return length;
    },

    read(agent, transcript, from = 0, to?: number) {
      return readBytes(requester, {
        path: transcriptPath(agent, transcript),
        name: `${agent}/${transcript}`,
        base: endpoint.base,
        tries: connection.retries.tries,
        signal: options.signal,
        from,
        to,
      });
    },

    damage: (signal) => damageAt(connection, either(options.signal, signal)),

    async *list({ agent, since, after, damaged } = {}) {
      let cursor = after === undefined ? undefined : cursorOf(after);
      for (;;) {
        const query = new URLSearchParams({ limit: String(cardsPerPage) });
        if (agent !== undefined) query.set('agentId', checkAgentId(agent));
        if (since !== undefined) query.set('since', since);
        if (cursor !== undefined) query.set('cursor', cursor);
        const ask = { method: 'GET', path: `/api/sessions?${query.toString()}` } as const;
        const { value: page, headers: said } = await connection.json(pageSchema, { ...ask, expect: [200] });
        for (const { id, reason } of brokenIn(said.get(headers.broken)) ?? []) {
          if (damaged === undefined) throw new NexusError('corrupt', reason);
          const [of = '', transcript = ''] = id.split('/');
          damaged({ agent: of, transcript, item: id, reason });
        }
        yield* page.sessions;
        if (page.next === null) return;
        cursor = page.next;
      }
    },

    async mark(agent, host) {
      return (await json(markSchema, hostPath('marks', agent, host))).mark ?? undefined;
    },

    async setMark(agent, host, mark) {
      const body = Buffer.from(JSON.stringify({ mark }));
      const answer = await requester.ask({
        method: 'PUT',
        path: hostPath('marks', agent, host),
        headers: { 'content-type': 'application/json' },
        body,
        expect: [200],
      });
      answer.done();
    },

    async setPrices(agent, host, prices) {
      const answer = await requester.ask({
        method: 'PUT',
        path: hostPath('prices', agent, host),
        headers: { 'content-type': 'application/json' },
        body: Buffer.from(JSON.stringify({ prices })),
        expect: [200],
      });
      answer.done();
    },

    close: () => Promise.resolve(),
  };
}

// Checked here too: an id that is none would make another path of it.
function transcriptPath(agent: string, transcript: string): string {
  return `/api/sessions/${checkAgentId(agent)}/${checkTranscript(transcript)}`;
}

function hostPath(what: 'marks' | 'prices', agent: string, host: string): string {
  if (/^\.{0,2}$/.test(host))
    throw new NexusError('invalid', `${JSON.stringify(host)} cannot be a host's name: set \`host\`.`);
  return `/api/${what}/${checkAgentId(agent)}/${encodeURIComponent(host)}`;
}
