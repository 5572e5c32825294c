import type { FastifyReply, FastifyRequest } from 'fastify';
import { NexusError } from '../errors.ts';
import { maxWebhookBytes } from '../mailbox.ts';
import { checkPayload } from '../payload.ts';
import { refuseOutsiders } from './auth.ts';
import { refuseLength } from './body.ts';
import { bounded, challengeIn } from './challenges.ts';
import { askedBy, bodyIn, headerOf, type Routes } from './context.ts';
import { deliveryIdOf } from './deliveryid.ts';
import { openGate } from './gate.ts';
import { keptHeaders } from './keptheaders.ts';
import { queryText } from './query.ts';
import { openRateLimit } from './ratelimit.ts';
import { addressed, admit, notKnown, resolved } from './senders.ts';
import { sameSecret } from './signatures/compare.ts';

interface Named {
  Params: { agentId: string };
}

const url = '/api/webhook/:agentId';

/** A body up to here is read however many others are under way. */
const smallBytes = 64 * 1024;
/** A few bytes can be many when their Content-Encoding is undone. */
const decodedAtOnce = 2;

/** The door for services outside. They authenticate here, in their own ways, and not as the other routes' callers. */
export function webhookRoutes(routes: Routes): void {
  const { app, webhooks, mailboxes, now } = routes;
  const rates = openRateLimit(now);
  const decoding = openGate(decodedAtOnce);
  let held = 0;

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
      const { agentId, name, mailbox, source } = await addressed(request, mailboxes);
      const sender = await admit(request, { agentId, name, mailbox, source }, routes);
      const rate = () => rates.take(`${agentId} ${name ?? ''}`, source?.perMinute ?? 0);
      if (sender.known) {
        checkSourceName(name);
        rate();
      }
      const limit = source?.maxBytes ?? maxWebhookBytes;
      const tooLong = `The body exceeds the limit of ${limit} bytes.`;
      refuseLength(headerOf(request, 'content-length'), limit, tooLong);
      let mine = 0;
      try {
        const body = await bodyIn(request).read(limit, tooLong, (bytes) => {
          mine += bytes;
          held += bytes;
          if (held > routes.webhookBytes && mine > smallBytes)
            throw new NexusError(
              'unavailable',
              'Too many long bodies are on their way: send it again later.',
            );
        });
        if (!sender.known) {
          sender.check(body);
          rate();
        }
        return await take(request, reply, { agentId, name: checkSourceName(name), mailbox, source, body });
      } finally {
        held -= mine;
      }
    },
  );

  async function take(
    request: FastifyRequest,
    reply: FastifyReply,
    { agentId, name, mailbox, source, body }: Taken,
  ): Promise<FastifyReply> {
    request.facts = { ...request.facts, source: name };
    const validationToken = queryText(request, 'validationToken');
    const challenge = challengeIn({ source, name, validationToken, body });
    if (challenge !== undefined) return answerChallenge(reply, challenge);
    const { headers } = request;
    const contentType = headerOf(request, 'content-type') ?? '';
    const encoding = headerOf(request, 'content-encoding');
    const check = () => checkPayload(contentType, encoding, body);
    await (encoding === undefined ? check() : decoding(check));
    const delivery = deliveryIdOf(source, name, headers, body, contentType);
    const { status, id } = await webhooks.receive({
      agent: agentId,
      source: name,
      contentType,
      headers: keptHeaders(headers, source?.hmac === undefined ? [] : [source.hmac.header]),
      body,
      ...(delivery === undefined ? {} : { delivery }),
      ...(mailbox === undefined ? {} : { most: { items: mailbox.maxItems, bytes: mailbox.maxBytes } }),
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
    const { source } = await addressed(request, mailboxes);
    const token = queryText(request, 'hub.verify_token');
    if (source?.verifyToken === undefined || token === undefined) throw notKnown();
    const { found, missing } = await resolved([source.verifyToken], routes.secretOf);
    if (missing !== undefined) throw missing;
    if (!found.some((secret) => sameSecret(secret, Buffer.from(token)))) throw notKnown();
    if (queryText(request, 'hub.mode') !== 'subscribe')
      throw new NexusError('invalid', 'Of hub.mode only subscribe is known here.');
    return answerChallenge(reply, bounded(queryText(request, 'hub.challenge') ?? ''));
  });
}

interface Taken extends Omit<Awaited<ReturnType<typeof addressed>>, 'name'> {
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
