import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { NexusError } from '../src/errors.ts';
import { bug, type Facts, factNames, journalLine, jsonEntry, levels, sentenceIn } from '../src/logline.ts';
import { readJournal, readJsonLog } from './logparse.ts';

const names = Object.keys(factNames).filter((name) => name !== 'stack');
const value = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({
    unit: fc.constantFrom('a', '"', '\\', '=', ' ', '\n', '\u001b', '\ud800', 'é', '\u2028', '<3>'),
  }),
  fc.integer(),
  fc.boolean(),
);
const entries = fc.record({
  level: fc.constantFrom(...levels),
  message: fc.string({ unit: 'binary' }),
  facts: fc.dictionary(fc.constantFrom(...names), value) as fc.Arbitrary<Facts>,
});
const numbers = { error: 3, warn: 4, info: 6, debug: 7 };

/** Half a character is written as such, and read as such. */
const texts = (facts: Facts) => Object.fromEntries(Object.entries(facts).map(([n, v]) => [n, String(v)]));

test('what is written for journald is read again, one line an entry, whatever is in it', () => {
  fc.assert(
    fc.property(fc.array(entries), (all) => {
      const read = readJournal(all.map((entry) => `${journalLine(entry)}\n`).join(''));
      expect(read).toEqual(
        all.map(({ level, message, facts }) => ({
          priority: numbers[level],
          fields: { message, ...texts(facts) },
          stack: [],
        })),
      );
    }),
  );
});

test('what is written as JSON is read again, one line an entry, in letters that no terminal obeys', () => {
  const time = new Date('2026-11-23T10:00:00Z');
  fc.assert(
    fc.property(entries, (entry) => {
      const line = jsonEntry(entry, time);
      expect(line).not.toMatch(/[\p{Cc}\u2028\u2029\u202e]/u);
      const [read] = readJsonLog(`${line}\n`);
      const { level, message, facts } = entry;
      expect(read?.fields).toEqual({ time: time.toISOString(), level, message, ...facts });
    }),
  );
});

test('the sentence of a line is found again, and of lines of others the line', () => {
  fc.assert(
    fc.property(entries, (entry) => {
      const line = journalLine(entry).slice(3);
      expect(sentenceIn(line)).toBe(entry.message);
    }),
  );
  expect(sentenceIn('Started nexus.')).toBe('Started nexus.');
  expect(sentenceIn('message="torn')).toBe('message="torn');
  expect(sentenceIn('    at main (file.ts:1:1)')).toBeUndefined();
});

test('what is very long is cut, so that journald does not break it', () => {
  const line = journalLine({
    level: 'warn',
    message: 'x'.repeat(100_000),
    facts: { reason: '"'.repeat(9000) },
  });
  expect(Buffer.byteLength(line)).toBeLessThan(48 * 1024);
  expect(readJournal(`${line}\n`)[0]?.fields['message']).toBe(`${'x'.repeat(4000)}…`);
});

test('a bug is one entry with its stack, and the stack of its cause', () => {
  const error = new TypeError('it broke\n    at nowhere', {
    cause: new NexusError('corrupt', 'The row is torn.'),
  });
  const [message, facts] = bug(error);
  const [read, ...others] = readJournal(`${journalLine({ level: 'error', message, facts })}\n`);
  expect(others).toEqual([]);
  expect(read?.fields).toEqual({
    message: 'internal error: TypeError: it broke at nowhere',
    code: 'internal',
  });
  expect(read?.stack[0]).toMatch(/^at .*logline\.test\.ts/);
  expect(read?.stack.join('\n')).toContain('caused by NexusError: The row is torn.');
  expect(read?.stack).not.toContain('at nowhere');
  const [json] = readJsonLog(`${jsonEntry({ level: 'error', message, facts }, new Date())}\n`);
  expect(json?.fields['stack']).toMatch(/^TypeError: it broke at nowhere\n +at .*logline\.test\.ts/);
});

test('of what a parser was given a bug quotes nothing', () => {
  const causes = [
    () => JSON.parse('{"a": canary "canary" }'),
    () => JSON.parse('canary'),
    () => JSON.parse('{"canary": "canary'),
    () => BigInt('canary'),
    () => new Headers({ 'x-key': 'canary\ncanary' }),
    () => Buffer.from(Object('canary').missing),
    () => new URL('http://canary:canary@ [canary'),
  ];
  for (const cause of causes) {
    let thrown: unknown;
    try {
      cause();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(Error);
    const [message, { stack }] = bug(new Error('outer', { cause: thrown }));
    expect(message + stack + bug(thrown)[0] + bug(thrown)[1].stack).not.toContain('canary');
  }
  expect(bug('canary')[0]).not.toContain('canary');
});
