import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { zstdDecompressSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { configSchema } from '../../src/config.ts';
import { runAgent } from '../../src/jobs/agentrun.ts';
import { ledgerFile, openLedger } from '../../src/jobs/ledger.ts';
import { watchOutages } from '../../src/jobs/outages.ts';
import { listAgent } from '../../src/openclaw/agent.ts';
import { locate } from '../../src/openclaw/locate.ts';
import { emptyAudit } from '../../src/report.ts';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { fixtures } from '../openclaw/fixtures.ts';
import { type Host, makeHost } from './host.ts';

interface Truth {
  sessions: Record<string, { agent: string; places: Record<string, { records: number }> }>;
}

let host: Host;

afterEach(() => host.remove());

/** A place of truth.json, `agent/sessions/<file>` or `agent/sqlite:<table>`, read in the plainest way. */
function readPlace(stateDir: string, sessionId: string, place: string): Buffer {
  const [agent = '', ...rest] = place.split('/');
  const where = rest.join('/');
  const home = path.join(stateDir, 'agents', agent);
  if (!where.startsWith('sqlite:')) {
    const bytes = readFileSync(path.join(home, where));
    return where.endsWith('.zst') ? zstdDecompressSync(bytes) : bytes;
  }
  const db = new DatabaseSync(path.join(home, 'agent', 'openclaw-agent.sqlite'));
  try {
    if (where === 'sqlite:session_transcript_archives') {
      const row = db.prepare('SELECT * FROM session_transcript_archives WHERE session_id = ?').get(sessionId);
      const blob = blobOf(row?.['archive_blob']);
      return row?.['encoding'] === 'zstd' ? zstdDecompressSync(blob) : blob;
    }
    const rows = db
      .prepare('SELECT * FROM transcript_events WHERE session_id = ? ORDER BY seq')
      .all(sessionId);
    return Buffer.concat(
      rows.flatMap((row) => [
        row['event_json'] === null
          ? zstdDecompressSync(blobOf(row['event_zstd']))
          : Buffer.from(String(row['event_json'])),
        Buffer.from('\n'),
      ]),
    );
  } finally {
    db.close();
  }
}

function blobOf(value: unknown): Buffer {
  if (!(value instanceof Uint8Array)) throw new TypeError('not a blob');
  return Buffer.from(value);
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe.each(fixtures)('%s', (fixture) => {
  test('every transcript of truth.json is archived byte for byte, and nothing else is', async () => {
    host = await makeHost(fixture);
    const truth: Truth = JSON.parse(readFileSync(path.join(host.stateDir, 'truth.json'), 'utf8'));
    const expected = new Map<string, string>();
    for (const [sessionId, { agent, places }] of Object.entries(truth.sessions)) {
      const readings = Object.entries(places).map(([place, { records }]) => {
        const bytes = readPlace(host.stateDir, sessionId, place);
        expect(bytes.toString().trimEnd().split('\n'), place).toHaveLength(records);
        return bytes;
      });
      // Places of one session are one history, some of them further on than others.
      const longest = readings.reduce((a, b) => (a.length >= b.length ? a : b));
      for (const bytes of readings) expect(longest.subarray(0, bytes.length).equals(bytes)).toBe(true);
      expected.set(`${agent}/${sessionId}`, sha256(longest));
    }

    const report = await host.backfill();
    expect(report).toMatchObject({ ok: true, failed: [], oversized: [], done: expected.size });
    const stored = [...(await host.stored())].map(([name, bytes]) => [name, sha256(bytes)] as const);
    expect(new Map(stored)).toEqual(expected);
    expect((await host.backfill({ verify: true })).ok).toBe(true);
  });

  test('a second run finds nothing to ship and opens no transcript', async () => {
    host = await makeHost(fixture);
    await host.backfill({ config: { afterUpload: 'keep' } });
    const config = configSchema.parse({ dataDir: host.dataDir, host: 'box', afterUpload: 'keep' });
    const nexus = openSessions(await openLocalStore(path.join(host.dataDir, 'store')));
    const ledger = openLedger(ledgerFile(config), () => undefined);
    const state = await locate({ OPENCLAW_STATE_DIR: host.stateDir, HOME: host.root });
    const now = Date.now();
    for (const agent of state.agents) {
      const listing = await listAgent(state, agent, { everything: true, now, settleMs: 600_000 });
      const audit = emptyAudit();
      await runAgent({
        nexus,
        ledger,
        store: await nexus.storeId(),
        host: 'box',
        agent: agent.id,
        now,
        audit,
        listing: {
          ...listing,
          places: listing.places.map((place) => ({
            ...place,
            open: () => Promise.reject(new Error(`${place.place} was opened`)),
          })),
        },
        options: {
          all: false,
          since: undefined,
          until: undefined,
          quietMs: undefined,
          verify: false,
          everything: true,
          afterUpload: 'keep',
          archiveAfterMs: 0,
          maxTranscriptBytes: 0,
          concurrency: 2,
          setAsideAfter: 10,
          chunkBytes: 65536,
        },
        signal: new AbortController().signal,
        outages: watchOutages(nexus),
        listed: () => undefined,
        listEverything: () => expect.fail('listed again'),
        look: () => Promise.resolve(undefined),
        closedDirectories: new Set(),
        grown: new Set(),
        fail: (item) => expect.fail(item.reason),
        warn: (message) => expect.fail(message),
        storedBytes: () => expect.fail('bytes were stored'),
        settledPlace: () => undefined,
        oversized: () => undefined,
        failures: new Map(),
        setAside: () => undefined,
      });
      expect(audit).toMatchObject({ stored: 0, failed: 0, skipped: {}, already: listing.places.length });
      expect(audit.found).toBeGreaterThan(0);
    }
    ledger.close();
    await nexus.close();
  });

  test('nothing but moves to archive/ is done to OpenClaw’s files', async () => {
    host = await makeHost(fixture);
    const before = filesOf(host.stateDir);
    await host.backfill();
    expect(filesOf(host.stateDir)).toEqual(before);
    expect(before.size).toBeGreaterThan(3);
  });
});

/** Digests of all files by path, where one in `archive/` counts as still being beside it. */
function filesOf(directory: string): Map<string, string> {
  const found = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    // What SQLite itself keeps beside a database that is read.
    .filter((file) => !/-(wal|shm)$/.test(file))
    .map((file): [string, string] => [
      file.replace('/sessions/archive/', '/sessions/'),
      sha256(readFileSync(file)),
    ]);
  return new Map(found.sort(([a], [b]) => (a < b ? -1 : 1)));
}
