import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { answeredBatches } from '../../src/openclaw/answered.ts';
import { type Fixture, copyOf, fixtures, later, list, locateAt, temporary } from './fixtures.ts';

const batch = '1f0c2f0e-6a53-4d0e-9f5b-1d1c58a3f1aa';
const at = Date.parse('2026-11-23T10:00:00Z');

const header = { type: 'session', version: 3, id: 's-1', timestamp: '2026-11-23T10:00:01.000Z', cwd: '/' };
const asked = message({
  role: 'user',
  content: `SECURITY NOTICE\n\nNexus has put …\nnexus-batch: ${batch}\n<<<END`,
});
const answer = message({ role: 'assistant', content: [{ type: 'text', text: 'Done.' }], stopReason: 'stop' });
const failed = message({
  role: 'assistant',
  content: [],
  stopReason: 'error',
  errorMessage: '500 overloaded',
});
const aborted = message({ role: 'assistant', content: [], stopReason: 'aborted' });
const tools = message({ role: 'assistant', content: [{ type: 'toolCall', id: '1' }], stopReason: 'toolUse' });
const result = message({ role: 'toolResult', content: `nexus-batch: ${batch}` });
const other = message({ role: 'user', content: 'What is the weather?' });

function message(inner: object): object {
  return { type: 'message', id: 'e', parentId: null, timestamp: '2026-11-23T10:00:02.000Z', message: inner };
}

async function look(stateDir: string, since = at, now = at + 3_600_000): Promise<boolean> {
  const state = await locateAt(stateDir);
  const main = state.agents.find(({ id }) => id === 'main');
  if (main === undefined) throw new Error('no main');
  return (await answeredBatches(state, main, [{ batch, since }], now)).has(batch);
}

function inFile(lines: readonly object[], name = 's-1.jsonl'): string {
  const stateDir = temporary();
  const sessions = join(stateDir, 'agents', 'main', 'sessions');
  mkdirSync(sessions, { recursive: true });
  const file = join(sessions, name);
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  utimesSync(file, (at + 5_000) / 1000, (at + 5_000) / 1000);
  return stateDir;
}

test.each<[what: string, answered: boolean, lines: object[]]>([
  ['a reply is an answer', true, [header, asked, answer]],
  ['a reply after tools is an answer', true, [header, asked, tools, result, answer]],
  ['a reply after a failure is an answer', true, [header, asked, failed, answer]],
  ['an answer stays one when a later turn fails', true, [header, asked, answer, other, failed]],
  ['an error is no answer', false, [header, asked, failed]],
  ['an abort is no answer', false, [header, asked, aborted]],
  ['a call of a tool is no answer yet', false, [header, asked, tools, result]],
  ['a message that nobody has replied to has no answer', false, [header, asked]],
  ['a reply that came before it is no answer', false, [header, other, answer, asked]],
  ['a reply in a transcript without it is no answer', false, [header, other, answer]],
  ['a tool that shows the batch asks nothing', false, [header, other, tools, result, answer]],
  [
    'what OpenClaw says in the place of the agent is no answer',
    false,
    [
      header,
      asked,
      message({ role: 'assistant', provider: 'openclaw', model: 'gateway-injected', content: 'Failed.' }),
    ],
  ],
])('%s', async (_, answered, lines) => {
  expect(await look(inFile(lines))).toBe(answered);
});

test('a transcript that OpenClaw has closed meanwhile is read', async () => {
  const stateDir = inFile([header, asked, answer], 's-1.jsonl.deleted.2026-11-23T10-05-00.000Z');
  expect(await look(stateDir)).toBe(true);
});

test('a transcript that began before the message was sent is not read', async () => {
  const old = { ...header, timestamp: '2026-11-23T09:00:00.000Z' };
  expect(await look(inFile([old, asked, answer]))).toBe(false);
});

test('a transcript that has not changed since is not read', async () => {
  expect(await look(inFile([header, asked, answer]), at + 600_000)).toBe(false);
});

test('a line that is no JSON is passed over', async () => {
  const stateDir = inFile([header, asked, answer]);
  const file = join(stateDir, 'agents', 'main', 'sessions', 's-1.jsonl');
  writeFileSync(
    file,
    `{"broken nexus-batch: ${batch}\n${JSON.stringify(asked)}\n{"role":"assistant"\n${JSON.stringify(answer)}\n`,
  );
  expect(await look(stateDir, Date.now(), Date.now())).toBe(true);
});

/** Writes the batch's lines over those of one real transcript, as OpenClaw keeps them in that release. */
function told(fixture: Fixture, lines: readonly object[]): string {
  const stateDir = copyOf(fixture);
  const db = new DatabaseSync(join(stateDir, 'agents', 'main', 'agent', 'openclaw-agent.sqlite'));
  const session = String(
    db.prepare('SELECT session_id FROM session_windows ORDER BY transcript_updated_at DESC').get()?.[
      'session_id'
    ],
  );
  db.prepare('DELETE FROM transcript_events WHERE session_id = ?').run(session);
  const columns = db.prepare("SELECT name FROM pragma_table_info('transcript_events')").all();
  const zipped = columns.some((column) => column['name'] === 'event_zstd');
  lines.forEach((line, seq) => {
    const names = ['session_id', 'seq', 'event_json', 'created_at', ...(zipped ? ['event_utf8_bytes'] : [])];
    const text = JSON.stringify(line);
    const values = [session, seq, text, at + 5_000, ...(zipped ? [Buffer.byteLength(text)] : [])];
    db.prepare(
      `INSERT INTO transcript_events (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`,
    ).run(...values);
  });
  db.prepare('UPDATE session_windows SET transcript_updated_at = ? WHERE session_id = ?').run(
    at + 5_000,
    session,
  );
  db.close();
  return stateDir;
}

test.each(['sqlite-2026.8.1', 'sqlite-2026.9.6'] as const)(
  'an answer in the rows of %s is found',
  async (fixture) => {
    expect(await look(told(fixture, [header, asked, answer]))).toBe(true);
    expect(await look(told(fixture, [header, asked, failed]))).toBe(false);
  },
);

test.each(fixtures)('%s has no answer to what was never asked', async (fixture) => {
  const stateDir = copyOf(fixture);
  expect((await list(stateDir, 'main')).places.length).toBeGreaterThan(0);
  expect(await look(stateDir, 0, later)).toBe(false);
});
