import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { elementsIn, fieldsIn, nestedDeeper, withField } from '../src/exactjson.ts';

/** Strings in which everything is that could end one too early or too late. */
const awkward = fc.string({ unit: fc.constantFrom('\\', '"', '[', '}', ',', ':', 'ü', '\n') });
const text = fc
  .tuple(
    fc.oneof(fc.jsonValue({ noUnicodeString: false }), fc.array(awkward), fc.dictionary(awkward, awkward)),
    fc.constantFrom(undefined, 1, '\t', '\r\n'),
  )
  .map(([value, space]) => JSON.stringify(value, undefined, space));

describe('a text that is put into another', () => {
  test('is in it as it was, among the other fields', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue()),
        text,
        fc.constantFrom(0, 2),
        (fields, value, indent) => {
          const { payload: _, ...rest } = fields;
          const whole = withField(rest, 'payload', value, indent);
          expect(JSON.parse(whole)).toEqual(
            JSON.parse(JSON.stringify({ ...rest, payload: JSON.parse(value) as unknown })),
          );
          expect(whole).toContain(value);
        },
      ),
    );
  });

  test('is found in it again, as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.oneof(fc.string({ unit: 'binary' }), awkward), text)), (fields) => {
        const object = `\n{ ${fields.map(([name, value]) => `${JSON.stringify(name)} :\t${value}`).join(' , ')} }`;
        const found = [...fieldsIn(object, 0)].map(({ name, start, end }) => [
          name,
          object.slice(start, end),
        ]);
        expect(found).toEqual(fields.map(([name, value]) => [JSON.parse(JSON.stringify(name)), value]));
        const array = ` [${fields.map(([, value]) => `${value} `).join(',\n')}]`;
        const elements = [...elementsIn(array, 0)].map(({ start, end }) => array.slice(start, end));
        expect(elements).toEqual(fields.map(([, value]) => value));
      }),
    );
  });
});

test.each([
  '',
  '[',
  '{',
  '{"a"',
  '{"a":',
  '{"a":1',
  '{"a":1,',
  '{"a":1,}',
  '{"a":"1}',
  '{"a":[1}',
  '{a:1}',
  '{"a" 1}',
  '[]',
  '<html>',
])('no object is found in %j', (broken) => {
  expect(() => [...fieldsIn(broken, 0)]).toThrow(SyntaxError);
});

test.each(['', '[', '[1', '[1,', '[1,]', '[1 2]', '["', '{}', '[{]'])('no array is found in %j', (broken) => {
  expect(() => [...elementsIn(broken, 0)]).toThrow(SyntaxError);
});

test('levels are counted outside of strings', () => {
  const deep = (levels: number) => `${'[{"a":'.repeat(levels / 2)}"[[\\"[["${'}]'.repeat(levels / 2)}`;
  expect(nestedDeeper(deep(10), 10)).toBe(false);
  expect(nestedDeeper(deep(12), 10)).toBe(true);
});
