import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { failedWith } from '../../src/errors.ts';
import { openAgentDatabase } from '../../src/openclaw/database.ts';
import { at, copyOf, later, list, read, temporary } from './fixtures.ts';

const sid = 'b0d6c2de-6c1c-4a4a-9f1e-0d7b1f0a1a11';
const name = 'openclaw-agent.sqlite';
const hour = 3_600_000;

const today = `
  CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, current_session_id TEXT, entry_json TEXT, entry_valid INTEGER, created_via TEXT);
  CREATE TABLE session_windows (session_id TEXT PRIMARY KEY, session_key TEXT, transcript_updated_at INTEGER, updated_at INTEGER, hook_external_content_source TEXT);
  CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at INTEGER, event_zstd BLOB, event_utf8_bytes INTEGER, PRIMARY KEY (session_id, seq));
  CREATE TABLE transcript_rewrite_watermarks (session_id TEXT PRIMARY KEY, generation TEXT, updated_at INTEGER);
  CREATE TABLE session_transcript_archives (session_id TEXT, generation TEXT, session_key TEXT, encoding TEXT, archive_blob BLOB, archive_sha256 TEXT, archive_name TEXT, created_at INTEGER);
  CREATE TABLE session_transcript_cold_archives (session_id TEXT, generation TEXT, archive_name TEXT, archive_sha256 TEXT, event_count INTEGER, raw_bytes INTEGER, last_seq INTEGER, storage TEXT, archive_blob BLOB);
  CREATE TABLE auth_profile_store (secret TEXT);
  INSERT INTO auth_profile_store VALUES ('secret');`;

/** An agent main with a database of this schema, in the mode that a stopped gateway leaves. */
function stateWith(
  schema: string,
  fill: (db: DatabaseSync) => void = () => {},
): { state: string; path: string } {
  const state = join(temporary(), 'state');
  const path = join(state, 'agents/main/agent', name);
  mkdirSync(dirname(path), { recursive: true });
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA journal_mode = WAL; ${schema}`);
  fill(db);
  db.close();
  return { state, path };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function addEvents(db: DatabaseSync, texts: (string | Uint8Array)[], from = 0, session = sid): void {
  const insert = db.prepare(
    'INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?, ?, CAST(? AS TEXT), 1)',
  );
  db.exec('BEGIN');
  for (const [index, text] of texts.entries())
    insert.run(session, from + index, typeof text === 'string' ? Buffer.from(text) : text);
  db.exec('COMMIT');
}

const mark = (db: DatabaseSync, generation = 'g1') =>
  db
    .prepare('INSERT OR REPLACE INTO transcript_rewrite_watermarks VALUES (?, ?, ?)')
    .run(sid, generation, later - hour);
const node = (db: DatabaseSync, key: string, valid = 1, via: string | null = null) =>
  db.prepare(`INSERT INTO session_nodes VALUES (?, ?, '{}', ?, ?)`).run(key, sid, valid, via);

describe('complete and trigger', () => {
  const place = async (fill: (db: DatabaseSync) => void, settleMs = 0) => {
    const { state } = stateWith(today, (db) => {
      addEvents(db, ['{}']);
      mark(db);
      fill(db);
    });
    return at(await list(state, 'main', { settleMs }), `#rows/${sid}`);
  };

  test('a session that is some node’s current one is not complete', async () => {
    expect(await place((db) => node(db, 'agent:main:main', 1, 'run'))).toMatchObject({
      complete: false,
      about: { sessionKey: 'agent:main:main', trigger: 'run' },
    });
  });

  test('a session whose entry was deleted is, once it is quiet', async () => {
    expect(await place((db) => node(db, 'agent:main:main', -1))).toMatchObject({ complete: true });
    expect(await place((db) => node(db, 'agent:main:main', -1), 2 * hour)).toMatchObject({ complete: false });
  });

  test('a session that no node points at is', async () => {
    expect(await place(() => {})).toMatchObject({ complete: true });
  });

  test.each([
    ['agent:main:cron:j:run:1', null, null, 'cron'],
    ['agent:main:x', 'spawn', null, 'subagent'],
    ['agent:main:telegram:direct:1', 'run', null, 'channel'],
    ['agent:main:x', 'operator', 'gmail', 'webhook'],
    ['agent:main:hook:1', null, null, 'webhook'],
    ['agent:main:x', 'plugin', null, 'operator'],
  ])('%s, created via %s with hook source %s, was started by a %s', async (key, via, hook, trigger) => {
    const found = await place((db) => {
      node(db, key, 1, via);
      db.prepare('INSERT INTO session_windows VALUES (?, ?, NULL, 1, ?)').run(sid, key, hook);
    });
    expect(found.about).toEqual({ sessionKey: key, trigger });
  });

  test('a cron session goes after a day, another after thirty', async () => {
    expect((await place((db) => node(db, 'agent:main:cron:j'))).prunedAt).toBe(later - hour + 24 * hour);
    expect((await place((db) => node(db, 'agent:main:x'))).prunedAt).toBe(later - hour + 30 * 24 * hour);
  });
});

