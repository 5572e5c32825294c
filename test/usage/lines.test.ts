import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Lines, longestLine, readLines } from '../../src/usagelines.ts';
import { type Call, callOf, type Oddity, timeOf } from '../../src/usagerecord.ts';

const usage = { input: 10, output: 2, cacheRead: 3, cacheWrite: 4 };
const time = '2026-11-20T10:00:00.000Z';

function assistant(message: object = {}, record: object = {}): string {
  const said = { role: 'assistant', content: [], provider: 'p', model: 'm', usage, ...message };
  return JSON.stringify({
    type: 'message',
    id: 'a',
    parentId: null,
    timestamp: time,
    message: said,
    ...record,
  });
}

function read(text: string, size = text.length + 1): Lines {
  const lines = readLines({ lines: 0, asked: false });
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) lines.read(bytes.subarray(at, at + size));
  return lines.take();
}

const kinds = (lines: Lines) => Object.fromEntries(lines.odd);

describe('of a transcript', () => {
  test('the same is read in whatever pieces it comes', () => {
    const line = fc.oneof(
      fc.constant(assistant()),
      fc.constant(assistant({ content: [{ type: 'text', text: '"usage":{"input":7} ä\n' }] })),
      fc.constant(
        '{"type":"message","id":"u","parentId":"a","timestamp":"2026-11-20T09:00:00Z","message":{"role":"user","content":"hi"}}',
      ),
      fc
        .constantFrom('-20T09:00:00.000Z', '-99T09:00:00.000Z', '-21T09:00:00.000Z', '-2x')
        .map(
          (said) =>
            `{"type":"message","id":"u","parentId":"a","timestamp":"2026-11${said}","message":{"role":"toolResult","content":"x"}}`,
        ),
      fc.constant('{"type":"session","id":"s","timestamp":"2026-11-19T09:00:00Z"}'),
      fc.constant('{"type":"model_change","id":"x","timestamp":"2026-11-18T09:00:00Z"}'),
      fc.constant(''),
      fc.constant('{'),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), fc.integer({ min: 1, max: 400 }), (lines, size) => {
        const text = lines.join('\n');
        expect(read(text, size)).toEqual(read(text));
      }),
      { numRuns: 500 },
    );
  });

  test('no usage is found but that of an assistant’s own message', () => {
    const nested = { usage: { input: 99, output: 99 }, message: { role: 'assistant', usage } };
    const text = [
      JSON.stringify({
        type: 'message',
        id: 't',
        parentId: null,
        timestamp: time,
        message: { role: 'toolResult', details: nested },
      }),
      JSON.stringify({ type: 'custom', data: nested, id: 'c', timestamp: time }),
      JSON.stringify({
        type: 'message',
        id: 'u',
        parentId: null,
        timestamp: time,
        message: { role: 'user', usage },
      }),
      assistant({ content: [{ type: 'toolCall', arguments: nested }], usage: undefined }),
      assistant({ content: [{ type: 'toolCall', arguments: nested }] }),
      JSON.stringify({ ...nested, type: 'message' }),
      '',
    ].join('\n');
    const lines = read(text);
    expect(lines.calls.map(({ input }) => input)).toEqual([10]);
    expect(kinds(lines)).toEqual({ no_usage: { count: 1, line: 4 }, no_timestamp: { count: 1, line: 6 } });
  });

  test('a message is read whatever the order of its keys', () => {
    const { type, id, timestamp, message } = JSON.parse(assistant());
    const text = [
      JSON.stringify({ message, timestamp, id, type }),
      JSON.stringify({ type, timestamp, id, message }),
      JSON.stringify({ type, id, parentId: 'x', timestamp, extra: 1, message }),
      ` ${JSON.stringify({ type, id, parentId: null, timestamp, message: { content: 'x', ...message } })} \r`,
      '',
    ].join('\n');
    expect(read(text).calls).toHaveLength(4);
  });

  test('a line that was torn and continued by the next is counted as one that cannot be parsed', () => {
    const torn =
      '{"type":"message","id":"u","parentId":null,"timestamp":"2026-11-20T09:00:00Z","message":{"role":"toolResult","content":"ab';
    const lines = read(`${torn}${assistant()}\n${torn}\n${assistant()}\n`);
    expect(lines.calls).toHaveLength(1);
    expect(kinds(lines)).toEqual({ unparsable: { count: 2, line: 1 } });
  });

  test('the last line waits for its newline, or for the word that it is the last', () => {
    const lines = readLines({ lines: 0, asked: false });
    lines.read(Buffer.from(`${assistant()}\n${assistant()}`));
    expect(lines.waiting()).toBe(Buffer.byteLength(assistant()));
    const first = lines.take();
    expect([first.calls.length, first.bytes, first.lines]).toEqual([1, assistant().length + 1, 1]);
    lines.end();
    const second = lines.take();
    expect([second.calls.length, second.bytes, second.lines]).toEqual([1, assistant().length, 1]);
  });

  test('times are the header’s, and of the first and last message', () => {
    const text = [
      '{"type":"session","id":"s","timestamp":"2026-11-19T09:00:00Z"}',
      '{"type":"message","id":"u","parentId":null,"timestamp":"2026-11-20T09:00:00Z","message":{"role":"user","content":"hi"}}',
      assistant(),
      '{"type":"message","id":"u","parentId":null,"timestamp":"2026-11-21T09:00:00Z","message":{"role":"toolResult","content":"x"}}',
      '',
    ].join('\n');
    const at = (said: string) => Date.parse(said);
    const before = text.split('\n').toReversed().join('\n');
    expect(read(`${before}\n`).lastAt).toBe(at('2026-11-21T09:00:00Z'));
    expect(read(text)).toMatchObject({
      headerAt: at('2026-11-19T09:00:00Z'),
      firstAt: at('2026-11-19T09:00:00Z'),
      lastAt: at('2026-11-21T09:00:00Z'),
      asked: 'hi',
    });
  });
});

