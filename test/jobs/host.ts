import { appendFile, cp, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'vitest';
import { type Config, configSchema } from '../../src/config.ts';
import { type JobRequest, type JobSurroundings, runJob } from '../../src/jobs/job.ts';
import type { Card, Nexus } from '../../src/nexus.ts';
import type { Report } from '../../src/report.ts';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';

const fixtures = path.join(import.meta.dirname, '..', 'fixtures', 'openclaw');

/** A machine with OpenClaw's files on it and an embedded store, in a temporary directory. */
export interface Host {
  root: string;
  stateDir: string;
  dataDir: string;
  /** Where the agent's file-era transcripts are. */
  sessions(agent?: string): string;
  /** The store that is shipped to, behind the job's back. */
  openStore(): Promise<Store>;
  /** Writes a file among the agent's sessions, last changed `ageMs` before now; creates `sessions.json` if absent. */
  write(
    name: string,
    content: string | Uint8Array,
    options?: { agent?: string; ageMs?: number },
  ): Promise<string>;
  append(name: string, content: string, options?: { agent?: string; ageMs?: number }): Promise<void>;
  /** Says which session ids are current, so that their files are active. */
  current(ids: string[], agent?: string): Promise<void>;
  backfill(options?: Partial<JobRequest> & HostOptions): Promise<Report>;
  upload(options?: Partial<JobRequest> & HostOptions): Promise<Report>;
  /** Every stored transcript's bytes, by `agent/transcript`. */
  stored(): Promise<Map<string, Buffer>>;
  cards(): Promise<Card[]>;
  remove(): Promise<void>;
}

export interface HostOptions {
  config?: Partial<Config>;
  signal?: AbortSignal;
  now?: () => Date;
  /** Between the job and the store, to fail or to watch. */
  through?: (nexus: Nexus) => Nexus;
}

/** Where a host ships to; all that is opened is opened on the same data. */
export interface Archive {
  open: () => Promise<Nexus>;
  /** What is behind it, for a test that goes behind the job's back. */
  openStore: () => Promise<Store>;
  close: () => Promise<void>;
}

let elsewhere: (() => Promise<Archive>) | undefined;

/** Lets all hosts that are made from now on ship to another archive than the embedded one. */
export function shipTo(makeArchive: () => Promise<Archive>): void {
  elsewhere = makeArchive;
}

/**
 * A test that changes the files of the embedded store. Where hosts ship to another one it is not there at all: that
 * is no test left out, but one of something else.
 */
export function testFiles(name: string, body: () => Promise<void>): void {
  const declare: (name: string, body: () => Promise<void>) => void = test;
  if (elsewhere === undefined) declare(name, body);
}

function embedded(dataDir: string): Archive {
  const openStore = (): Promise<Store> => openLocalStore(path.join(dataDir, 'store'));
  return { openStore, open: async () => openSessions(await openStore()), close: () => Promise.resolve() };
}

export async function makeHost(fixture?: string): Promise<Host> {
  const root = await mkdtemp(path.join(tmpdir(), 'nexus-host-'));
  const stateDir = path.join(root, 'openclaw');
  const dataDir = path.join(root, 'data');
  if (fixture === undefined)
    await mkdir(path.join(stateDir, 'agents', 'main', 'sessions'), { recursive: true });
  else await cp(path.join(fixtures, fixture), stateDir, { recursive: true, preserveTimestamps: true });

  const sessions = (agent = 'main') => path.join(stateDir, 'agents', agent, 'sessions');
  const { open, openStore, close } = (await elsewhere?.()) ?? embedded(dataDir);

  async function touch(file: string, ageMs: number): Promise<void> {
    const at = new Date(Date.now() - ageMs);
    await utimes(file, at, at);
  }

  async function run(request: JobRequest, options: HostOptions): Promise<Report> {
    const around: JobSurroundings = {
      config: configSchema.parse({ dataDir, host: 'box', chunkBytes: 64 * 1024, ...options.config }),
      env: { OPENCLAW_STATE_DIR: stateDir, HOME: root },
      openNexus: async () => (options.through ?? ((nexus: Nexus) => nexus))(await open()),
      signal: options.signal ?? new AbortController().signal,
      now: options.now ?? (() => new Date()),
      warn: () => undefined,
      progress: () => undefined,
    };
    return (await runJob(request, around)).report;
  }

  const plain = { agents: [], dryRun: false, all: false, verify: false };
  return {
    root,
    stateDir,
    dataDir,
    sessions,
    openStore,
    async write(name, content, { agent, ageMs = 3_600_000 } = {}) {
      await mkdir(sessions(agent), { recursive: true });
      const file = path.join(sessions(agent), name);
      await writeFile(file, content);
      await touch(file, ageMs);
      return file;
    },
    async append(name, content, { agent, ageMs = 1_800_000 } = {}) {
      const file = path.join(sessions(agent), name);
      await appendFile(file, content);
      await touch(file, ageMs);
    },
    async current(ids, agent = 'main') {
      const entries = Object.fromEntries(ids.map((id, n) => [`agent:${agent}:work-${n}`, { sessionId: id }]));
      await mkdir(sessions(agent), { recursive: true });
      await writeFile(path.join(sessions(agent), 'sessions.json'), JSON.stringify(entries));
    },
    backfill: ({ config, signal, now, through, ...request } = {}) =>
      run(
        { ...plain, job: 'backfill', everything: true, ...request },
        {
          ...(config && { config }),
          ...(signal && { signal }),
          ...(now && { now }),
          ...(through && { through }),
        },
      ),
    upload: ({ config, signal, now, through, ...request } = {}) =>
      run(
        { ...plain, job: 'upload', everything: false, ...request },
        {
          ...(config && { config }),
          ...(signal && { signal }),
          ...(now && { now }),
          ...(through && { through }),
        },
      ),
    async stored() {
      const nexus = await open();
      const found = new Map<string, Buffer>();
      for await (const { agent, transcript } of nexus.list()) {
        const pieces: Uint8Array[] = [];
        for await (const piece of nexus.read(agent, transcript)) pieces.push(piece);
        found.set(`${agent}/${transcript}`, Buffer.concat(pieces));
      }
      await nexus.close();
      return found;
    },
    async cards() {
      const nexus = await open();
      const cards: Card[] = [];
      for await (const card of nexus.list()) cards.push(card);
      await nexus.close();
      return cards;
    },
    async remove() {
      await close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** Lines of a transcript as OpenClaw writes them: a header and `count` messages of `text`. */
export function transcript(id: string, count: number, text = 'hello'): string {
  const lines = [
    { type: 'session', version: 3, id, timestamp: '2026-11-20T10:00:00.000Z', cwd: '/' },
    ...messages(count, text),
  ];
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

/** Message lines only, to append. */
export function messageLines(count: number, text: string): string {
  return messages(count, text)
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
}

function messages(count: number, text: string): object[] {
  return Array.from({ length: count }, (_, n) => ({
    type: 'message',
    id: n.toString(16).padStart(8, '0'),
    timestamp: `2026-11-20T10:00:${String(n % 60).padStart(2, '0')}.000Z`,
    message: { role: 'user', content: text },
  }));
}

export const ids = {
  a: 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa',
  b: 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb',
  c: 'cccccccc-cccc-4ccc-8ccc-cccccccccccc',
};
