import type { FastifyReply, FastifyRequest } from 'fastify';
import { NexusError } from '../errors.ts';
import { maxWebhookBytes } from '../mailbox.ts';
import { checkPayload, payloadOf } from '../payload.ts';
import { slots } from '../slots.ts';
import { idsIn } from '../transfer.ts';
import { refuseOutsiders } from './auth.ts';
import { refuseLength } from './body.ts';
import { openBodyRoom, smallBytes } from './bodyroom.ts';
import { bounded, challengeIn } from './challenges.ts';
import { askedBy, bodyIn, headerOf, type Routes } from './context.ts';
import { deliveryIdOf, isKnownByTransfer } from './deliveryid.ts';
import { askerOf } from './forwarded.ts';
import { keptHeaders } from './keptheaders.ts';
import { queryText } from './query.ts';
import { openRateLimit } from './ratelimit.ts';
import { type Addressed, addressed, admit, notKnown, resolved } from './senders.ts';
import { sameSecret } from './signatures/compare.ts';
import { type Claim, openStrangers, peerOf } from './strangers.ts';

interface Named {
  Params: { agentId: string };
}

const url = '/api/webhook/:agentId';

/** A few bytes can be many when their Content-Encoding is undone. */
const decodedAtOnce = 2;

/** The door for services outside. They authenticate here, in their own ways, and not as the other routes' callers. */
export function webhookRoutes(routes: Routes): void {
  const { app, webhooks, mailboxes, now, proxies } = routes;
  const rates = openRateLimit(now);
  const decoding = slots(decodedAtOnce);
  const strangers = openStrangers(now);
  const room = openBodyRoom(routes.webhookBytes);

  app.post<Named>(
    url,
    {
      config: { open: true },
      // An empty one says no more than none.
      onRequest: async ({ headers }) => {
        if (headers['content-type'] === '') delete headers['content-type'];
      },
    },
    async (request, reply) => {
      const to = await addressed(request, mailboxes);
      const { agentId, name, source, mailbox } = to;
      // What a stranger wrote into the URL may be its key, put into the wrong place.
      if (mailbox !== undefined) request.facts = { agent: agentId };
      if (source !== undefined) request.facts = { agent: agentId, source: name };
      const claim = claimOf(request, to, proxies);
      const limit = source?.maxBytes ?? maxWebhookBytes;
      const tooLong = `The body exceeds the limit of ${limit} bytes.`;
      const length = headerOf(request, 'content-length');
      // Said to anybody, so that it does not tell which sources there are.
      refuseLength(length, Math.max(limit, maxWebhookBytes), tooLong);
      const sender = await admit(request, to, routes).catch((error: unknown) => {
        throw strangers.failed(claim, error);
      });
      // Where anybody is let in nobody has proved anything.
      const open = source?.verify === 'none';
      const letIn = () => {
        if (!open) strangers.proved(claim.peer);
        rates.take(`${agentId} ${name ?? ''}`, source?.perMinute ?? 0);
      };
      if (sender.known) {
        checkSourceName(name);
        letIn();
      }
      refuseLength(length, limit, tooLong);
      if (!sender.known && Number(length) > smallBytes) strangers.refuseLong(claim.peer);
      const place = room.enter(sender.known && !open ? undefined : claim);
      let mine = 0;
      try {
        const body = await bodyIn(request).read(limit, tooLong, (bytes) => {
          mine += bytes;
          if (!sender.known && mine > smallBytes) strangers.refuseLong(claim.peer);
          place.took(bytes);
        });
        if (!sender.known) {
          try {
            sender.check(body);
          } catch (error) {
            throw strangers.failed(claim, error);
          }
          place.proved();
          letIn();
        }
        return await take(request, reply, { ...to, name: checkSourceName(name), body });
      } finally {
        place.leave();
      }
    },
  );

  async function take(
    request: FastifyRequest,
    reply: FastifyReply,
    { agentId, name, mailbox, source, body }: Taken,
  ): Promise<FastifyReply> {
    request.facts = { ...request.facts, agent: agentId, source: name };
    const validationToken = queryText(request, 'validationToken');
    const challenge = challengeIn({ source, name, validationToken, body });
    if (challenge !== undefined) return answerChallenge(reply, challenge);
    const { headers } = request;
    const contentType = headerOf(request, 'content-type') ?? '';
    const encoding = headerOf(request, 'content-encoding');
    const check = () => checkPayload(contentType, encoding, body);
    const decoded = await (encoding === undefined ? check() : decoding(check));
    const kept = keptHeaders(headers, source?.hmac === undefined ? [] : [source.hmac.header]);
    const coding = kept['content-encoding'];
    const readIds = async () => {
      const read = await payloadOf(contentType, coding, body, { checked: coding === encoding });
      return read.encoding === undefined ? idsIn(read.payloadText) : undefined;
    };
    const delivery = deliveryIdOf(source, name, headers, body, contentType);
    const ids = isKnownByTransfer(source, name)
      ? await (coding === undefined ? readIds() : decoding(readIds))
      : delivery === undefined
        ? undefined
        : { delivery };
    const delivered = webhooks.receive({
      agent: agentId,
      source: name,
      contentType,
      headers: kept,
      body,
      // Who reads it again knows only what was kept.
      ...(coding === encoding ? { decoded } : {}),
      ...ids,
      ...(mailbox === undefined ? {} : { most: { items: mailbox.maxItems, bytes: mailbox.maxBytes } }),
    });
    const { status, id } = await delivered.catch((error: unknown) => {
      throw forSender(error);
    });
    request.facts = { ...request.facts, item: id };
    return reply.code(status === 'accepted' ? 202 : 200).send({ status, id });
  }

  // Meta asks once whether the URL is wanted, and proves itself by the token that its owner chose.
  app.get<Named>(url, { config: { open: true } }, async (request, reply) => {
    const known = await routes.keys();
    if (known.length === 0) refuseOutsiders(askedBy(request));
    if (queryText(request, 'hub.mode') === undefined)
      return reply.code(405).header('allow', 'POST').send({ error: 'This path takes POST, not GET.' });
    const to = await addressed(request, mailboxes);
    const stranger = () => strangers.failed(claimOf(request, to, proxies), notKnown());
    const token = queryText(request, 'hub.verify_token');
    const verifyToken = to.source?.verifyToken;
    if (verifyToken === undefined || token === undefined) throw stranger();
    const { found, missing } = await resolved([verifyToken], routes.secretOf);
    if (missing !== undefined) throw missing;
    if (!found.some((secret) => sameSecret(secret, Buffer.from(token)))) throw stranger();
    if (queryText(request, 'hub.mode') !== 'subscribe')
      throw new NexusError('invalid', 'Of hub.mode only subscribe is known here.');
    return answerChallenge(reply, bounded(queryText(request, 'hub.challenge') ?? ''));
  });
}

