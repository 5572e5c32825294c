import { createHash } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Config, configSchema } from '../../../src/config.ts';
import { NexusError } from '../../../src/errors.ts';
import { type PullOutcome, runPull } from '../../../src/jobs/pull.ts';
import { nobody } from '../../../src/jobs/pullreport.ts';
import type { PullSurroundings } from '../../../src/jobs/pullsite.ts';
import type { Mailbox } from '../../../src/mailbox.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import { type Snapshot, snapshotOf } from './snapshot.ts';
import { newWorld, type World } from '../world.ts';

/** A world with something of every kind in it, made through the built binary. */
export interface Made {
  world: World;
  config: Config;
  env: Record<string, string>;
  key: string;
  sessions: string;
  inbox: string;
  storeDir: string;
  /** Names of transcripts of the host, and those of them that grew after they were first shipped. */
  transcripts: string[];
  grown: string[];
  /** Names of files that were delivered and that the agent took, of items that are pending still. */
  deliveredBefore: string[];
}

const key = 'nxk_a-key-of-this-proof';
const agent = 'main';

export async function makeWorld(directory: string): Promise<Made> {
  const world = await newWorld(directory);
  const sessions = path.join(world.stateDir, 'agents', agent, 'sessions');
  const workspace = path.join(world.stateDir, 'workspace');
  await mkdir(sessions, { recursive: true });
  await mkdir(workspace);
  const hash = createHash('sha256').update(key).digest('hex');
  const settings = { host: 'box', notify: { by: 'none' }, afterUpload: 'keep' } as const;
  const keys = [{ name: 'all', hash, agents: '*', scopes: ['upload', 'pull', 'webhook', 'read'] }];
  await world.configure({ ...settings, keys });
  const made: Made = {
    world,
    config: configSchema.parse({ ...settings, dataDir: world.dataDir }),
    env: { OPENCLAW_STATE_DIR: world.stateDir, HOME: world.home },
    key,
    sessions,
    inbox: path.join(workspace, 'inbox', 'webhooks'),
    storeDir: path.join(world.dataDir, 'store'),
    transcripts: ['a1', 'b2', 'c3', 'd4', 'e5'].map((name) => `${name}000000-0000-4000-8000-000000000000`),
    grown: [],
    deliveredBefore: [],
  };
  await writeTranscripts(made);
  await ended(made, ['backfill']);
  made.grown = made.transcripts.slice(3);
  for (const name of made.grown) await grow(made, name, 40);
  await ended(made, ['backfill']);
  await receiveMail(made, 0, 10);
  await ended(made, ['pull-webhooks']);
  await receiveMail(made, 10, 16);
  made.deliveredBefore = await deliverUnacknowledged(made);
  await receiveMail(made, 16, 24);
  await ended(made, ['usage', '--json']);
  // What upload is yet to ship.
  for (const name of made.transcripts) await grow(made, name, 3);
  return made;
}

async function ended({ world }: Made, args: string[]): Promise<void> {
  const { status, stdout, stderr } = await world.run(args);
  if (status !== 0) throw new Error(`nexus ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
}

async function writeTranscripts({ sessions, transcripts }: Made): Promise<void> {
  const current = Object.fromEntries(
    transcripts.slice(3).map((id, n) => [`agent:main:chat-${n}`, { sessionId: id, updatedAt: Date.now() }]),
  );
  await writeFile(path.join(sessions, 'sessions.json'), JSON.stringify(current));
  for (const [n, id] of transcripts.entries()) {
    const header = { type: 'session', version: 3, id, timestamp: timeOf(0) };
    const text = `${[JSON.stringify(header), ...linesOf(id, 0, 60 + 20 * n)].join('\n')}\n`;
    await aged(path.join(sessions, `${id}.jsonl`), (file) => writeFile(file, text));
  }
}

export async function grow({ sessions }: Made, id: string, lines: number): Promise<void> {
  const file = path.join(sessions, `${id}.jsonl`);
  const from = (await readFile(file, 'utf8')).split('\n').length;
  await aged(file, (at) => appendFile(at, `${linesOf(id, from, from + lines).join('\n')}\n`));
}

async function aged(file: string, write: (file: string) => Promise<void>): Promise<void> {
  await write(file);
  const hourAgo = new Date(Date.now() - 3_600_000);
  await utimes(file, hourAgo, hourAgo);
}

function linesOf(id: string, from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, n) => {
    const usage = { input: 100 + n, output: 7 * n, cacheRead: n, cacheWrite: 3, cost: { total: 0.01 * n } };
    const said = { role: 'assistant', provider: 'openai', model: `gpt-${n % 3}`, content: [], usage };
    return JSON.stringify({
      type: 'message',
      id: `${id}-${from + n}`,
      timestamp: timeOf(from + n),
      message: said,
    });
  });
}

function timeOf(n: number): string {
  return new Date(Date.UTC(2026, 9, 20) + n * 600_000).toISOString();
}

/** Some as JSON, some as bytes that are no text, some too large for a row. */
async function receiveMail(
  { world }: Made,
  from: number,
  to: number,
  end: 'SIGTERM' | 'SIGKILL' = 'SIGTERM',
): Promise<void> {
  const serving = await world.serve();
  try {
    for (let n = from; n < to; n++) {
      const large = n % 4 === 3;
      const plain = n % 4 !== 2;
      const text = JSON.stringify({ n, text: `the event number ${n} `.repeat(large ? 2000 : 3) });
      const answer = await fetch(`${serving.url}/api/webhook/${agent}?source=github`, {
        method: 'POST',
        headers: {
          'content-type': plain ? 'application/json' : 'application/octet-stream',
          'x-functions-key': key,
          'x-github-event': 'push',
          'x-github-delivery': `d${n}`,
        },
        body: plain ? text : Buffer.from([0xff, 0xfe, ...Buffer.from(text)]),
      });
      if (answer.status !== 202) throw new Error(`webhook ${n}: ${answer.status} ${await answer.text()}`);
    }
  } finally {
    serving.kill(end);
    await serving.ended;
  }
}

/** How this process pulls. `mailbox` is what its mailbox does otherwise. */
export function pullHere(made: Made, mailbox: Partial<Mailbox> = {}): Promise<PullOutcome> {
  const surroundings: PullSurroundings = {
    config: made.config,
    env: made.env,
    openMailbox: async () => ({ ...openWebhooks(await openLocalStore(made.storeDir)), ...mailbox }),
    signal: new AbortController().signal,
    now: () => new Date(),
    warn: () => undefined,
    progress: () => undefined,
    tell: () => Promise.resolve({ notified: nobody(), failed: [] }),
  };
  return runPull({ agents: [] }, surroundings);
}

/** Into the inbox and the ledger, but not out of what is pending: as where the connection was lost then. */
async function deliverUnacknowledged(made: Made): Promise<string[]> {
  const before = new Set(await readdir(made.inbox));
  const lost = new NexusError('unavailable', 'The connection was lost.');
  await pullHere(made, { acknowledge: () => Promise.reject(lost) });
  const names = (await readdir(made.inbox)).filter((name) => name.endsWith('.json') && !before.has(name));
  // The agent has read them.
  for (const name of await readdir(made.inbox))
    if (name.endsWith('.json')) await rm(path.join(made.inbox, name));
  return names;
}

/** What a `serve` leaves that is killed after it has answered: its database, and beside it the log of its commits. */
export async function leaveLog(made: Made): Promise<Snapshot> {
  await receiveMail(made, 24, 32, 'SIGKILL');
  return await snapshotOf(made.world.home, (file) => file.endsWith('-shm'));
}
