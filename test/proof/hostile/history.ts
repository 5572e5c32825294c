import { execFile } from 'node:child_process';
import { copyFile, mkdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { promisify } from 'node:util';
import { zstdCompressSync } from 'node:zlib';
import * as fc from 'fast-check';
import { bytes, changed, json, nastyBytes, nastyLines, nastyNames, nastyText, nested } from './nasty.ts';

/** What was written of one agent and must be in the archive: a transcript's name and its bytes. */
export type Written = Map<string, Buffer>;

const days = 2 * 86_400_000;

const call = {
  type: 'message',
  id: 'deadbeef',
  timestamp: '2026-11-20T10:00:00.000Z',
  message: {
    role: 'assistant',
    provider: 'p',
    model: 'm',
    timestamp: 1_795_000_000_000,
    content: [{ type: 'text', text: 'x' }],
    usage: { input: 1, output: 2, cacheRead: 3, cacheWrite: 4, totalTokens: 10, cost: { total: 0.5 } },
  },
};

const line: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...nastyLines).map((one) => Buffer.from(one)) },
  { weight: 5, arbitrary: changed(call).map((one) => Buffer.from(one)) },
  { weight: 1, arbitrary: json.map((one) => Buffer.from(one)) },
  { weight: 2, arbitrary: bytes.map((one) => Buffer.from(one)) },
);

function joined(lines: readonly Uint8Array[]): Buffer {
  return Buffer.concat(lines.flatMap((one) => [one, Buffer.from('\n')]));
}

/** Long and deep ones, beside those that are made up. */
function heavyLines(): Buffer[] {
  const long = JSON.stringify(call).replace('"x"', `"${'y'.repeat(20 * 1024 * 1024)}"`);
  const wide = JSON.stringify(call).replace('"x"', `"x","more":[${'[],'.repeat(300_000)}0]`);
  const deep = JSON.stringify(call).replace('"x"', `"x","more":${nested(10_000)},"other":${nested(10_001)}`);
  return [long, wide, deep, '['.repeat(1_000_000), `${'{"message":'.repeat(10_000)}1`].map((one) =>
    Buffer.from(one),
  );
}

export function transcriptsOf(seed: number, count: number): Buffer[] {
  const made = fc.sample(fc.array(line, { maxLength: 12 }), { numRuns: count, seed });
  return [...made.map(joined), joined(heavyLines()), Buffer.from(nastyLines.join('\n')), joined(nastyBytes)];
}

/** An agent of the file era. What lies there and is no transcript is named hostilely too. */
export async function fileAgent(
  stateDir: string,
  agent: string,
  transcripts: readonly Buffer[],
  secret: string,
): Promise<Written> {
  const sessions = path.join(stateDir, 'agents', agent, 'sessions');
  await mkdir(sessions, { recursive: true });
  const written: Written = new Map();
  for (const [nth, content] of transcripts.entries()) {
    if (content.length === 0) continue;
    const name = `hostile-${nth}`;
    await aged(path.join(sessions, `${name}.jsonl`), content);
    written.set(name, content);
  }
  await writeFile(
    path.join(sessions, 'sessions.json'),
    '{"__proto__":{"polluted":1},"agent:x:main":{"sessionId":{}},"":null}',
  );
  for (const [nth, name] of nastyNames.entries()) {
    const content = Buffer.from(`{"n":${nth}}\n`);
    for (const file of [`${name}.jsonl`, `${name}.jsonl.reset.2026-11-01T00-00-00Z`, name])
      await tried(aged(path.join(sessions, file), content));
    await tried(mkdir(path.join(sessions, `dir ${name}.jsonl`)));
    await tried(symlink(secret, path.join(sessions, `link ${name}.jsonl`)));
  }
  await strangeFiles(sessions, secret);
  return written;
}

/** Non-UTF-8 names, links, pipes, sockets: nothing to read, and nothing to hang on. */
async function strangeFiles(sessions: string, secret: string): Promise<void> {
  for (const bytes of [[0xff], [0xfe, 0x2e, 0x2e, 0x2f], [0xc0, 0xae], [0x61, 0x0a, 0xff]]) {
    const name = Buffer.concat([
      Buffer.from(`${sessions}/`),
      Buffer.from(bytes.filter((one) => one !== 0x2f)),
      Buffer.from('.jsonl'),
    ]);
    await tried(writeFile(name, '{}\n'));
  }
  const at = (name: string): string => path.join(sessions, `${name}.jsonl`);
  await symlink(secret, at('linked'));
  await symlink('/dev/zero', at('zero'));
  await symlink(at('loop'), at('loop'));
  await symlink(path.dirname(secret), path.join(sessions, 'archive'));
  await symlink(path.dirname(secret), path.join(sessions, 'cold'));
  await promisify(execFile)('mkfifo', [at('pipe'), `${at('pipe')}.lock`]);
  const server = createServer();
  // Its socket stays behind as a name that nobody listens at.
  await new Promise<void>((resolve) => server.listen(path.join(sessions, 's.jsonl'), resolve));
  await new Promise((resolve) => server.close(resolve));
}

