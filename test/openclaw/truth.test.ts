import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { listAgent } from '../../src/openclaw/agent.ts';
import { transcriptOf } from '../../src/transcripts.ts';
import { at, copyOf, fixtures, later, locateAt, read, type Truth, truthOf } from './fixtures.ts';

/** One place, named as truth.json names it, and its bytes, read without anything of the product. */
interface Reading {
  session: string;
  bytes: Buffer;
}

/** Straight from files and tables, with only what is known of the fixtures themselves. */
function readIndependently(stateDir: string, agent: string): Map<string, Reading[]> {
  const readings = new Map<string, Reading[]>();
  const add = (where: string, session: string, bytes: Buffer) =>
    readings.set(where, [...(readings.get(where) ?? []), { session, bytes }]);
  const base = join(stateDir, 'agents', agent);
  for (const folder of ['sessions', 'session-sqlite-import-archive'])
    for (const name of filesIn(join(base, folder))) {
      if (!name.includes('.jsonl') || name.includes('.trajectory') || name.endsWith('.lock')) continue;
      const raw = readFileSync(join(base, folder, name));
      const uuid = /([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl/.exec(name)?.[1] ?? '';
      add(`${agent}/${folder}/${name}`, uuid, name.endsWith('.zst') ? zstdDecompressSync(raw) : raw);
    }
  for (const name of filesIn(join(base, 'sessions', 'cold'))) {
    const envelope = zstdDecompressSync(readFileSync(join(base, 'sessions', 'cold', name))).toString();
    const lines = envelope
      .trim()
      .split('\n')
      .map((line): { kind: string; sessionId?: string; row?: { event_json: string } } => JSON.parse(line));
    const text = lines.filter(({ kind }) => kind === 'event').map(({ row }) => `${row?.event_json}\n`);
    add(`${agent}/sessions/cold/${name}`, lines[0]?.sessionId ?? '', Buffer.from(text.join('')));
  }
  if (!filesIn(join(base, 'agent')).includes('openclaw-agent.sqlite')) return readings;
  const db = new DatabaseSync(join(base, 'agent', 'openclaw-agent.sqlite'));
  const events = new Map<string, string[]>();
  for (const row of db.prepare('SELECT * FROM transcript_events ORDER BY session_id, seq').all()) {
    const lines = events.get(String(row['session_id'])) ?? [];
    const zstd = row['event_zstd'];
    lines.push(zstd instanceof Uint8Array ? zstdDecompressSync(zstd).toString() : String(row['event_json']));
    events.set(String(row['session_id']), lines);
  }
  for (const [session, lines] of events)
    add(`${agent}/sqlite:transcript_events`, session, Buffer.from(lines.map((line) => `${line}\n`).join('')));
  for (const row of db
    .prepare('SELECT session_id, encoding, archive_blob AS b FROM session_transcript_archives')
    .all())
    if (row['b'] instanceof Uint8Array)
      add(
        `${agent}/sqlite:session_transcript_archives`,
        String(row['session_id']),
        row['encoding'] === 'zstd' ? zstdDecompressSync(row['b']) : Buffer.from(row['b']),
      );
  db.close();
  return readings;
}

function filesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** A listed place as truth.json would name it. */
function whereOf(agent: string, place: string): string {
  if (place.includes('#rows/')) return `${agent}/sqlite:transcript_events`;
  if (place.includes('#archives/')) return `${agent}/sqlite:session_transcript_archives`;
  const folder = basename(join(place, '..'));
  return `${agent}/${folder === 'cold' ? 'sessions/cold' : folder}/${basename(place)}`;
}

const whereIn = (truth: Truth, sessionId: string) => Object.keys(truth.sessions[sessionId]?.places ?? {});

const records = (bytes: Buffer) => bytes.toString().split('\n').filter(Boolean).length;

describe.each(fixtures)('%s', (fixture) => {
  test('has every session of its truth in every place, each with its records, and no more', async () => {
    const stateDir = copyOf(fixture);
    const truth = truthOf(fixture);
    const found: Record<string, Record<string, number>> = {};
    const unlike: string[] = [];
    const state = await locateAt(stateDir);
    expect(state.agents.map(({ id }) => id)).toEqual([...truth.agents].sort());
    for (const agent of state.agents) {
      const listing = await listAgent(state, agent, { everything: true, now: later, settleMs: 0 });
      expect(listing.unreadable).toEqual([]);
      expect(listing.skipped).toEqual([]);
      for (const place of listing.places) {
        // Restored since: the rows have what it has, and so truth.json does not count it.
        if (
          place.kind === 'cold' &&
          !whereIn(truth, place.sessionId).includes(whereOf(agent.id, place.place))
        ) {
          const bytes = await read(place);
          const rows = await read(at(listing, `#rows/${place.sessionId}`));
          if (!rows.subarray(0, bytes.length).equals(bytes)) unlike.push(place.place);
          continue;
        }
        expect(place.transcript).toBe(transcriptOf(place.sessionId));
        (found[place.sessionId] ??= {})[whereOf(agent.id, place.place)] = records(await read(place));
      }
    }
    expect(unlike).toEqual([]);
    const wanted = Object.entries(truth.sessions).map(([id, session]) => [
      id,
      Object.fromEntries(Object.entries(session.places).map(([where, { records }]) => [where, records])),
    ]);
    expect(found).toEqual(Object.fromEntries(wanted));
  });

  test('is read byte for byte as an independent reading of it', async () => {
    const stateDir = copyOf(fixture);
    const state = await locateAt(stateDir);
    for (const agent of state.agents) {
      const { places } = await listAgent(state, agent, { everything: true, now: later, settleMs: 0 });
      const mine = new Map<string, string>();
      for (const place of places)
        mine.set(
          `${whereOf(agent.id, place.place)} ${place.sessionId}`,
          (await read(place)).toString('latin1'),
        );
      const theirs = new Map<string, string>();
      for (const [where, readings] of readIndependently(copyOf(fixture), agent.id))
        for (const { session, bytes } of readings)
          theirs.set(`${where} ${session}`, bytes.toString('latin1'));
      expect(mine).toEqual(theirs);
    }
  });
});
