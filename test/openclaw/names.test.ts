import { assert, constantFrom, date, property, string, stringMatching } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Named, parseArchivedName, parseImportName, parseName } from '../../src/openclaw/names.ts';

const id = 'b0d6c2de-6c1c-4a4a-9f1e-0d7b1f0a1a11';
const other = '0f0e0d0c-0b0a-4908-8706-050403020100';
const generation = '395c8b4b9b8e43d7bb9c14ab25dcaad7';

test.each<[string, Named]>([
  [`${id}.jsonl`, { kind: 'plain', sessionName: id, sessionId: id, compressed: false }],
  ['v1.2.jsonl', { kind: 'plain', sessionName: 'v1.2', sessionId: 'v1.2', compressed: false }],
  [
    `${id}-topic-a%20b.jsonl`,
    { kind: 'plain', sessionName: `${id}-topic-a%20b`, sessionId: id, compressed: false },
  ],
  [
    `2026-11-23T06-46-41-431Z_${id}.jsonl`,
    { kind: 'plain', sessionName: id, sessionId: id, compressed: false },
  ],
  [
    `${id}.jsonl.reset.2026-11-23T06-46-41.431Z`,
    {
      kind: 'reset',
      sessionName: id,
      sessionId: id,
      compressed: false,
      closedAt: Date.parse('2026-11-23T06:46:41.431Z'),
    },
  ],
  [
    `${id}.jsonl.deleted.2026-11-23T06-46-41Z.${generation}.zst`,
    {
      kind: 'deleted',
      sessionName: id,
      sessionId: id,
      compressed: true,
      closedAt: Date.parse('2026-11-23T06:46:41Z'),
      generation,
    },
  ],
  [
    `${id}-topic-7.jsonl.deleted.2026-11-23T06-46-41Z`,
    {
      kind: 'deleted',
      sessionName: `${id}-topic-7`,
      sessionId: id,
      compressed: false,
      closedAt: Date.parse('2026-11-23T06:46:41Z'),
    },
  ],
  [
    `${id}.checkpoint.${other}.jsonl`,
    { kind: 'checkpoint', sessionName: id, sessionId: id, compressed: false },
  ],
  [
    `${id}.checkpoint.${other}.jsonl.deleted.2026-11-23T06-46-41Z`,
    { kind: 'checkpoint', sessionName: id, sessionId: id, compressed: false },
  ],
  [
    `${id}.jsonl.bak.2026-11-23T06-46-41.431Z`,
    { kind: 'backup', sessionName: id, sessionId: id, compressed: false },
  ],
  [
    `${id}.jsonl.bak-4711-1795416439292`,
    { kind: 'backup', sessionName: id, sessionId: id, compressed: false },
  ],
  [
    `${id}.jsonl.corrupt-1795416439292-0a1b.jsonl`,
    { kind: 'corrupt', sessionName: id, sessionId: id, compressed: false },
  ],
])('reads %s', (name, named) => {
  expect(parseName(name)).toEqual(named);
});

test.each([
  'sessions.json',
  'sessions.json.bak.1795416439292',
  'sessions.json.4711.0f0e0d0c-0b0a-4908-8706-050403020100.tmp',
  `${id}.jsonl.lock`,
  `${id}.trajectory.jsonl`,
  `${id}.trajectory-path.json`,
  `${id}.trajectory.jsonl.deleted.2026-11-23T06-46-41Z`,
  `${id}.trajectory.jsonl.bak-1-2`,
  '.usage-cost-cache.json',
  'skills-prompts',
  'cold',
  'archive',
])('passes over %s without a word', (name) => {
  expect(parseName(name)).toMatchObject({ expected: true });
});

test.each(['.jsonl', `${id}.jsonl.gz`, `${id}.jsonl.zst`, `${id}.jsonl.reset.yesterday`, '.hidden.jsonl'])(
  'does not take %s for a transcript, and says so',
  (name) => {
    expect(parseName(name)).toMatchObject({ expected: false });
  },
);

test('a session called like the index is a session', () => {
  expect(parseName('sessions.json.jsonl')).toMatchObject({ kind: 'plain', sessionId: 'sessions.json' });
});

test('a file moved to archive/ keeps its name, whatever number it got there', () => {
  const name = `${id}.jsonl.reset.2026-11-23T06-46-41.431Z`;
  expect(parseArchivedName(`${name}~12`)).toEqual(parseName(name));
});

describe('an imported file', () => {
  test('has the id that stands after the last dot', () => {
    expect(parseImportName(`agent_main_whatsapp_1_s.net.${id}.jsonl.imported-1795416439292`)).toEqual({
      kind: 'imported',
      sessionName: id,
      sessionId: id,
      compressed: false,
      importedAt: 1795416439292,
      certain: true,
    });
  });

  test('whose id may have dots is said to be uncertain', () => {
    expect(parseImportName('agent_main_x.v1.2.jsonl.imported-1.3')).toMatchObject({
      sessionId: '2',
      certain: false,
    });
  });

  test('that is a trace or an index is none', () => {
    expect(parseImportName(`k.${id}.trajectory.jsonl.imported-1`)).toMatchObject({ expected: true });
    expect(parseImportName('legacy-store.sessions.json.imported-1')).toMatchObject({ expected: true });
  });

  test('that is a checkpoint stays a copy', () => {
    expect(parseImportName(`k.${id}.checkpoint.${other}.jsonl.imported-1`)).toMatchObject({
      kind: 'checkpoint',
    });
  });
});

// OpenClaw's grammar; ids that themselves end in a marker cannot be told from it, and OpenClaw cannot either.
const sessionId = stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$/).filter(
  (text) =>
    !/\.trajectory$|\.checkpoint\.|\.jsonl\.(?:reset|deleted|bak|corrupt|pre-doctor|migrated)/.test(text) &&
    !/^\d{4}-/.test(text) &&
    !text.includes('-topic-'),
);
const stamp = date({ min: new Date('2020-01-01'), max: new Date('2099-01-01'), noInvalidDate: true }).map(
  (date) => date.toISOString().replaceAll(':', '-'),
);

test('any session id comes back from every kind of name, and no kind passes for another', () => {
  const kinds: [
    Exclude<Named, { ignored: string }>['kind'] | 'none',
    (name: string, at: string) => string,
  ][] = [
    ['plain', (name) => `${name}.jsonl`],
    ['reset', (name, at) => `${name}.jsonl.reset.${at}`],
    ['deleted', (name, at) => `${name}.jsonl.deleted.${at}.${generation}.zst`],
    ['checkpoint', (name) => `${name}.checkpoint.${other}.jsonl`],
    ['backup', (name, at) => `${name}.jsonl.bak.${at}`],
    ['corrupt', (name, at) => `${name}.jsonl.corrupt-${at}-0af3.jsonl`],
    ['none', (name) => `${name}.trajectory.jsonl`],
    ['none', (name) => `${name}.jsonl.lock`],
  ];
  assert(
    property(sessionId, stamp, constantFrom(...kinds), (name, at, [kind, fileName]) => {
      const named = parseName(fileName(name, at));
      const seen = 'ignored' in named ? ['none', name] : [named.kind, named.sessionName];
      expect(seen).toEqual([kind, name]);
    }),
    { numRuns: 500 },
  );
});

test('any name at all gets an answer', () => {
  assert(
    property(string({ unit: 'binary' }), (name) => {
      expect(parseName(name)).toBeTypeOf('object');
      expect(parseImportName(name)).toBeTypeOf('object');
    }),
  );
});
