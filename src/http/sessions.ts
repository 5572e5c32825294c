import * as z from 'zod';
import { checkAgentId } from '../agents.ts';
import { failedWith, NexusError } from '../errors.ts';
import { type Card, type ListOptions, maxChunkBytes } from '../nexus.ts';
import { parseBody, refuseLength, requireType } from './body.ts';
import { bodyIn, callerOf, headerOf, type Routes } from './context.ts';
import { answerError } from './failures.ts';
import { readQuery } from './query.ts';
import { brokenField } from './mailboxwire.ts';
import { cursorOf, headers, type Position, readCursor } from './wire.ts';

const tooLong = 'Transcript exceeds 10 MB limit';
/** JSON may write every byte of a transcript as `\u00xx`; the rest is for the envelope. */
const maxPostBytes = 6 * maxChunkBytes + 64 * 1024;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

const text = z.string().min(1);
const postSchema = z.object({ agentId: text, sessionId: text, transcript: text });

const mostCards = 1000;
const listSchema = z.object({
  agentId: z.string().optional(),
  since: z.iso.datetime({ offset: true }).optional(),
  cursor: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(mostCards).default(100),
});

/** POST of a whole transcript, and the listing of what is stored. */
export function sessionRoutes({ app, sessions, now }: Routes): void {
  app.post('/api/sessions', { config: { scopes: ['upload'] } }, async (request, reply) => {
    requireType(headerOf(request, 'content-type'), 'application/json');
    refuseLength(headerOf(request, 'content-length'), maxPostBytes, tooLong);
    const read = postSchema.safeParse(parseBody(await bodyIn(request).read(maxPostBytes, tooLong)));
    if (!read.success)
      throw new NexusError('invalid', 'Missing required fields: agentId, sessionId, transcript');
    const { agentId, sessionId, transcript } = read.data;
    callerOf(request).require(['upload'], checkAgentId(agentId));
    if (!uuid.test(sessionId)) throw new NexusError('invalid', 'Invalid sessionId format — expected UUID');
    if (!transcript.isWellFormed())
      throw new NexusError(
        'invalid',
        'The transcript holds an unpaired surrogate, which no bytes stand for.',
      );
    const bytes = Buffer.from(transcript, 'utf8');
    if (bytes.length > maxChunkBytes) throw new NexusError('too_large', tooLong);
    const exists = new NexusError('conflict', 'Session already exists');
    // An empty transcript can be there, shipped by a host: it exists, though the append would be taken.
    if ((await sessions.stat(agentId, sessionId)) !== undefined)
      return answerError(reply, exists, { sessionId });
    try {
      await sessions.append(agentId, sessionId, 0, bytes, { complete: true, about: {} });
    } catch (error) {
      if (failedWith(error, 'conflict')) return answerError(reply, exists, { sessionId });
      throw error;
    }
    return {
      status: 'ok',
      sessionId,
      path: `inbox/${agentId}/${sessionId}.jsonl`,
      bytes: bytes.length,
      stored: now().toISOString(),
    };
  });

  app.get('/api/sessions', { config: { scopes: ['read', 'upload'] } }, async (request, reply) => {
    const { agentId, cursor, limit, since } = readQuery(listSchema, request);
    const caller = callerOf(request);
    if (agentId !== undefined) caller.require(['read', 'upload'], checkAgentId(agentId));
    const broken = new Map<string, { id: string; reason: string }>();
    const listing = cards(agentId ?? caller.agents, {
      damaged({ item, reason }) {
        broken.set(item, { id: item, reason });
        reply.header(headers.broken, brokenField([...broken.values()]));
      },
      ...(since === undefined ? {} : { since: new Date(since).toISOString() }),
      ...(cursor === undefined ? {} : { after: readCursor(cursor) }),
    });
    const page: Card[] = [];
    let next: string | null = null;
    for await (const card of listing) {
      if (page.length === limit) {
        const last = page.at(-1);
        next = last === undefined ? null : cursorOf(last);
        break;
      }
      page.push(card);
    }
    return { sessions: page, next };
  });

  /** In the listing's order, of one agent, of some, or of all. */
  async function* cards(agents: string | readonly string[], options: ListOptions): AsyncIterable<Card> {
    if (agents === '*') yield* sessions.list(options);
    else
      for (const agent of [agents].flat().sort())
        if (!isBefore(agent, options.after)) yield* sessions.list({ ...options, agent });
  }
}

function isBefore(agent: string, after: Position | undefined): boolean {
  return after !== undefined && agent < after.agent;
}