function claimOf({ socket, headers }: FastifyRequest, to: Addressed, proxies: number): Claim {
  const { agentId, name = '' } = to;
  const asker = askerOf(socket.remoteAddress, headers['x-forwarded-for'], proxies);
  return { name: `${agentId} ${name}`, peer: peerOf(asker) };
}

/** What is wrong with the store, its paths among it, is for the operator, who finds it in the log. */
function forSender(error: unknown): unknown {
  if (!(error instanceof NexusError) || error.code === 'too_large') return error;
  return new NexusError('unavailable', 'This endpoint cannot keep the webhook now: send it again later.', {
    cause: error,
    ...(error.retryAfter === undefined ? {} : { retryAfter: error.retryAfter }),
  });
}

interface Taken extends Omit<Addressed, 'name'> {
  name: string;
  body: Buffer;
}

/** As text and nothing else: it is whatever the asker wrote. */
function answerChallenge(reply: FastifyReply, challenge: string): FastifyReply {
  return reply
    .type('text/plain; charset=utf-8')
    .header('content-security-policy', "default-src 'none'; sandbox")
    .send(challenge);
}

/** 1 to 100 characters that a log and a listing can show. */
function checkSourceName(name: string | undefined): string {
  if (name === undefined || !/^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]{1,100}$/u.test(name))
    throw new NexusError(
      'invalid',
      'The URL must name the sender once: ?source= and at most 100 characters, none of them a control character.',
    );
  return name;
}
