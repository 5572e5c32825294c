import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { ids, messageLines, transcript } from '../jobs/host.ts';
import { archived, auditsOf, newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';
import { oneObject } from './nexus.ts';

/** Waits until the archive has exactly these bytes under a name. */
async function holds({ dataDir }: OpenClawMachine, name: string, bytes: string): Promise<void> {
  await expect
    .poll(async () => (await archived(dataDir)).get(name)?.toString() === bytes, {
      interval: 100,
      timeout: 15_000,
    })
    .toBe(true);
}

test('new and grown transcripts of both eras follow within seconds, until SIGTERM, which ends with one report', async () => {
  const machine = await newOpenClawMachine('sqlite-2026.9.6');
  const { openclaw } = machine;
  await machine.configure({ settleMinutes: 0, afterUpload: 'keep' });
  const file = path.join(openclaw.stateDir, 'agents/main/agent/openclaw-agent.sqlite');
  // The gateway: in WAL mode, and it keeps the database open.
  const gateway = new DatabaseSync(file);
  gateway.exec('PRAGMA journal_mode = WAL');
  const session = gateway.prepare('SELECT * FROM session_windows ORDER BY updated_at DESC LIMIT 1').get();
  const sessionId = String(session?.['session_id']);

  const watching = machine.start(['upload', '--watch', '--json']);
  await expect
    .poll(async () => (await archived(machine.dataDir).catch(() => new Map())).has(`main/${sessionId}`), {
      interval: 100,
      timeout: 15_000,
    })
    .toBe(true);
  const rows = (await archived(machine.dataDir)).get(`main/${sessionId}`)?.toString() ?? '';

  const line = '{"type":"message","id":"live","message":{"role":"user","content":"written beside it"}}';
  const last = gateway.prepare('SELECT max(seq) AS seq FROM transcript_events WHERE session_id = ?');
  gateway.exec('BEGIN IMMEDIATE');
  gateway
    .prepare('INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?, ?, ?, ?)')
    .run(sessionId, Number(last.get(sessionId)?.['seq']) + 1, line, Date.now());
  gateway
    .prepare('UPDATE session_windows SET transcript_updated_at = ? WHERE session_id = ?')
    .run(Date.now(), sessionId);
  gateway.exec('COMMIT');
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2), { ageMs: 0 });
  await holds(machine, `main/${sessionId}`, `${rows}${line}\n`);
  await holds(machine, `main/${ids.a}`, transcript(ids.a, 2));

  await openclaw.append(`${ids.a}.jsonl`, messageLines(3, 'more'), { ageMs: 0 });
  await holds(machine, `main/${ids.a}`, transcript(ids.a, 2) + messageLines(3, 'more'));
  gateway.close();

  watching.kill('SIGTERM');
  const ended = await watching.ended;
  expect(ended.status).toBe(143);
  expect(ended.stderr).toMatch(/\nStopping\.\n$/);
  const report = oneObject(ended.stdout);
  const truth = JSON.parse(await readFile(path.join(openclaw.stateDir, 'truth.json'), 'utf8'));
  const before = Object.keys(truth.sessions).length;
  expect(report).toMatchObject({ job: 'upload', ok: false, interrupted: 'SIGTERM', failed: [] });
  // What there was, and then one new file, its tail, and the new row.
  expect((await archived(machine.dataDir)).size).toBe(before + 1);
  expect(Object.keys(auditsOf(report))).toContain('main');
  expect(report['done']).toBeGreaterThanOrEqual(before + 3);
});