describe('schemas', () => {
  test('that have other names for their tables are understood', async () => {
    const { state } = stateWith(
      `CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at INTEGER, PRIMARY KEY (session_id, seq));
       CREATE TABLE sessions (session_id TEXT PRIMARY KEY, session_key TEXT, updated_at INTEGER);
       CREATE TABLE session_entries (session_key TEXT PRIMARY KEY, session_id TEXT, entry_json TEXT);
       INSERT INTO sessions VALUES ('${sid}', 'agent:main:telegram:direct:1', 5), ('past', 'agent:main:x', 5);
       INSERT INTO session_entries VALUES ('agent:main:telegram:direct:1', '${sid}', '{}');`,
      (db) => {
        addEvents(db, ['{"a":1}', '{"b":2}']);
        addEvents(db, ['{}'], 0, 'past');
      },
    );
    const listing = await list(state, 'main');
    expect(at(listing, `#rows/${sid}`)).toMatchObject({
      complete: false,
      changedAt: 5,
      about: { trigger: 'channel' },
    });
    expect(at(listing, '#rows/past')).toMatchObject({ complete: true });
    expect(String(await read(at(listing, `#rows/${sid}`)))).toBe('{"a":1}\n{"b":2}\n');
  });

  test('with nothing but the events do not tell what is complete', async () => {
    const { state } = stateWith(
      'CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at INTEGER, PRIMARY KEY (session_id, seq));',
      (db) => addEvents(db, ['{}']),
    );
    expect(at(await list(state, 'main'), `#rows/${sid}`).complete).toBeUndefined();
  });

  test('without the events are no store of transcripts', async () => {
    const { state } = stateWith('CREATE TABLE auth_profile_store (secret TEXT)');
    expect(await list(state, 'main')).toEqual({ places: [], skipped: [], unreadable: [] });
  });
});

test('nothing but transcript tables can be read', () => {
  const { path } = stateWith(today);
  const database = openAgentDatabase(path);
  onTestFinished(() => database?.close());
  expect(() => database?.db.prepare('SELECT * FROM auth_profile_store').all()).toThrow(/prohibited|authoriz/);
  expect(() => database?.db.exec('DELETE FROM transcript_events')).toThrow(/readonly/);
});

