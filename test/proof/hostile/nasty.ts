import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';

function corpus(name: string): string[] {
  const file = path.resolve(import.meta.dirname, '..', 'corpus', `${name}.json`);
  const list: string[] = JSON.parse(readFileSync(file, 'utf8'));
  return list;
}

/** What has broken programs before, by hand; the generators below go on from there. */
export const nastyText = corpus('text');
export const nastyJson = corpus('json');
export const nastyLines = corpus('lines');
export const nastyNames = corpus('names');
export const nastyBytes = corpus('bytes').map((text) => Buffer.from(text, 'base64'));

export const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...nastyText) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
  { weight: 1, arbitrary: fc.string({ maxLength: 40 }) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...nastyText), fc.nat(400)).map(([one, n]) => one.repeat(n)),
  },
  { weight: 1, arbitrary: fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String) },
);

export const bytes = fc.oneof(
  fc.constantFrom(...nastyBytes),
  fc.uint8Array({ maxLength: 200 }).map((one) => Buffer.from(one)),
  text.map((one) => Buffer.from(one)),
);

/** Any JSON, and none. As text, since no value stands for `1e400` or a name that comes twice. */
export const json = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...nastyJson) },
  {
    weight: 3,
    arbitrary: fc.jsonValue({ stringUnit: 'binary', maxDepth: 4 }).map((one) => JSON.stringify(one)),
  },
  { weight: 1, arbitrary: fc.nat(3).map((n) => nested(10 ** n * 7)) },
);

/** A value that was meant to be another: any type, deep, polluting, long. */
export const value: fc.Arbitrary<unknown> = fc.oneof(
  text,
  json.map(parsed),
  fc.constantFrom(null, true, false, 0, -1, 1.5, 1e308, 2 ** 53, [], {}, [[[]]], 'a'.repeat(70_000)),
);

export function nested(depth: number): string {
  return depth % 2 === 0
    ? `${'['.repeat(depth)}${']'.repeat(depth)}`
    : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
}

/** Few bytes that become many. */
export function bomb(coding: 'gzip' | 'zstd', megabytes: number): Buffer {
  const plain = Buffer.alloc(megabytes * 1024 * 1024, 'a');
  return coding === 'gzip' ? gzipSync(plain, { level: 9 }) : zstdCompressSync(plain);
}

/** A JSON value with one place in it changed, and sometimes a name too many. */
export function changed(base: unknown): fc.Arbitrary<string> {
  const places = placesIn(base);
  return fc
    .tuple(
      fc.nat(Math.max(0, places.length - 1)),
      value,
      fc.constantFrom('replace', 'remove', 'add', 'twice'),
    )
    .map(([nth, other, how]) => {
      const place = places[nth] ?? [];
      if (how === 'twice') return twice(base, JSON.stringify(other) ?? 'null');
      return JSON.stringify(at(base, place, other, how)) ?? 'null';
    });
}

function twice(base: unknown, other: string): string {
  const plain = JSON.stringify(base);
  const [name = 'a'] = Object.keys(isObject(base) ? base : {});
  return plain.startsWith('{')
    ? `${plain.slice(0, -1)},${JSON.stringify(name)}:${other},"__proto__":${other}}`
    : plain;
}

function placesIn(base: unknown, before: string[] = []): string[][] {
  if (typeof base !== 'object' || base === null) return [before];
  return [before, ...Object.entries(base).flatMap(([name, below]) => placesIn(below, [...before, name]))];
}

function at(base: unknown, [name, ...rest]: string[], other: unknown, how: string): unknown {
  if (name === undefined) return how === 'add' && isObject(base) ? { ...base, '': other } : other;
  if (Array.isArray(base))
    return base.map((one, nth) => (String(nth) === name ? at(one, rest, other, how) : one));
  if (!isObject(base)) return other;
  const entries = Object.entries(base).flatMap(([key, below]): [string, unknown][] =>
    key !== name
      ? [[key, below]]
      : how === 'remove' && rest.length === 0
        ? []
        : [[key, at(below, rest, other, how)]],
  );
  return Object.fromEntries(entries);
}

function isObject(base: unknown): base is Record<string, unknown> {
  return typeof base === 'object' && base !== null && !Array.isArray(base);
}

function parsed(one: string): unknown {
  // What is deeper cannot be written again.
  if (one.length > 4000) return one;
  try {
    const made: unknown = JSON.parse(one);
    return made;
  } catch {
    // Not JSON: then the text itself is the value.
    return one;
  }
}