/** Agents' directories by hostile names, each with one transcript. */
export async function strangeAgents(stateDir: string, secret: string): Promise<void> {
  const agents = path.join(stateDir, 'agents');
  for (const name of [...nastyNames, ...nastyText.slice(0, 60)]) {
    const directory = path.join(agents, name, 'sessions');
    if (
      name === '' ||
      name.includes('/') ||
      !directory.startsWith(`${agents}/`) ||
      name === '..' ||
      name === '.'
    )
      continue;
    await tried(
      mkdir(directory, { recursive: true }).then(() =>
        aged(path.join(directory, 'x.jsonl'), Buffer.from('{}\n')),
      ),
    );
  }
  await tried(mkdir(Buffer.from(`${agents}/\xff\xfe`, 'latin1')));
  await tried(symlink(path.dirname(secret), path.join(agents, 'linked')));
  await tried(writeFile(path.join(agents, 'file'), 'no directory'));
}

const values: SQLInputValue[] = [
  null,
  -1,
  0,
  1.5,
  2n ** 62n,
  -(2n ** 63n),
  1e300,
  '',
  '\u0000',
  '../../canary',
  '\u001b[31m',
  'FORGED',
  Buffer.from([0xff, 0x00]),
  Buffer.alloc(70_000, 0x61),
  nested(5000),
];

/** An agent of the SQLite era whose rows have any type in any place, beside one session that is as it should be. */
export async function rowAgent(
  stateDir: string,
  agent: string,
  fixture: string,
  transcripts: readonly Buffer[],
  random: () => number,
): Promise<Written> {
  const directory = path.join(stateDir, 'agents', agent, 'agent');
  await mkdir(directory, { recursive: true });
  const file = path.join(directory, 'openclaw-agent.sqlite');
  await copyFile(fixture, file);
  const db = new DatabaseSync(file, { enableForeignKeyConstraints: false });
  const written: Written = new Map();
  const any = (): SQLInputValue => values[Math.floor(random() * values.length)] ?? null;
  try {
    loosen(db);
    const insert = (
      session: SQLInputValue,
      seq: SQLInputValue,
      text: SQLInputValue,
      zstd: SQLInputValue = null,
      length: SQLInputValue = null,
    ): void => {
      db.prepare(
        'INSERT INTO transcript_events (session_id, seq, event_json, created_at, event_zstd, event_utf8_bytes) VALUES (?, ?, ?, ?, ?, ?)',
      ).run(session, seq, text, 0, zstd, length);
    };
    for (const [nth, content] of transcripts.entries()) {
      // What is no UTF-8 is a blob there.
      const lines = content
        .toString('latin1')
        .split('\n')
        .slice(0, -1)
        .map((one) => Buffer.from(one, 'latin1'));
      for (const [seq, one] of lines.entries()) insert(`hostile-${nth}`, seq, one);
      if (lines.length > 0) written.set(`hostile-${nth}`, joined(lines));
    }
    const packed = zstdCompressSync(Buffer.alloc(50 * 1024 * 1024));
    for (const [nth, length] of [50 * 1024 * 1024, 10, -1, 2 ** 52, 'x', null].entries())
      insert(`bomb-${nth}`, 0, null, packed, length);
    for (const [nth, seq] of [
      -1,
      -(2n ** 63n),
      2n ** 62n,
      2 ** 53 + 2,
      1.5,
      'x',
      null,
      Buffer.from('1'),
    ].entries())
      insert(`seq-${nth}`, seq, '{}');
    for (let n = 0; n < 40; n++) insert(any(), n, any(), any(), any());
    for (const name of nastyNames) insert(name, 0, '{}');
    for (const table of tables.slice(1)) scribble(db, table, any);
  } finally {
    db.close();
  }
  return written;
}

const tables = [
  'transcript_events',
  'session_nodes',
  'session_windows',
  'transcript_rewrite_watermarks',
  'session_transcript_archives',
  'session_transcript_cold_archives',
];

/** Takes from the schema what would keep the wrong types out, and leaves names and order. */
function loosen(db: DatabaseSync): void {
  db.exec('PRAGMA journal_mode = DELETE; PRAGMA legacy_alter_table = ON');
  for (const { name } of db.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'").all())
    db.exec(`DROP TRIGGER "${String(name)}"`);
  for (const table of tables) {
    const columns = columnsOf(db, table).join(', ');
    db.exec(
      `CREATE TABLE loose (${columns}); INSERT INTO loose SELECT ${columns} FROM ${table}; DROP TABLE ${table}; ALTER TABLE loose RENAME TO ${table}`,
    );
  }
}

function columnsOf(db: DatabaseSync, table: string): string[] {
  return db
    .prepare(`PRAGMA table_info(${table})`)
    .all()
    .map(({ name }) => String(name));
}

function scribble(db: DatabaseSync, table: string, any: () => SQLInputValue): void {
  const columns = columnsOf(db, table);
  const insert = db.prepare(
    `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
  );
  for (let n = 0; n < 30; n++)
    insert.run(...columns.map((name) => (name === 'session_id' && n % 3 === 0 ? `hostile-${n}` : any())));
}

async function aged(file: string, content: Buffer): Promise<void> {
  await writeFile(file, content);
  const at = new Date(Date.now() - days);
  await utimes(file, at, at);
}

/** Some names are more than the file system takes, or are there already. */
async function tried(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    if (
      ![
        'ENAMETOOLONG',
        'EEXIST',
        'EINVAL',
        'EISDIR',
        'ERR_INVALID_ARG_VALUE',
        'EILSEQ',
        'ENOTDIR',
        'ENOENT',
      ].includes(code)
    )
      throw error;
  }
}
