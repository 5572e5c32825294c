import * as fc from 'fast-check';

/** A history of a session, as a text and the places where it is cut. */
export interface History {
  agent: string;
  transcript: string;
  text: string;
  cuts: { at: number; complete: boolean }[];
  complete: boolean;
}

const times = ['2026-11-20T23:50:00.000Z', '2026-11-21T00:10:00.000Z', '2026-11-21T00:10:01.000Z'];

const call = fc
  .record({
    id: fc.constantFrom('a', 'b', 'c', 'd'),
    time: fc.constantFrom(...times),
    model: fc.constantFrom('m1', 'm2'),
    tokens: fc.constantFrom([10, 1, 0, 0], [0, 0, 5, 7], [0, 0, 0, 0]),
    cost: fc.constantFrom(undefined, 0, 0.25, 0.000000001, 0.5),
  })
  .map(({ id, time, model, tokens: [input, output, cacheRead, cacheWrite], cost }) =>
    JSON.stringify({
      type: 'message',
      id,
      parentId: null,
      timestamp: time,
      message: {
        role: 'assistant',
        content: [{ type: 'text', text: 'ä "usage":{"input":9}' }],
        provider: 'p',
        model,
        usage: {
          input,
          output,
          cacheRead,
          cacheWrite,
          ...(cost === undefined ? {} : { cost: { total: cost } }),
        },
      },
    }),
  );

const other = fc.constantFrom(
  '{"type":"message","id":"u1","parentId":null,"timestamp":"2026-11-20T22:00:00.000Z","message":{"role":"user","content":"hello"}}',
  '{"type":"message","id":"t1","parentId":null,"timestamp":"2026-11-20T22:00:00.000Z","message":{"role":"toolResult","details":{"usage":{"input":5}},"content":[{"type":"message","message":{"role":"assistant","usage":{"input":5,"output":5}}}]}}',
  '{"type":"custom","customType":"x","data":{"usage":{"input":3}},"id":"c1","timestamp":"2026-11-20T21:00:00.000Z"}',
  'no json',
  '',
  '{"type":"message","id":"t2","parentId":null,"timestamp":"2026-11-20T22:00:00.000Z","message":{"role":"toolResult","content":"torn{"type":"message","id":"x","usage":{}}}',
  '{"type":"message","message":{"role":"assistant","provider":"p","model":"m1","usage":{"input":4}}}',
);

const header = fc.option(fc.constantFrom(...times, '2026-11-19T00:00:00.000Z'), { nil: undefined });

const history = fc
  .record({
    agent: fc.constantFrom('one', 'two'),
    session: fc.constantFrom('s1', 's2', 's3'),
    nth: fc.constantFrom('', '~2', '~10'),
    header,
    lines: fc.array(fc.oneof({ weight: 3, arbitrary: call }, { weight: 1, arbitrary: other }), {
      maxLength: 6,
    }),
    ended: fc.boolean(),
    complete: fc.boolean(),
    cuts: fc.array(fc.record({ at: fc.nat(), complete: fc.boolean() }), { maxLength: 3 }),
  })
  .map(({ agent, session, nth, header: time, lines, ended, complete, cuts }): History => {
    const head = time === undefined ? [] : [JSON.stringify({ type: 'session', version: 3, timestamp: time })];
    const text = [...head, ...lines].join('\n') + (ended ? '\n' : '');
    const length = Buffer.byteLength(text);
    return {
      agent,
      transcript: session + nth,
      text,
      complete,
      cuts: cuts.map((cut) => ({ ...cut, at: cut.at % (length + 1) })).sort((a, b) => a.at - b.at),
    };
  });

export const histories = fc.uniqueArray(history, {
  selector: ({ agent, transcript }) => `${agent}/${transcript}`,
  maxLength: 7,
});

/** One piece of a history to append. */
export interface Piece {
  agent: string;
  transcript: string;
  offset: number;
  bytes: Buffer;
  complete: boolean;
}

/** Their pieces, in an order that `choose` picks: each history's own pieces keep theirs. */
export function interleaved(given: readonly History[], choose: (among: number) => number): Piece[] {
  const queues = given.map(({ agent, transcript, text, cuts, complete }) => {
    const bytes = Buffer.from(text);
    const ends = [...cuts, { at: bytes.length, complete }];
    return ends.map((end, nth) => {
      const offset = ends[nth - 1]?.at ?? 0;
      return { agent, transcript, offset, bytes: bytes.subarray(offset, end.at), complete: end.complete };
    });
  });
  const pieces: Piece[] = [];
  for (let left = queues.filter((queue) => queue.length > 0); left.length > 0; ) {
    const piece = left[choose(left.length)]?.shift();
    if (piece !== undefined) pieces.push(piece);
    left = left.filter((queue) => queue.length > 0);
  }
  return pieces;
}
