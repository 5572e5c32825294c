import { NexusError } from '../errors.ts';
import type { Requester } from './request.ts';
import { whyOf } from './request.ts';

export interface Reading {
  path: string;
  /** For messages: the transcript, and the endpoint. */
  name: string;
  base: string;
  /** How often in a row a body may be cut short without a byte having come. */
  tries: number;
  signal: AbortSignal | undefined;
  from: number;
  to: number | undefined;
}

/** The bytes as they were stored when the first answer came; a body cut short is taken up where it stopped. */
export async function* readBytes(requester: Requester, reading: Reading): AsyncIterable<Uint8Array> {
  const { path, name, base, tries, signal, from } = reading;
  // No range says "no bytes, but tell whether they are there": one byte is asked for and not taken.
  const nothing = reading.to !== undefined && reading.to <= from;
  let position = from;
  let end = nothing ? from + 1 : reading.to;
  let idle = 0;
  for (;;) {
    const whole = position === 0 && end === undefined;
    const answer = await requester
      .ask({
        method: 'GET',
        path,
        headers: {
          // Compressed on the way, the lengths would be those of something else.
          'accept-encoding': 'identity',
          ...(whole ? {} : { range: `bytes=${position}-${end === undefined ? '' : end - 1}` }),
        },
        expect: whole ? [200] : [206],
      })
      .catch((error: unknown) => {
        // Bytes from the very end are none, and that is no error.
        if (error instanceof NexusError && error.code === 'range' && error.length === from) return undefined;
        throw error;
      });
    if (answer === undefined) return;
    if (nothing) {
      answer.done();
      return;
    }
    const [start, stop] = rangeIn(answer.headers, whole);
    if (start !== position || stop === undefined || (end !== undefined && stop > end)) {
      answer.done();
      throw new NexusError(
        'unavailable',
        `The endpoint ${base} answers with other bytes than were asked for.`,
      );
    }
    end = stop;
    let why = 'ended early';
    try {
      for await (const piece of answer.read()) {
        if (piece.length === 0) continue;
        position += piece.length;
        idle = 0;
        yield piece;
      }
    } catch (error) {
      signal?.throwIfAborted();
      why = whyOf(error);
    }
    if (position === end) return;
    if (position > end)
      throw new NexusError('unavailable', `The endpoint ${base} sent more bytes of ${name} than it said.`);
    idle += 1;
    if (idle >= tries)
      throw new NexusError(
        'unavailable',
        `The bytes of ${name} from ${base} were cut short ${idle} times (${why}).`,
      );
    await requester.pause(idle - 1);
  }
}

/** Which bytes an answer holds: from, and up to but not including. */
function rangeIn(headers: Headers, whole: boolean): [number | undefined, number | undefined] {
  if (whole) {
    const length = headers.get('content-length');
    return [0, length === null ? undefined : Number(length)];
  }
  const [, first, last] = /^bytes (\d+)-(\d+)\//.exec(headers.get('content-range') ?? '') ?? [];
  return [first === undefined ? undefined : Number(first), last === undefined ? undefined : Number(last) + 1];
}
