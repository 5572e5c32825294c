import * as z from 'zod';
import { NexusError } from '../errors.ts';
import type { Damaged } from '../nexus.ts';
import { type Connection, notNexus } from './connection.ts';
import { whyOf } from './request.ts';
import { damageEnd, damagePath, parseJson } from './wire.ts';

const lineSchema = z.union([
  z.object({ item: z.string(), reason: z.string(), agent: z.string().exactOptional() }),
  z.object({ end: z.literal(damageEnd.end) }),
]);

/** What is damaged, as an endpoint finds it. A look that was cut short begins anew, and tells nothing twice. */
export async function* damageAt(
  { endpoint, requester, retries }: Connection,
  signal: AbortSignal | undefined,
): AsyncIterable<Damaged> {
  const told = new Set<string>();
  for (let n = 1; ; n++) {
    const answer = await requester.ask({
      method: 'GET',
      path: damagePath,
      expect: [200],
      ...(signal === undefined ? {} : { signal }),
    });
    let why = 'ended early';
    try {
      for await (const line of linesOf(answer.read())) {
        const said = lineSchema.safeParse(parseJson(line));
        if (!said.success) throw notNexus(endpoint.base, answer);
        if ('end' in said.data) return;
        if (!told.has(line)) yield said.data;
        told.add(line);
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof NexusError) throw error;
      why = whyOf(error);
    }
    if (n >= retries.tries)
      throw new NexusError(
        'unavailable',
        `The look for damage at ${endpoint.base} was cut short ${n} times (${why}).`,
      );
    await requester.pause(n - 1);
  }
}

/** Those that are whole and not empty. */
async function* linesOf(pieces: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield line;
  }
}
