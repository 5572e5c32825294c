import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseBody } from '../src/http/body.ts';
import { isJson } from '../src/jsontext.ts';

/** As if it were too long to be made into values. */
const isLongOne = (text: string) => isJson(text, -1);

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const pieces = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\',
  '\\u',
  '00e9',
  'true',
  'null',
  'fals',
  '"a"',
  '"a":',
  ' ',
].concat([
  '\t',
  '\n',
  '\u00a0',
  '\ufeff',
  '-',
  '0',
  '01',
  '1',
  '.',
  '.5',
  'e',
  'E+1',
  '1e5',
  '1e400',
  '\u0000',
  '"\\ud800"',
]);

test('a long text is JSON where JSON.parse says so', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 8 }), (some) => {
      const text = some.join('');
      expect(isLongOne(text), text).toBe(parses(text));
    }),
    { numRuns: 5000 },
  );
});

test('any JSON is JSON when it is long', () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: 'binary' }), fc.nat(), (text, at) => {
      expect(isLongOne(text)).toBe(true);
      const cut = text.slice(0, at % (text.length + 1)) + text.slice((at % (text.length + 1)) + 1);
      expect(isLongOne(cut)).toBe(parses(cut));
    }),
    { numRuns: 300 },
  );
});

test.each([
  ['deep lists', '['.repeat(5_000_000) + ']'.repeat(5_000_000)],
  ['many lists', `[${'[],'.repeat(3_000_000)}[]]`],
])('%s cost no more than their bytes', (_, text) => {
  const before = process.memoryUsage().heapUsed;
  expect(isJson(text)).toBe(true);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(50 * 1024 * 1024);
});

test('of a long body the fields that are text are read, the last of a name, and nothing else', () => {
  const body = JSON.stringify({ a: 'one', b: ['x'.repeat(2 * 1024 * 1024)], c: 'zwei é' }).replace(
    '}',
    ',"a":"two"}',
  );
  expect(parseBody(Buffer.from(body))).toEqual({ a: 'two', c: 'zwei é' });
  expect(() => parseBody(Buffer.from(`${body}}`))).toThrow('Invalid JSON');
  expect(parseBody(Buffer.from(`[1]${' '.repeat(2 ** 20)}`))).toEqual({});
});
