import { NexusError } from '../errors.ts';
import type { Damaged } from '../nexus.ts';
import { callerOf, type Routes } from './context.ts';
import { errorEntry } from './log.ts';
import { within } from './patience.ts';
import { streamOf } from './stream.ts';
import { damageEnd, damagePath } from './wire.ts';

/** A look may take hours: the last of so many would wait for days. */
const mostAsking = 8;

/**
 * What is damaged of the caller's agents, found by reading everything: for `backfill --verify`. A JSON object a line, as
 * it is found, empty lines as signs of life, and a last line without which the answer was cut short. One look at a
 * time, and none for who has gone: the next begins when the one before is over.
 */
export function damageRoute({ app, sessions, log }: Routes, signMs: number): void {
  let last: Promise<unknown> = Promise.resolve();
  let asking = 0;

  async function* inTurn(gone: AbortSignal): AsyncIterable<Damaged> {
    const before = last;
    const turn = Promise.withResolvers<void>();
    last = Promise.all([before, turn.promise]);
    asking++;
    try {
      await unless(gone, before);
      yield* sessions.damage(gone);
    } finally {
      asking--;
      turn.resolve();
    }
  }

  app.get(damagePath, { config: { scopes: ['upload'] } }, async (request, reply) => {
    if (asking >= mostAsking)
      throw new NexusError('busy', 'Others are looking for damage already: ask again later.', {
        retryAfter: 300,
      });
    const { agents } = callerOf(request);
    const leaving = new AbortController();
    const gone = leaving.signal;
    reply.raw.once('close', () => leaving.abort());
    if (reply.raw.destroyed) leaving.abort();
    async function* lines(): AsyncIterable<string> {
      try {
        for await (const one of inTurn(gone))
          if (agents === '*' || (one.agent !== undefined && agents.includes(one.agent)))
            yield `${JSON.stringify(one)}\n`;
        yield `${JSON.stringify(damageEnd)}\n`;
      } catch (error) {
        if (!gone.aborted) throw error;
      }
    }
    const stream = await streamOf(withSigns(lines(), signMs));
    stream.once('error', (error) =>
      log(errorEntry('warn', 'The look for damage did not come to its end.', error, request.id)),
    );
    // A proxy that waits for more would make silence of the signs.
    return reply.type('application/x-ndjson').header('x-accel-buffering', 'no').send(stream);
  });
}

/** These lines, and an empty one wherever none has come for so long. */
async function* withSigns(lines: AsyncIterable<string>, everyMs: number): AsyncIterable<Uint8Array> {
  const source = lines[Symbol.asyncIterator]();
  try {
    for (let next = source.next(); ; ) {
      const came = await within(everyMs, next);
      if (came?.done === true) return;
      yield Buffer.from(came?.value ?? '\n');
      if (came !== undefined) next = source.next();
    }
  } finally {
    await source.return?.();
  }
}

/** Rejects with the signal's reason as soon as that is given. */
async function unless(signal: AbortSignal, work: Promise<unknown>): Promise<void> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<void>();
  const stop = () => reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
