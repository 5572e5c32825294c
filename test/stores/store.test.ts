import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { checkKey, keyOf } from '../../src/stores/store.ts';

const anyText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({
    unit: fc.constantFrom('.', '~', 'x', '2', 'e', 'h', 'u', '/', 'é', '\ud800', 'A', 'a'),
    maxLength: 260,
  }),
);

test('every text becomes a key that a store can hold', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      expect(() => checkKey(keyOf(text))).not.toThrow();
    }),
  );
});

test('two texts never become the same key', () => {
  fc.assert(
    fc.property(anyText, anyText, (a, b) => {
      expect(keyOf(a) === keyOf(b)).toBe(a === b);
    }),
  );
});

test('texts that differ only after the longest key become two keys', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 150, maxLength: 300 }), fc.string(), fc.string(), (head, a, b) => {
      fc.pre(a !== b);
      expect(keyOf(head + a)).not.toBe(keyOf(head + b));
    }),
  );
});

test('no key looks like the later history of another', () => {
  fc.assert(
    fc.property(anyText, fc.nat(), (text, n) => {
      expect(keyOf(`${text}~${n}`)).not.toMatch(/~\d+$/);
    }),
  );
});

test('a text that is a key of letters, digits and dashes stays as it is', () => {
  expect(keyOf('5f0e4a52-1b7c-4b43-9c55-8a4b1a2f7c11')).toBe('5f0e4a52-1b7c-4b43-9c55-8a4b1a2f7c11');
  expect(keyOf('')).toBe('~e');
  expect(keyOf('..')).toBe('~x2e~x2e');
});