test('a line that is too long is not held, and told', () => {
  const lines = readLines({ lines: 0, asked: false });
  const piece = Buffer.alloc(1024 * 1024, 'x');
  for (let held = 0; held <= longestLine; held += piece.length) lines.read(piece);
  lines.read(Buffer.from(`\n${assistant()}\n`));
  const taken = lines.take();
  expect([kinds(taken), taken.calls.length, taken.lines]).toEqual([
    { too_long: { count: 1, line: 1 } },
    1,
    2,
  ]);
  expect(longestLine).toBeLessThanOrEqual(16 * 1024 * 1024);
});

test('a time is the same wherever it is read, quickly or not', () => {
  const zone = process.env['TZ'];
  process.env['TZ'] = 'America/New_York';
  try {
    const at = Date.UTC(2026, 10, 20, 10);
    for (const said of ['2026-11-20T10:00:00', '2026-11-20 10:00', '2026-11-20T11:00:00+01:00', at])
      expect(timeOf(said)).toBe(at);
  } finally {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  }
  const part = (max: number, digits = 2) => fc.nat(max).map((n) => String(n).padStart(digits, '0'));
  fc.assert(
    fc.property(
      fc.tuple(
        part(110, 4).map((said) => String(1990 + Number(said))),
        part(13),
        part(32),
        part(25),
        part(61),
        part(61),
        part(999, 3),
      ),
      fc.constantFrom('', ' ', 'x'),
      ([year, month, day, hour, minute, second, rest], odd) => {
        const said = `${year}-${month}-${day}T${hour}:${minute}:${second}.${odd === '' ? rest : `${odd}${rest.slice(1)}`}Z`;
        const line = `{"type":"message","id":"u","parentId":null,"timestamp":"${said}","message":{"role":"toolResult","content":"x"}}\n`;
        expect(read(line).lastAt).toBe(timeOf(said));
      },
    ),
    { numRuns: 2000 },
  );
});

describe('of a message', () => {
  function call(message: object, record: object = {}): { call: Call | undefined; odd: Oddity[] } {
    const odd: Oddity[] = [];
    return { call: callOf(JSON.parse(assistant(message, record)), (kind) => odd.push(kind)), odd };
  }

  test.each([
    [{ inputTokens: 1, outputTokens: 2, cacheReadTokens: 3, cacheWriteTokens: 4 }],
    [{ input_tokens: 1, output_tokens: 2, cache_read_input_tokens: 3, cache_creation_input_tokens: 4 }],
    [{ promptTokens: 1, completionTokens: 2, cached_tokens: 3, cache_write: 4 }],
    [{ prompt_tokens: 4, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 3 }, cacheWrite: 4 }],
  ])('the token counts %j are understood', (given) => {
    expect(call({ usage: given }).call).toMatchObject({ input: 1, output: 2, cacheRead: 3, cacheWrite: 4 });
  });

  test('what OpenClaw writes in the place of an answer is no call', () => {
    for (const message of [
      { provider: 'openclaw', model: 'delivery-mirror' },
      { provider: 'openclaw', model: 'gateway-injected', usage: undefined },
      { api: 'openclaw-transcript' },
    ])
      expect(call(message)).toEqual({ call: undefined, odd: [] });
    expect(call({ provider: 'openclaw', model: 'other' }).call).toBeDefined();
  });

  test('a call that used nothing is none, without being odd', () => {
    expect(call({ usage: { input: 0, output: 0, cost: { total: 0 } } })).toEqual({
      call: undefined,
      odd: [],
    });
    expect(call({ usage: { input: 0, output: 0, cost: { total: 0.5 } } }).call?.cost).toBe(5e8);
  });

  test('what is negative, no whole number or beyond belief is zero, and told', () => {
    for (const wrong of [-1, 1.5, '7', Number.MAX_VALUE, 1e10 + 1])
      expect(call({ usage: { ...usage, input: wrong } })).toMatchObject({
        call: { input: 0, output: 2 },
        odd: ['bad_count'],
      });
    expect(call({ usage: { ...usage, cost: { total: -1 } } })).toMatchObject({
      call: { cost: undefined },
      odd: ['bad_count'],
    });
  });

  test('without token counts or a time it is not counted, and told', () => {
    for (const wrong of [undefined, null, {}, { totalTokens: 5 }, 'x'])
      expect(call({ usage: wrong })).toEqual({ call: undefined, odd: ['no_usage'] });
    for (const wrong of [undefined, 'yesterday', Number.NaN, -5, 1e17])
      expect(call({}, { timestamp: wrong })).toEqual({ call: undefined, odd: ['no_timestamp'] });
  });

  test('the record’s time counts, else the message’s', () => {
    const at = Date.UTC(2026, 0, 1);
    expect(call({ timestamp: at }).call?.at).toBe(Date.parse(time));
    expect(call({ timestamp: at }, { timestamp: undefined }).call?.at).toBe(at);
  });

  test('the cost is the total, else the sum of its parts', () => {
    expect(call({ usage: { ...usage, cost: { input: 1, total: 0.1 + 0.2 } } }).call?.cost).toBe(300_000_000);
    expect(call({ usage: { ...usage, cost: { input: 0.1, output: 0.2 } } }).call?.cost).toBe(300_000_000);
    expect(call({ usage }).call?.cost).toBeUndefined();
  });
});
