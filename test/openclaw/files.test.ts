import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { isHeld } from '../../src/openclaw/locks.ts';
import { pieceBytes } from '../../src/openclaw/plainfile.ts';
import type { Listing, ListRequest } from '../../src/openclaw/source.ts';
import { at, later, list, locateAt, read, temporary } from './fixtures.ts';
import { listAgent } from '../../src/openclaw/agent.ts';

const id = 'b0d6c2de-6c1c-4a4a-9f1e-0d7b1f0a1a11';
const other = '0f0e0d0c-0b0a-4908-8706-050403020100';
const closed = `${id}.jsonl.reset.2026-11-23T06-46-41.431Z`;
const line = '{"type":"message"}\n';
const old = new Date(later - 3_600_000);
const hour = 3_600_000;

type Content = string | Uint8Array;

/** A state whose agent main has these files, last written an hour before `later`. */
function stateWith(files: Record<string, Content>, index: unknown = {}): string {
  const state = join(temporary(), 'state');
  const all = { 'sessions.json': typeof index === 'string' ? index : JSON.stringify(index), ...files };
  for (const [name, content] of Object.entries(all)) put(state, name, content);
  return state;
}

function sessions(state: string, name = ''): string {
  return join(state, 'agents/main/sessions', name);
}

function put(state: string, name: string, content: Content): void {
  const path = sessions(state, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  utimesSync(path, old, old);
}

const kinds = (listing: Listing) =>
  listing.places.map(({ kind, transcript }) => `${kind} ${transcript}`).sort((a, b) => (a < b ? -1 : 1));

async function one(files: Record<string, Content>, index: unknown = {}, request: Partial<ListRequest> = {}) {
  const { places } = await list(stateWith(files, index), 'main', request);
  const place = places[0];
  if (place === undefined || places.length > 1) throw new Error(`${places.length} places`);
  return place;
}

test('every kind of file is listed as what it is', async () => {
  const state = stateWith({
    [`${id}.jsonl`]: line,
    [`${id}-topic-7%2F8.jsonl`]: line,
    [`2026-11-23T06-46-41-431Z_${other}.jsonl`]: line,
    'v1.2.jsonl': line,
    [closed]: line,
    [`${id}.checkpoint.${other}.jsonl`]: line,
    [`${id}.jsonl.bak-1-2`]: line,
    [`${id}.jsonl.corrupt-1-ab.jsonl`]: line,
    [`${id}.trajectory.jsonl`]: line,
    [`archive/${other}.jsonl.deleted.2026-11-23T06-46-41Z~2`]: line,
    'archive/sub.jsonl': line,
  });
  const everything = await list(state, 'main');
  expect(kinds(everything)).toEqual(
    [
      'archived sub',
      `archived ${other}`,
      `backup ${id}`,
      `checkpoint ${id}`,
      `corrupt ${id}`,
      `plain ${id}`,
      `plain ${id}-topic-7~x252F8`,
      `plain v1.2`,
      `plain ${other}`,
      `reset ${id}`,
    ].sort((a, b) => (a < b ? -1 : 1)),
  );
  expect(everything.skipped).toEqual([]);
});

test('upload leaves out archive/ and copies', async () => {
  const state = stateWith({
    [`${id}.jsonl`]: line,
    [`${id}.jsonl.bak-1-2`]: line,
    [`${id}.checkpoint.${other}.jsonl`]: line,
    [`archive/${closed}`]: line,
  });
  expect(kinds(await list(state, 'main', { everything: false }))).toEqual([`plain ${id}`]);
});

describe('complete', () => {
  const entry = (facts: object) => ({ 'agent:main:x': { sessionId: id, updatedAt: 1, ...facts } });

  test('is a file that nobody points at and that is quiet', async () => {
    expect(await one({ [`${id}.jsonl`]: line })).toMatchObject({ complete: true, movable: 'left' });
  });

  test('is not one whose id is the current one of an entry, whatever its key', async () => {
    expect(await one({ [`${id}.jsonl`]: line }, entry({}))).toMatchObject({
      complete: false,
      movable: undefined,
      about: { sessionKey: 'agent:main:x', trigger: 'operator' },
    });
  });

  test('is not one that an entry names as its file, wherever OpenClaw sees it', async () => {
    const index = {
      k: { sessionId: other, sessionFile: `/home/node/.openclaw/agents/main/sessions/${id}-topic-3.jsonl` },
    };
    expect(await one({ [`${id}-topic-3.jsonl`]: line }, index)).toMatchObject({ complete: false });
  });

  test('is an old history whose id an entry only remembers', async () => {
    const index = { 'agent:main:cron:j': { sessionId: other, usageFamilySessionIds: [id] } };
    expect(await one({ [`${id}.jsonl`]: line }, index)).toMatchObject({
      complete: true,
      about: { sessionKey: 'agent:main:cron:j', trigger: 'cron' },
    });
  });

  test('is not one that was written to lately', async () => {
    expect(await one({ [`${id}.jsonl`]: line }, {}, { settleMs: 2 * hour })).toMatchObject({
      complete: false,
    });
  });

  test.each(['{"agent:main:x": {"sess', '[]', ''])(
    'cannot be told while sessions.json is %j',
    async (index) => {
      const listing = await list(stateWith({ [`${id}.jsonl`]: line, [closed]: line }, index), 'main');
      expect(at(listing, `${id}.jsonl`)).toMatchObject({ complete: undefined, movable: undefined });
      expect(at(listing, closed)).toMatchObject({ complete: true, movable: 'closed' });
      expect(listing.unreadable).toEqual([
        expect.objectContaining({ path: expect.stringContaining('sessions.json') }),
      ]);
    },
  );

  test('is what is reset or deleted; what bears a generation is not moved', async () => {
    const published = `${id}.jsonl.deleted.2026-11-23T06-46-41.431Z.395c8b4b9b8e43d7bb9c14ab25dcaad7`;
    const listing = await list(stateWith({ [closed]: line, [published]: line }, entry({})), 'main');
    expect(at(listing, closed)).toMatchObject({ complete: true, movable: 'closed', era: 'file' });
    expect(at(listing, published)).toMatchObject({ complete: true, movable: undefined, era: 'sqlite' });
  });
});

describe('a lock', () => {
  const lock = (createdAt: number, pid = process.pid, more: object = {}) =>
    JSON.stringify({ pid, createdAt: new Date(createdAt).toISOString(), ...more });
  // Beyond the greatest number that Linux gives.
  const dead = 2 ** 22 + 1;
  const held = (text: string, samePids: boolean) => {
    const path = join(temporary(), 'x.jsonl.lock');
    writeFileSync(path, text);
    utimesSync(path, old, old);
    return isHeld(path, later, samePids);
  };

  test('that is fresh makes its file busy and not complete', async () => {
    const place = await one({ [`${id}.jsonl`]: line, [`${id}.jsonl.lock`]: lock(later - 1000) });
    expect(place).toMatchObject({ busy: true, complete: false, movable: undefined });
  });

  test.each([
    ['of half an hour and more is stale', lock(later - 31 * 60_000), false],
    ['whose process lives is held', lock(later - 1000), true],
    ['whose process is gone is stale', lock(later - 1000, dead), false],
    [
      'whose number another process has by now is stale',
      lock(later - 1000, process.pid, { starttime: 1 }),
      false,
    ],
    ['that cannot be understood counts by its age', 'x', false],
  ])('%s', (_, text, expected) => {
    expect(held(text, true)).toBe(expected);
  });

  test('of a container counts while it is fresh, since its process cannot be looked for', () => {
    expect(held(lock(later - 1000, dead), false)).toBe(true);
  });
});

test('deadlines are OpenClaw’s own', async () => {
  const index = { 'agent:main:cron:j:run:1': { sessionId: id }, 'agent:main:main': { sessionId: 'm' } };
  const listing = await list(
    stateWith({ [`${id}.jsonl`]: line, 'm.jsonl': line, [closed]: line, [`archive/${closed}`]: line }, index),
    'main',
  );
  expect(at(listing, `${id}.jsonl`).prunedAt).toBe(old.getTime() + 24 * hour);
  expect(at(listing, 'm.jsonl').prunedAt).toBe(old.getTime() + 30 * 24 * hour);
  expect(at(listing, `sessions/${closed}`).prunedAt).toBe(
    Date.parse('2026-11-23T06:46:41.431Z') + 30 * 24 * hour,
  );
  expect(at(listing, `archive/${closed}`).prunedAt).toBeUndefined();
});

describe('bytes', () => {
  const bytes = Buffer.concat([
    Buffer.from([0xef, 0xbb, 0xbf]),
    Buffer.from('{"a":"\\ud800"}\r\n\0\0\n'),
    Buffer.from([0xff, 0xfe, 0x80, 0x0a]),
    Buffer.from(`{"image":"${'x'.repeat(5_000_000)}"}\n`),
  ]);

  test('NUL, CRLF, a BOM, invalid UTF-8 and a 5 MB line are read as they are', async () => {
    expect((await read(await one({ 'x.jsonl': bytes }))).equals(bytes)).toBe(true);
  });

  test('is read in pieces, whatever its size', async () => {
    const opened = await (await one({ 'x.jsonl': bytes })).open();
    let largest = 0;
    for await (const piece of opened.pieces()) largest = Math.max(largest, piece.length);
    await opened.close();
    expect(largest).toBe(pieceBytes);
  });

  test('a partial last line waits while the file is active, and not once it is complete', async () => {
    const partial = `${line}{"type":`;
    const active = { k: { sessionId: 'x' } };
    expect(String(await read(await one({ 'x.jsonl': partial }, active)))).toBe(line);
    expect(String(await read(await one({ 'x.jsonl': partial })))).toBe(partial);
  });

  test('a long partial last line is all that there is', async () => {
    const place = await one({ 'x.jsonl': 'y'.repeat(200_000) }, { k: { sessionId: 'x' } });
    expect(await read(place)).toHaveLength(0);
  });

  test('an empty file and one without a header are transcripts', async () => {
    expect(await read(await one({ 'x.jsonl': '' }))).toHaveLength(0);
    expect(String(await read(await one({ 'x.jsonl': 'no json\n' })))).toBe('no json\n');
  });
});

describe('a file that changes while it is read', () => {
  async function begun(content = line.repeat(3)) {
    const state = stateWith({ [`${id}.jsonl`]: content }, { k: { sessionId: id } });
    const path = sessions(state, `${id}.jsonl`);
    const opened = await at(await list(state, 'main'), `${id}.jsonl`).open();
    const pieces = opened.pieces()[Symbol.asyncIterator]();
    const first = await pieces.next();
    return { path, opened, pieces, first: String(Buffer.from(first.value ?? [])) };
  }

  test('may be appended to', async () => {
    const { path, opened, pieces, first } = await begun();
    appendFileSync(path, line);
    await opened.unchanged();
    expect([first, (await pieces.next()).done]).toEqual([line.repeat(3), true]);
    await opened.close();
  });

  test('may be renamed or unlinked', async () => {
    const { path, opened } = await begun(line.repeat(100_000));
    renameSync(path, `${path}.deleted.2026-11-23T06-46-41Z`);
    await opened.unchanged();
    unlinkSync(`${path}.deleted.2026-11-23T06-46-41Z`);
    await opened.unchanged();
    let rest = 0;
    for await (const piece of opened.pieces()) rest += piece.length;
    expect(rest).toBe(line.length * 100_000 - pieceBytes);
    await opened.close();
  });

  test('is refused once it is rewritten in place, even with its length and times', async () => {
    const { path, opened } = await begun();
    writeFileSync(path, line.toUpperCase().repeat(3));
    utimesSync(path, old, old);
    await expect(opened.unchanged()).rejects.toMatchObject({ code: 'changed' });
    await opened.close();
  });

  test('is refused once it is truncated', async () => {
    const { path, opened, pieces } = await begun(line.repeat(100_000));
    truncateSync(path, line.length);
    await expect(opened.unchanged()).rejects.toMatchObject({ code: 'changed' });
    await expect(pieces.next()).rejects.toMatchObject({ code: 'changed' });
    await opened.close();
  });

  test('is refused when it was replaced or vanished before it was opened', async () => {
    const state = stateWith({ 'a.jsonl': line, 'b.jsonl': line });
    const listing = await list(state, 'main');
    unlinkSync(sessions(state, 'a.jsonl'));
    put(state, 'new', line);
    renameSync(sessions(state, 'new'), sessions(state, 'b.jsonl'));
    await expect(at(listing, 'a.jsonl').open()).rejects.toMatchObject({ code: 'changed' });
    await expect(at(listing, 'b.jsonl').open()).rejects.toMatchObject({ code: 'changed' });
  });

  test('has another signature', async () => {
    const state = stateWith({ 'a.jsonl': line });
    const before = at(await list(state, 'main'), 'a.jsonl').signature;
    put(state, 'a.jsonl', line.toUpperCase());
    expect(at(await list(state, 'main'), 'a.jsonl').signature).not.toBe(before);
  });
});

describe('compressed', () => {
  const name = `${id}.jsonl.deleted.2026-11-23T06-46-41.431Z.zst`;
  const text = line.repeat(200_000);

  test('it is read decompressed', async () => {
    expect(String(await read(await one({ [name]: zstdCompressSync(text) })))).toBe(text);
  });

  test.each([
    ['cut off', zstdCompressSync(text).subarray(0, -20)],
    ['not zstd at all', Buffer.from(text)],
    ['empty', Buffer.alloc(0)],
    ['of two frames', Buffer.concat([zstdCompressSync(text), zstdCompressSync('more')])],
    ['followed by something', Buffer.concat([zstdCompressSync(text), Buffer.from('more')])],
  ])('a file that is %s is corrupt, not shorter', async (_, content) => {
    await expect(read(await one({ [name]: content }))).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('what is no transcript file of this agent', () => {
  test('a link, a directory and a FIFO are named and not read', async () => {
    const state = stateWith({});
    const secret = join(temporary(), 'secret');
    writeFileSync(secret, 'secret\n');
    symlinkSync(secret, sessions(state, 'link.jsonl'));
    mkdirSync(sessions(state, 'directory.jsonl'));
    execFileSync('mkfifo', [sessions(state, 'fifo.jsonl')]);
    const listing = await list(state, 'main');
    expect(listing.places).toEqual([]);
    expect(listing.skipped).toEqual(
      expect.arrayContaining([
        { item: sessions(state, 'link.jsonl'), reason: 'a symbolic link' },
        { item: sessions(state, 'directory.jsonl'), reason: 'not a regular file' },
        { item: sessions(state, 'fifo.jsonl'), reason: 'not a regular file' },
      ]),
    );
  });

  test('a link that takes the place of a listed file is not followed', async () => {
    const state = stateWith({ 'a.jsonl': line });
    const place = at(await list(state, 'main'), 'a.jsonl');
    unlinkSync(sessions(state, 'a.jsonl'));
    symlinkSync('/etc/hostname', sessions(state, 'a.jsonl'));
    await expect(place.open()).rejects.toMatchObject({ code: 'changed' });
  });

  test('a directory above that is exchanged for a link is noticed', async () => {
    const state = stateWith({ 'a.jsonl': line });
    const place = at(await list(state, 'main'), 'a.jsonl');
    const elsewhere = join(temporary(), 'elsewhere');
    renameSync(sessions(state), elsewhere);
    symlinkSync(elsewhere, sessions(state).replace(/\/$/, ''));
    await expect(place.open()).rejects.toMatchObject({ code: 'changed' });
  });

  test.each(['sessions', 'sessions/archive', 'sessions/cold', 'session-sqlite-import-archive'])(
    'a %s that is a link out of the agent is refused by name',
    async (name) => {
      const state = name === 'sessions' ? join(temporary(), 'state') : stateWith({});
      const elsewhere = temporary();
      writeFileSync(join(elsewhere, 'a.jsonl'), line);
      const path = join(state, 'agents/main', name);
      mkdirSync(dirname(path), { recursive: true });
      symlinkSync(elsewhere, path);
      const listing = await list(state, 'main');
      expect(listing.places).toEqual([]);
      expect(listing.skipped).toEqual([expect.objectContaining({ item: path })]);
    },
  );

  test('a name that OpenClaw does not give is named', async () => {
    const { skipped } = await list(stateWith({ 'a.jsonl.gz': line }), 'main');
    expect(skipped).toEqual([expect.objectContaining({ item: expect.stringContaining('a.jsonl.gz') })]);
  });
});

test.skipIf(process.getuid?.() !== 0)(
  'what another uid cannot read is named with owner, mode and command',
  async () => {
    const state = stateWith({ 'a.jsonl': line, 'b.jsonl': line });
    // Only what this test made: its own temporary directory is 700.
    for (const path of [dirname(state), state]) chmodSync(path, 0o755);
    chmodSync(sessions(state, 'a.jsonl'), 0o600);
    const script = `
    import { listAgent } from ${JSON.stringify(join(import.meta.dirname, '../../src/openclaw/agent.ts'))};
    import { locate } from ${JSON.stringify(join(import.meta.dirname, '../../src/openclaw/locate.ts'))};
    const state = await locate({ HOME: '/', OPENCLAW_STATE_DIR: ${JSON.stringify(state)} });
    const { places, unreadable } = await listAgent(state, state.agents[0], { everything: true, now: 0, settleMs: 0 });
    console.log(JSON.stringify({ places: places.length, unreadable }));`;
    const answer = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      uid: 65534,
      gid: 65534,
    });
    expect(JSON.parse(String(answer))).toEqual({
      places: 1,
      unreadable: [
        {
          agent: 'main',
          path: sessions(state, 'a.jsonl'),
          reason: `${sessions(state, 'a.jsonl')} cannot be read by uid 65534 (owned by uid 0, group 0, mode 600).`,
          command: `ls -ld '${sessions(state, 'a.jsonl')}'`,
        },
      ],
    });
  },
);

test('the id of an imported file whose name cannot tell it is in its header', async () => {
  const state = stateWith({});
  const name = 'agent_main_x.v1.2.jsonl.imported-1795416439292';
  const path = join(state, 'agents/main/session-sqlite-import-archive', name);
  mkdirSync(dirname(path));
  writeFileSync(path, '{"type":"session","version":3,"id":"v1.2"}\n');
  expect(at(await list(state, 'main'), name)).toMatchObject({
    sessionId: 'v1.2',
    kind: 'imported',
    complete: true,
  });
});

test('agents that share a sessions directory have what their keys claim, the default agent the rest', async () => {
  const root = temporary();
  const state = join(root, 'state');
  const store = join(root, 'shared/sessions.json');
  mkdirSync(dirname(store));
  mkdirSync(state);
  writeFileSync(
    join(state, 'openclaw.json'),
    JSON.stringify({ session: { store }, agents: { list: [{ id: 'a' }, { id: 'b' }, { id: 'main' }] } }),
  );
  writeFileSync(
    store,
    JSON.stringify({ 'agent:b:x': { sessionId: 'of-b' }, 'agent:a:x': { sessionId: 'of-a' } }),
  );
  for (const name of ['of-a', 'of-b', 'of-none']) writeFileSync(join(root, 'shared', `${name}.jsonl`), line);
  const found = await locateAt(state);
  const listed = await Promise.all(
    found.agents.map(async (agent) => [
      agent.id,
      (await listAgent(found, agent, { everything: true, now: later, settleMs: 0 })).places.map(
        (place) => place.sessionId,
      ),
    ]),
  );
  expect(Object.fromEntries(listed)).toEqual({ a: ['of-a'], b: ['of-b'], main: ['of-none'] });
});

describe('a cold archive that no row speaks of', () => {
  const envelope = (lines: object[]) =>
    zstdCompressSync(lines.map((each) => `${JSON.stringify(each)}\n`).join(''));
  const header = { kind: 'header', version: 1, sessionId: id, generation: 'g' };
  const event = (seq: number, text: string) => ({
    kind: 'event',
    row: { seq, event_json: text, created_at: 1 },
  });
  const nameOf = (content: Uint8Array) =>
    `cold/${createHash('sha256').update(content).digest('hex')}.jsonl.zst`;
  const cold = async (lines: object[]) => {
    const content = envelope(lines);
    return read(await one({ [nameOf(content)]: content }));
  };

  test('is the text of its events', async () => {
    const big = JSON.stringify({ image: 'x'.repeat(3_000_000), lone: '\ud800' });
    const lines = [
      header,
      event(0, '{"a":1}'),
      event(3, big),
      { kind: 'identity', row: {} },
      { kind: 'fts', row: {} },
    ];
    expect(String(await cold(lines))).toBe(`{"a":1}\n${big}\n`);
  });

  test.each([
    ['no header', [event(0, '{}')]],
    ['a later version', [{ ...header, version: 2 }, event(0, '{}')]],
    ['an unknown kind of line', [header, { kind: 'event2', row: {} }]],
    ['an event without its text', [header, { kind: 'event', row: { seq: 0, event_zstd: 'KLUv' } }]],
    ['its events out of order', [header, event(1, '{}'), event(0, '{}')]],
  ])('with %s is refused, not shortened', async (_, lines) => {
    const content = envelope(lines);
    const listing = await list(stateWith({ [nameOf(content)]: content }), 'main');
    const refusal =
      listing.places[0] === undefined
        ? listing.unreadable[0]?.reason
        : await read(listing.places[0]).catch(String);
    expect(refusal).toMatch(/cold archive/);
  });

  test('that is not what its name says is corrupt', async () => {
    const place = await one({ [nameOf(Buffer.from('x'))]: envelope([header, event(0, '{}')]) });
    await expect(place.open()).rejects.toMatchObject({ code: 'corrupt' });
  });
});
