import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { NexusError } from '../errors.ts';
import { type Card, maxChunkBytes } from '../nexus.ts';
import { checkTranscript } from '../transcripts.ts';
import { checkDigest, decode, refuseLength, requireType } from './body.ts';
import { bodyIn, headerOf, type Routes } from './context.ts';
import { errorEntry } from './log.ts';
import { rangeOf } from './range.ts';
import { streamOf } from './stream.ts';
import { digestField, headerJson, headers, partialUpload, readAbout, wantsDigest } from './wire.ts';

const tooLong = 'A chunk exceeds the 10 MB limit: send it in several.';
/** What cannot be compressed grows a little when it is. */
const maxEncodedBytes = maxChunkBytes + 64 * 1024;

interface Named {
  Params: { agentId: string; transcript: string };
}

const url = '/api/sessions/:agentId/:transcript';

/** What `nexus upload` itself uses: how much of a transcript is stored, more of it, and the bytes. */
export function transcriptRoutes({ app, sessions, log }: Routes): void {
  const look = { config: { scopes: ['upload', 'read'] as const } };
  const add = { config: { scopes: ['upload'] as const } };

  app.head<Named>(url, look, async (request, reply) => {
    const { agentId, transcript } = request.params;
    checkTranscript(transcript);
    const wanted = wantsDigest(headerOf(request, headers.wantReprDigest));
    const again = /\bno-cache\b/i.test(headerOf(request, 'cache-control') ?? '');
    const digest = wanted ? (again ? 'reread' : 'stored') : 'known';
    const card = await sessions.stat(agentId, transcript, { digest });
    if (card === undefined) throw notStored(agentId, transcript);
    describe(reply, card);
    if (wanted && card.digest !== undefined) reply.header(headers.reprDigest, digestField(card.digest));
    return reply.header('content-length', card.length).header(headers.card, headerJson(card)).send();
  });

  app.patch<Named>(url, add, async (request, reply) => {
    const { agentId, transcript } = request.params;
    checkTranscript(transcript);
    const offset = offsetIn(request);
    const complete = completeIn(request);
    const about = readAbout(headerOf(request, headers.about));
    const sent = bodyIn(request);
    if (request.body !== undefined) requireType(headerOf(request, 'content-type'), partialUpload);
    refuseLength(headerOf(request, 'content-length'), maxEncodedBytes, tooLong);
    const encoded = await sent.read(maxEncodedBytes, tooLong);
    checkDigest(encoded, headerOf(request, headers.contentDigest));
    const bytes = await decode(encoded, headerOf(request, 'content-encoding'), maxChunkBytes, tooLong);
    if (bytes.length > maxChunkBytes) throw new NexusError('too_large', tooLong);
    const created = offset === 0 && (await sessions.stat(agentId, transcript)) === undefined;
    const length = await sessions.append(agentId, transcript, offset, bytes, { complete, about });
    return reply
      .code(created ? 201 : 204)
      .header(headers.offset, length)
      .header(headers.complete, complete ? '?1' : '?0')
      .send();
  });

  app.get<Named>(url, look, async (request, reply) => {
    const { agentId, transcript } = request.params;
    checkTranscript(transcript);
    const card = await sessions.stat(agentId, transcript);
    if (card === undefined) throw notStored(agentId, transcript);
    // There is no validator that If-Range could name, so with it the whole is the right answer.
    const asked = headerOf(request, 'if-range') === undefined ? headerOf(request, 'range') : undefined;
    const range = rangeOf(asked, card.length);
    const { from, to } = range ?? { from: 0, to: card.length };
    // Opened before the head is out, so that what cannot be read is an error and not a body cut short.
    const bytes = sessions.read(agentId, transcript, from, to);
    const stream = await streamOf(range === undefined ? sound(bytes, card) : bytes);
    stream.once('error', (error) =>
      log(errorEntry('warn', 'The bytes could not be read to their end.', error, request.id)),
    );
    describe(reply, card);
    if (range !== undefined)
      reply.code(206).header('content-range', `bytes ${from}-${to - 1}/${card.length}`);
    return reply
      .type('application/x-ndjson')
      .header('content-length', to - from)
      .send(stream);
  });
}

/** The bytes of the whole, of which the last piece is not given out where they are not those of the card's digest. */
async function* sound(bytes: AsyncIterable<Uint8Array>, card: Card): AsyncIterable<Uint8Array> {
  const { agent, transcript, length, digest } = card;
  const hash = createHash('sha256');
  let read = 0;
  for await (const piece of bytes) {
    hash.update(piece);
    read += piece.length;
    if (read === length && digest !== undefined && hash.digest('hex') !== digest)
      throw new NexusError(
        'corrupt',
        `The stored bytes of ${agent}/${transcript} are not the ones that were stored.`,
        {
          hint: 'Look with `nexus backfill --verify`.',
        },
      );
    yield piece;
  }
}

function describe(reply: FastifyReply, card: Card): void {
  reply
    .header(headers.offset, card.length)
    .header(headers.complete, card.complete ? '?1' : '?0')
    .header('accept-ranges', 'bytes');
}

function notStored(agentId: string, transcript: string): NexusError {
  return new NexusError('not_found', `Nothing is stored as ${agentId}/${transcript}.`);
}

function offsetIn(request: FastifyRequest): number {
  const field = headerOf(request, headers.offset) ?? '';
  const offset = /^\d{1,15}$/.test(field) ? Number(field) : undefined;
  if (offset === undefined)
    throw new NexusError('invalid', 'Upload-Offset must be the number of bytes stored so far.');
  return offset;
}

function completeIn(request: FastifyRequest): boolean {
  const field = headerOf(request, headers.complete);
  if (field !== '?0' && field !== '?1')
    throw new NexusError('invalid', 'Upload-Complete must be ?0 or ?1: whether this ends the transcript.');
  return field === '?1';
}