describe('the text of a session', () => {
  const zstd = (db: DatabaseSync, seq: number, blob: Uint8Array, length: number) =>
    db.prepare('INSERT INTO transcript_events VALUES (?, ?, NULL, 1, ?, ?)').run(sid, seq, blob, length);
  const placeOf = async (fill: (db: DatabaseSync) => void) =>
    at(await list(stateWith(today, fill).state, 'main'), `#rows/${sid}`);

  test('is its rows in order, plain and compressed, each with a newline', async () => {
    const place = await placeOf((db) => {
      zstd(db, 2, zstdCompressSync('{"c":"ü"}'), 10);
      addEvents(db, ['{"a":1}', '{"b":2}']);
      addEvents(db, ['{"d":4}'], 9);
    });
    expect(String(await read(place))).toBe('{"a":1}\n{"b":2}\n{"c":"ü"}\n{"d":4}\n');
  });

  test('has the bytes that are there, valid UTF-8 or not', async () => {
    const odd = Buffer.from([0x22, 0xff, 0x00, 0xed, 0xa0, 0x80, 0x22]);
    expect(await read(await placeOf((db) => addEvents(db, [odd])))).toEqual(
      Buffer.concat([odd, Buffer.from('\n')]),
    );
  });

  test('may be larger than a page, in pieces of at most 1 MiB', async () => {
    const texts = Array.from({ length: 5000 }, (_, index) =>
      JSON.stringify({ index, text: 'x'.repeat(2000) }),
    );
    texts[17] = JSON.stringify('y'.repeat(5_000_000));
    const opened = await (await placeOf((db) => addEvents(db, texts))).open();
    const pieces: Uint8Array[] = [];
    for await (const piece of opened.pieces()) pieces.push(Buffer.from(piece));
    await opened.close();
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(1024 * 1024);
    expect(sha256(Buffer.concat(pieces))).toBe(
      sha256(Buffer.from(texts.map((text) => `${text}\n`).join(''))),
    );
  });

  test.each([
    ['its length is another', zstdCompressSync('{"c":3}'), 8],
    ['it is longer than it says', zstdCompressSync('{"c":3}'.repeat(100)), 7],
    ['it is no zstd', Buffer.from('{"c":3}'), 7],
  ])('is corrupt when a row is compressed and %s', async (_, blob, length) => {
    await expect(read(await placeOf((db) => zstd(db, 0, blob, length)))).rejects.toMatchObject({
      code: 'corrupt',
    });
  });

  test('is corrupt when a row has neither text nor blob', async () => {
    const place = await placeOf((db) =>
      db.exec(`INSERT INTO transcript_events VALUES ('${sid}', 0, NULL, 1, NULL, NULL)`),
    );
    await expect(read(place)).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('archive rows and cold rows', () => {
  const text = '{"a":1}\n{"b":2}\n';
  const archive = (db: DatabaseSync, encoding: string, blob: Uint8Array, sum = sha256(blob)) =>
    db
      .prepare(`INSERT INTO session_transcript_archives VALUES (?, 'g', 'agent:main:x', ?, ?, ?, 'n', 7)`)
      .run(sid, encoding, blob, sum);
  const archiveOf = async (fill: (db: DatabaseSync) => void) =>
    at(await list(stateWith(today, fill).state, 'main'), `#archives/${sid}/g`);

  test.each([
    ['identity', Buffer.from(text)],
    ['zstd', zstdCompressSync(text)],
  ])('an archive of encoding %s is read as its text', async (encoding, blob) => {
    const place = await archiveOf((db) => archive(db, encoding, blob));
    expect(place).toMatchObject({ complete: true, kind: 'archive-row', transcript: sid });
    expect(String(await read(place))).toBe(text);
  });

  test.each([
    ['whose SHA-256 is another', 'zstd', sha256(Buffer.from('x'))],
    ['of an unknown encoding', 'brotli', sha256(zstdCompressSync(text))],
  ])('an archive %s is corrupt', async (_, encoding, sum) => {
    const place = await archiveOf((db) => archive(db, encoding, zstdCompressSync(text), sum));
    await expect(place.open()).rejects.toMatchObject({ code: 'corrupt' });
  });

  const envelope = zstdCompressSync(
    [
      { kind: 'header', version: 1, sessionId: sid, generation: 'g' },
      { kind: 'event', row: { seq: 0, event_json: '{"a":1}', created_at: 1 } },
      { kind: 'event', row: { seq: 1, event_json: '{"b":2}', created_at: 1 } },
      { kind: 'fts', row: { text: 'a' } },
    ]
      .map((line) => `${JSON.stringify(line)}\n`)
      .join(''),
  );
  const cold = (db: DatabaseSync, storage: 'file' | 'sqlite', events = 2) =>
    db
      .prepare('INSERT INTO session_transcript_cold_archives VALUES (?, ?, ?, ?, ?, 15, 1, ?, ?)')
      .run(
        sid,
        'g',
        `${sha256(envelope)}.jsonl.zst`,
        sha256(envelope),
        events,
        storage,
        storage === 'file' ? null : envelope,
      );

  test('a cold archive in the database is read as the text in its envelope', async () => {
    const { state } = stateWith(today, (db) => void cold(db, 'sqlite'));
    expect(String(await read(at(await list(state, 'main'), `#cold/${sid}`)))).toBe(text);
  });

  test('a cold archive in a file has its session from the row, and upload lists it too', async () => {
    const { state, path } = stateWith(today, (db) => {
      cold(db, 'file');
      node(db, 'agent:main:x');
    });
    const file = join(dirname(path), '../sessions/cold', `${sha256(envelope)}.jsonl.zst`);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, envelope);
    const place = at(await list(state, 'main', { everything: false }), '.jsonl.zst');
    expect(place).toMatchObject({
      kind: 'cold',
      era: 'sqlite',
      sessionId: sid,
      complete: false,
      place: file,
    });
    expect(String(await read(place))).toBe(text);
  });

  test('a cold archive that has not all its events is corrupt', async () => {
    const { state } = stateWith(today, (db) => void cold(db, 'sqlite', 3));
    await expect(read(at(await list(state, 'main'), `#cold/${sid}`))).rejects.toMatchObject({
      code: 'corrupt',
    });
  });

  test('a cold archive whose file is missing is named, with or without its directory', async () => {
    const { state, path } = stateWith(today, (db) => void cold(db, 'file'));
    const missing = [expect.objectContaining({ reason: expect.stringContaining('is missing') })];
    expect((await list(state, 'main')).unreadable).toEqual(missing);
    mkdirSync(join(dirname(path), '../sessions/cold'), { recursive: true });
    expect((await list(state, 'main')).unreadable).toEqual(missing);
  });
});

describe('a session that changes while it is read', () => {
  async function begun() {
    const { state, path } = stateWith(today, (db) => {
      addEvents(
        db,
        Array.from({ length: 3000 }, (_, index) => `{"index":${index},"x":"${'x'.repeat(3000)}"}`),
      );
      mark(db);
    });
    // The gateway runs, so that there is a -wal.
    const gateway = new DatabaseSync(path);
    gateway.exec('PRAGMA wal_autocheckpoint = 0; CREATE TABLE other (x); INSERT INTO other VALUES (1)');
    onTestFinished(() => gateway.close());
    const opened = await at(await list(state, 'main'), `#rows/${sid}`).open();
    onTestFinished(() => opened.close());
    const pieces = opened.pieces()[Symbol.asyncIterator]();
    await pieces.next();
    const rest = async () => {
      let lines = 0;
      for (let next = await pieces.next(); next.done !== true; next = await pieces.next())
        lines += Buffer.from(next.value).filter((byte) => byte === 0x0a).length;
      return lines;
    };
    return { gateway, opened, rest, state };
  }

  test('may be appended to, and what is new waits', async () => {
    const { gateway, opened, rest, state } = await begun();
    addEvents(gateway, ['{"late":true}'], 3000);
    await opened.unchanged();
    await rest();
    await opened.unchanged();
    expect(String(await read(at(await list(state, 'main'), `#rows/${sid}`)))).toMatch(/{"late":true}\n$/);
  });

  test('is refused once it has another generation', async () => {
    const { gateway, opened, rest } = await begun();
    mark(gateway, 'g2');
    await expect(opened.unchanged()).rejects.toMatchObject({ code: 'changed' });
    await expect(rest()).rejects.toMatchObject({ code: 'changed' });
  });

  test('is refused once rows of it are gone', async () => {
    const { gateway, opened, rest } = await begun();
    gateway.exec(`DELETE FROM transcript_events WHERE seq < 10 OR seq > 100`);
    await expect(opened.unchanged()).rejects.toMatchObject({ code: 'changed' });
    await expect(rest()).rejects.toMatchObject({ code: 'changed' });
  });

  test('has another signature for new rows and for another generation', async () => {
    const { gateway, state } = await begun();
    const signature = async () => at(await list(state, 'main'), `#rows/${sid}`).signature;
    const first = await signature();
    addEvents(gateway, ['{}'], 3000);
    const second = await signature();
    mark(gateway, 'g2');
    expect(new Set([first, second, await signature()]).size).toBe(3);
  });

  test('that vanished before it was opened is said to have changed', async () => {
    const { gateway, state } = await begun();
    const place = at(await list(state, 'main'), `#rows/${sid}`);
    gateway.exec('DELETE FROM transcript_events');
    await expect(place.open()).rejects.toMatchObject({ code: 'changed' });
  });
});

test('beside a writer in another process every reading is a whole prefix', async () => {
  const { state, path } = stateWith(today, (db) => void mark(db));
  const script = `
    const { DatabaseSync } = require('node:sqlite');
    const db = new DatabaseSync(${JSON.stringify(path)});
    db.exec('PRAGMA synchronous = OFF');
    const insert = db.prepare('INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?, ?, ?, 1)');
    for (let seq = 0; seq < 1500; seq++) insert.run('${sid}', seq, JSON.stringify({ seq, x: 'x'.repeat(500) }));
    db.close();`;
  const writer = spawn(process.execPath, ['-e', script], { stdio: 'inherit' });
  const exited = once(writer, 'exit');
  let whole = true;
  while (writer.exitCode === null) {
    for (const place of (await list(state, 'main')).places) {
      const text = await read(place).catch((error: unknown) => {
        // The writer opened it, or closed it, just then.
        if (failedWith(error, 'changed')) return Buffer.alloc(0);
        throw error;
      });
      const lines = String(text).split('\n').slice(0, -1);
      whole &&= lines.every((line, index) => line.startsWith(`{"seq":${index},`));
    }
    await sleep(5);
  }
  expect((await exited)[0]).toBe(0);
  expect(whole).toBe(true);
  expect(String(await read(at(await list(state, 'main'), `#rows/${sid}`))).split('\n')).toHaveLength(1501);
}, 20_000);

describe('files beside the database', () => {
  test('none appears when the gateway is stopped', async () => {
    const state = copyOf('sqlite-2026.8.1');
    const before = readdirSync(join(state, 'agents/main/agent'));
    for (const place of (await list(state, 'main')).places) await read(place);
    expect(readdirSync(join(state, 'agents/main/agent'))).toEqual(before);
    expect(before).toEqual([name]);
  });

  test('a gateway that starts while a stopped one’s database is read makes the reading void', async () => {
    const { state, path } = stateWith(today, (db) => {
      addEvents(db, ['{}']);
      mark(db);
    });
    const opened = await at(await list(state, 'main'), `#rows/${sid}`).open();
    onTestFinished(() => opened.close());
    const gateway = new DatabaseSync(path);
    onTestFinished(() => gateway.close());
    gateway.exec('CREATE TABLE other (x)');
    await expect(opened.unchanged()).rejects.toMatchObject({ code: 'changed' });
  });

  test('what a killed gateway left in its -wal is read', async () => {
    const { state, path } = killedGateway();
    expect(readdirSync(dirname(path))).toContain(`${name}-wal`);
    expect(String(await read(at(await list(state, 'main'), `#rows/${sid}`)))).toBe(
      '{"in":"file"}\n{"in":"wal"}\n',
    );
  });
});

/** A database of which half is in the -wal, as after kill -9. */
function killedGateway(): { state: string; path: string } {
  const { state, path } = stateWith(today, (db) => {
    addEvents(db, ['{"in":"file"}']);
    mark(db);
  });
  const script = `
    const { DatabaseSync } = require('node:sqlite');
    const db = new DatabaseSync(${JSON.stringify(path)});
    db.exec("INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES ('${sid}', 1, '{\\"in\\":\\"wal\\"}', 1)");
    process.kill(process.pid, 'SIGKILL');`;
  try {
    execFileSync(process.execPath, ['-e', script], { stdio: 'ignore' });
  } catch {
    // Killed, as it should be.
  }
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
  return { state, path };
}

describe('what cannot be read', () => {
  test('a damaged database is named and hides nothing else', async () => {
    const { state, path } = stateWith(today);
    writeFileSync(path, 'this is no database at all'.repeat(100));
    mkdirSync(join(state, 'agents/main/sessions'));
    writeFileSync(join(state, 'agents/main/sessions/x.jsonl'), '{}\n');
    const listing = await list(state, 'main');
    expect(listing.places.map((place) => place.kind)).toEqual(['plain']);
    expect(listing.unreadable).toEqual([
      {
        agent: 'main',
        path,
        reason: expect.stringMatching(/no SQLite database.*owned by uid/),
        command: `ls -ld '${path}'`,
      },
    ]);
  });

  test('a database that is a link elsewhere is refused', async () => {
    const { state, path } = stateWith(today);
    const { path: elsewhere } = stateWith(today, (db) => addEvents(db, ['{}']));
    rmSync(path);
    symlinkSync(elsewhere, path);
    const listing = await list(state, 'main');
    expect(listing.places).toEqual([]);
    expect(listing.skipped).toEqual([{ item: path, reason: "a link out of the agent's directory" }]);
  });

  const asNobody = (state: string) => {
    // Up to this test's own temporary directory, which is 700.
    chmodSync(dirname(state), 0o755);
    const module = (file: string) => JSON.stringify(join(import.meta.dirname, '../../src/openclaw', file));
    const script = `
      import { listAgent } from ${module('agent.ts')};
      import { locate } from ${module('locate.ts')};
      const state = await locate({ HOME: '/', OPENCLAW_STATE_DIR: ${JSON.stringify(state)} });
      const { places, unreadable } = await listAgent(state, state.agents[0], { everything: true, now: 0, settleMs: 0 });
      const texts = [];
      for (const place of places) {
        const bytes = await place.open();
        for await (const piece of bytes.pieces()) texts.push(String(Buffer.from(piece)));
        await bytes.unchanged();
        await bytes.close();
      }
      console.log(JSON.stringify({ texts, unreadable }));`;
    const answer = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      uid: 65534,
      gid: 65534,
    });
    const told: { texts: string[]; unreadable: { reason: string; path: string }[] } = JSON.parse(
      String(answer),
    );
    return told;
  };

  describe.skipIf(process.getuid?.() !== 0)('by another uid', () => {
    test('a stopped gateway’s database is read from a directory that may not be written', () => {
      const { state } = stateWith(today, (db) => addEvents(db, ['{"a":1}']));
      expect(asNobody(state)).toEqual({ texts: ['{"a":1}\n'], unreadable: [] });
    });

    test('one with an empty -wal that may not be read is read all the same', () => {
      const { state, path } = stateWith(today, (db) => addEvents(db, ['{"a":1}']));
      for (const end of ['-wal', '-shm']) {
        writeFileSync(`${path}${end}`, '');
        chmodSync(`${path}${end}`, 0o600);
      }
      expect(asNobody(state)).toEqual({ texts: ['{"a":1}\n'], unreadable: [] });
    });

    test('changes in a -wal that it cannot read are not passed over', () => {
      const { state, path } = killedGateway();
      chmodSync(`${path}-wal`, 0o600);
      expect(asNobody(state)).toEqual({
        texts: [],
        unreadable: [
          expect.objectContaining({ reason: expect.stringContaining('-wal cannot be read by uid 65534') }),
        ],
      });
    });

    test('a -wal without its -shm in a directory that may not be written says how to go on', () => {
      const { state, path } = killedGateway();
      rmSync(`${path}-shm`);
      expect(asNobody(state)).toEqual({
        texts: [],
        unreadable: [
          expect.objectContaining({
            path,
            reason: expect.stringMatching(/changes in its -wal.*owned by uid 0/),
          }),
        ],
      });
    });

    test('a database of mode 600 is named with its owner', () => {
      const { state, path } = stateWith(today);
      chmodSync(path, 0o600);
      chownSync(path, 1000, 1000);
      expect(asNobody(state).unreadable).toEqual([
        expect.objectContaining({
          reason: expect.stringContaining('owned by uid 1000, group 1000, mode 600'),
        }),
      ]);
    });
  });
});

describe('values that no release writes', () => {
  const beyond = 2n ** 62n;
  const other = 'other';
  const filled = (fill: (db: DatabaseSync) => void) =>
    stateWith(today, (db) => {
      addEvents(db, ['{}']);
      fill(db);
    }).state;

  test.each<[string, (db: DatabaseSync) => void]>([
    [
      'a place beyond all numbers in another session',
      (db) =>
        db.prepare("INSERT INTO transcript_events VALUES (?, ?, '{}', 1, NULL, NULL)").run(other, beyond),
    ],
    [
      'a time beyond all numbers',
      (db) =>
        db.prepare('INSERT INTO session_windows VALUES (?, ?, ?, ?, NULL)').run(sid, 'k', beyond, 1e300),
    ],
    [
      'a generation in bytes',
      (db) => db.prepare("INSERT INTO transcript_rewrite_watermarks VALUES (?, x'ff00', 1)").run(sid),
    ],
    [
      'an archive made beyond all times',
      (db) =>
        db
          .prepare(
            "INSERT INTO session_transcript_archives VALUES ('a', 'g', 'k', 'identity', x'', '', 'n', ?)",
          )
          .run(beyond),
    ],
  ])('%s does not hide the others, and every time is one', async (_, fill) => {
    const { places, unreadable } = await list(filled(fill), 'main', { everything: true });
    expect(unreadable).toEqual([]);
    expect(String(await read(places.find(({ place }) => place.endsWith(`#rows/${sid}`))))).toBe('{}\n');
    for (const { changedAt } of places) expect(new Date(changedAt).toISOString()).toMatch(/^[12]/);
  });

  test.each<SQLInputValue>([beyond, -beyond, 'x', 1.5])(
    'a session with an event at %s is corrupt',
    async (seq) => {
      const state = filled((db) =>
        db.prepare("INSERT INTO transcript_events VALUES (?, ?, '{}', 1, NULL, NULL)").run(other, seq),
      );
      const place = at(await list(state, 'main'), `#rows/${other}`);
      await expect(read(place)).rejects.toMatchObject({ code: 'corrupt' });
    },
  );
});
