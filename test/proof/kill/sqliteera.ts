import { randomBytes } from 'node:crypto';
import { copyFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { zstdDecompressSync } from 'node:zlib';
import { message, type Growing } from './fileera.ts';
import type { Truth } from './truth.ts';

const made = path.resolve(
  import.meta.dirname,
  '..',
  '..',
  'fixtures',
  'openclaw',
  'sqlite-2026.9.6-live',
  'agents',
  'main',
  'agent',
  'openclaw-agent.sqlite',
);

/** The SQLite era: a database that OpenClaw 2026.9.6 made, whose sessions get more events, or others, in its tables. */
export async function openSqliteEra(
  stateDir: string,
  agent: string,
  truth: Truth,
  random: () => number,
): Promise<Growing & { close(): void }> {
  const file = path.join(stateDir, 'agents', agent, 'agent', 'openclaw-agent.sqlite');
  await mkdir(path.dirname(file), { recursive: true });
  await copyFile(made, file);
  const db = new DatabaseSync(file);
  // A gateway does not wait for a disk in this test, and is never killed.
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON');
  const sessions = db
    .prepare('SELECT DISTINCT session_id AS id FROM transcript_events ORDER BY session_id')
    .all()
    .map(({ id }) => String(id));
  const nameOf = (id: string): string => `${agent}/${id}`;
  const events = db.prepare(
    'SELECT event_json AS text, event_zstd AS zstd FROM transcript_events WHERE session_id = ? ORDER BY seq',
  );
  const eventsOf = (id: string): Buffer =>
    bytesOf(
      events.all(id).map(({ text, zstd }) => {
        if (zstd instanceof Uint8Array) return zstdDecompressSync(zstd).toString();
        return String(text);
      }),
    );
  const last = db.prepare('SELECT max(seq) AS seq FROM transcript_events WHERE session_id = ?');
  const insert = db.prepare(
    'INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?, ?, ?, ?)',
  );
  const touch = db.prepare('UPDATE session_windows SET transcript_updated_at = ? WHERE session_id = ?');

  function add(id: string, texts: readonly string[]): void {
    const from = Number(last.get(id)?.['seq'] ?? -1) + 1;
    for (const [n, text] of texts.entries()) insert.run(id, from + n, text, Date.now());
    touch.run(Date.now(), id);
  }
  function within(work: () => void): void {
    db.exec('BEGIN IMMEDIATE');
    work();
    db.exec('COMMIT');
  }

  const archived = db.prepare(
    'SELECT session_id AS id, archive_blob AS blob FROM session_transcript_archives',
  );
  for (const { id, blob } of archived.all())
    if (blob instanceof Uint8Array) truth.begin(nameOf(String(id)), zstdDecompressSync(blob));
  for (const id of sessions) truth.begin(nameOf(id), eventsOf(id));
  return {
    async step() {
      const id = sessions[Math.floor(random() * sessions.length)] ?? '';
      const texts = Array.from({ length: 1 + Math.floor(random() * 6) }, () => message(random));
      // Seldom: a session that was written anew is a history more for ever.
      if (random() < 0.1) {
        truth.begin(nameOf(id), bytesOf(texts));
        within(() => {
          db.prepare('DELETE FROM transcript_events WHERE session_id = ?').run(id);
          db.prepare(
            'UPDATE transcript_rewrite_watermarks SET generation = ?, updated_at = ? WHERE session_id = ?',
          ).run(randomBytes(16).toString('hex'), Date.now(), id);
          add(id, texts);
        });
      } else {
        truth.grow(nameOf(id), bytesOf(texts));
        within(() => add(id, texts));
      }
      return nameOf(id);
    },
    places: () =>
      Promise.resolve(
        sessions.map((id) => ({
          name: nameOf(id),
          place: `${file}#rows/${id}`,
          bytes: truth.latest(nameOf(id)),
        })),
      ),
    prune: () => Promise.resolve(),
    close: () => db.close(),
  };
}

function bytesOf(texts: readonly string[]): Buffer {
  return Buffer.from(texts.map((text) => `${text}\n`).join(''));
}
