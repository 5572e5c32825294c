import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { rangeOf } from '../../src/http/range.ts';
import {
  cursorOf,
  digestField,
  digestFieldOf,
  headerJson,
  readAbout,
  readCursor,
  readDigestField,
} from '../../src/http/wire.ts';

test('JSON in a header is printable ASCII and means what it meant', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = headerJson(value);
      expect(text).toMatch(/^[\x20-\x7e]*$/);
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('a digest field says the digest that it was made of', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const hex = createHash('sha256').update(bytes).digest('hex');
      expect(readDigestField(digestFieldOf(bytes))).toBe(hex);
      expect(readDigestField(`sha-512=:AAAA:, ${digestField(hex)}`)).toBe(hex);
    }),
  );
});

test.each(['sha-256', 'sha-256=', 'sha-256=::', 'sha-256=:AAAA:', `sha-256=:${'A'.repeat(43)}=`])(
  'the digest field %j is invalid',
  (field) => {
    expect(() => readDigestField(field)).toThrow(/Invalid digest/);
  },
);

test('a cursor says the place that it was made of', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (agent, transcript) => {
      expect(readCursor(cursorOf({ agent, transcript }))).toEqual({ agent, transcript });
    }),
  );
});

test('no header is nothing said about a transcript', () => {
  expect(readAbout(undefined)).toEqual({});
  expect(readAbout('{}')).toEqual({});
});

test('a field of the metadata that is wrong is named', () => {
  expect(() => readAbout('{"era":"stone"}')).toThrow(/field era/);
  expect(() => readAbout('[]')).toThrow(/Invalid Nexus-About/);
});

test('a range is inside the bytes, whatever is asked, or beyond them', () => {
  const number = fc.option(fc.nat(30), { nil: '' as const });
  const made = (field: string, length: number) => {
    try {
      const range = rangeOf(field, length);
      return range === undefined
        ? 'ignored'
        : range.from < range.to && range.to <= length
          ? 'inside'
          : 'wrong';
    } catch {
      return 'beyond';
    }
  };
  fc.assert(
    fc.property(number, number, fc.nat(20), (first, last, length) => {
      const none = first === '' && last === '';
      const backwards = first !== '' && last !== '' && last < first;
      const beyond = first === '' ? last === 0 || length === 0 : first >= length;
      expect(made(`bytes=${first}-${last}`, length)).toBe(
        none || backwards ? 'ignored' : beyond ? 'beyond' : 'inside',
      );
    }),
  );
});
