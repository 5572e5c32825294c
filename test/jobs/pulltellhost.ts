import { existsSync } from 'node:fs';
import { mkdir, readFile, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { NexusError } from '../../src/errors.ts';
import type { Batch, BatchItem, BatchState, Deliveries } from '../../src/jobs/deliveries.ts';
import type { PullReport } from '../../src/jobs/pullreport.ts';
import { tellDue } from '../../src/jobs/pulltell.ts';
import { valueAt } from '../../src/settings.ts';
import { type Answer, completed, gateway, says, token } from '../openclaw/gateway.ts';
import { makePullHost, type PullHost } from './pullhost.ts';

export type Fault = 'before' | 'after';

/** By the names of the calls so far. */
export type Hit = (calls: readonly string[]) => boolean;

/** From 1. */
export function nth(at: number): Hit {
  return (calls) => calls.length === at;
}

/** The n-th of a name. */
export function nthOf(name: string, at: number): Hit {
  return (calls) => calls.at(-1) === name && calls.filter((call) => call === name).length === at;
}

const minuteMs = 60_000;
/** How long a gateway makes one run of what comes with the same key. */
const rememberedMs = 5 * minuteMs;

/** Everything that telling does, in order, each a chance to fail. */
export interface Faults {
  /** What failed, once it did. */
  failed: () => string | undefined;
  /** Begins a call, and says whether it fails. */
  enter: (name: string) => Fault | undefined;
  ledger: (deliveries: Deliveries) => Deliveries;
}

/**
 * The first call that is `hit`, the last of those so far, fails before or after it was done: as an answer that was
 * lost, or, with `dead`, as a process that died there, after which nothing reaches anything. `isDead` says it of what
 * is not a call here.
 */
export function faults(hit: Hit, fault: Fault, dead: boolean, isDead = () => false): Faults {
  const calls: string[] = [];
  let failed: string | undefined;
  const error = () =>
    dead ? new Error('The process is dead.') : new NexusError('unavailable', 'The answer was lost.');
  function enter(name: string): Fault | undefined {
    if (dead && (failed !== undefined || isDead())) return 'before';
    calls.push(name);
    if (failed !== undefined || !hit(calls)) return undefined;
    failed = name;
    return fault;
  }
  function through<Given extends unknown[], Result>(name: string, work: (...given: Given) => Result) {
    return (...given: Given): Result => {
      const fails = enter(name);
      if (fails === 'before') throw error();
      const result = work(...given);
      if (fails === 'after') throw error();
      return result;
    };
  }
  /** The name of a file is asked for to read it, and again when it was read. */
  function watched(item: BatchItem): BatchItem {
    const { file } = item;
    let asked = 0;
    let fails: Fault | undefined;
    return Object.defineProperty({ ...item }, 'file', {
      enumerable: true,
      get() {
        if (++asked === 1) fails = enter('read');
        if (fails === (asked === 1 ? 'before' : 'after')) throw error();
        return file;
      },
    });
  }
  return {
    failed: () => failed,
    enter,
    ledger: (deliveries) => ({
      ...deliveries,
      closeBatch: through('closeBatch', deliveries.closeBatch),
      batches: through('batches', deliveries.batches),
      itemsOf: through('itemsOf', (batch: string) => deliveries.itemsOf(batch).map(watched)),
      messageOf: through('messageOf', deliveries.messageOf),
      updateBatch: through('updateBatch', deliveries.updateBatch),
    }),
  };
}

/** What an agent got: one turn. */
export interface Turn {
  batch: string;
  message: string;
  at: number;
  key?: string;
}

const batchIn = (message: string): string => /^nexus-batch: (\S+)$/m.exec(message)?.[1] ?? '';
export const isRepeat = (message: string): boolean => message.startsWith('This is a repeat');

/** A host with a clock of the test's. */
export interface Teller {
  host: PullHost;
  now: () => number;
  later: (minutes: number) => void;
  pull: (faulty?: Faults) => Promise<PullReport>;
  batches: (...states: BatchState[]) => Batch[];
}

function programsOf(host: PullHost): string {
  return path.join(host.root, 'bin');
}

export async function makeTeller(by: 'hooks' | 'cli'): Promise<Teller> {
  const host = await makePullHost();
  let at = Date.now();
  const config = { notify: { ...host.config().notify, by } };
  const programs = `${programsOf(host)}:/usr/bin:/bin`;
  const around = { OPENCLAW_STATE_DIR: path.join(host.root, 'openclaw'), HOME: host.root, PATH: programs };
  return {
    host,
    now: () => at,
    later: (minutes) => void (at += minutes * minuteMs),
    pull: (faulty) =>
      host.pull({
        ...(faulty === undefined ? {} : { ledger: faulty.ledger }),
        config,
        tell: tellDue(host.config(config), around),
        now: () => new Date(at),
      }),
    batches(...states) {
      const deliveries = host.deliveries();
      const found = deliveries.batches(states);
      deliveries.close();
      return found;
    },
  };
}

/** OpenClaw's hooks, which remember keys as a gateway does, and the agent behind them. */
export interface Gateway {
  url: string;
  turns: Turn[];
  /** What is answered to what is taken; `full` takes nothing. */
  answer: Answer;
  /** The agent's answer stands in a transcript in this directory. */
  sessions: string | undefined;
  faulty: Faults | undefined;
  now: () => number;
}

export const full = says(503, { ok: false, error: 'too many runs' });
export const noWord = says(200, { ok: true, runId: 'run-1' });
export const finished = completed({ status: 'ok' });
export const wentWrong = completed({ status: 'error' });

export async function makeGateway(): Promise<Gateway> {
  const made: Gateway = {
    url: '',
    turns: [],
    answer: finished,
    sessions: undefined,
    faulty: undefined,
    now: Date.now,
  };
  const { url } = await gateway((response, seen, number) => {
    const fails = made.faulty?.enter('hook');
    const message = String(valueAt(seen.body, ['message']));
    const key = String(seen.headers['idempotency-key']);
    if (fails === 'before') {
      response.destroy();
      return;
    }
    const joined = made.turns.some(
      (turn) => turn.key === key && turn.message === message && made.now() - turn.at < rememberedMs,
    );
    const turn = { batch: batchIn(message), key, message, at: made.now() };
    const taken = made.answer === full || joined ? Promise.resolve() : takeTurn(made, turn);
    void taken.then(() => {
      if (fails === 'after') response.destroy();
      else made.answer(response, seen, number);
    });
  });
  made.url = url;
  return made;
}

async function takeTurn({ turns, sessions }: Gateway, turn: Turn): Promise<void> {
  turns.push(turn);
  if (sessions === undefined) return;
  const id = `aaaaaaaa-aaaa-4aaa-8aaa-${String(turns.length).padStart(12, '0')}`;
  const timestamp = new Date(turn.at).toISOString();
  const entries = [
    { type: 'session', version: 3, id, timestamp, cwd: '/' },
    { type: 'message', message: { role: 'user', content: turn.message } },
    { type: 'message', message: { role: 'assistant', content: 'Done.', stopReason: 'stop' } },
  ];
  await mkdir(sessions, { recursive: true });
  const file = path.join(sessions, `${id}.jsonl`);
  await writeFile(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  await utimes(file, turn.at / 1000, turn.at / 1000);
}

/** Starts again for a new host whose agent's tools cannot see its inbox, so that messages carry what came. */
export async function connect(hooks: Gateway, { host, now }: Teller): Promise<void> {
  Object.assign(hooks, { turns: [], answer: finished, sessions: undefined, faulty: undefined, now });
  await writeFile(
    path.join(host.root, 'openclaw', 'openclaw.json'),
    JSON.stringify({
      gateway: { port: Number(new URL(hooks.url).port) },
      hooks: { enabled: true, token },
      agents: { defaults: { sandbox: { mode: 'all', workspaceAccess: 'none' } } },
    }),
  );
}

export interface Command {
  /** The next call fails before or after the agent got the message. */
  failOnce: (fault: Fault) => Promise<void>;
  wasCalled: () => boolean;
  turns: () => Promise<Turn[]>;
}

/** A host with an `openclaw` on its PATH that keeps what it is told. */
export async function withCommandLine(): Promise<{ teller: Teller; command: Command }> {
  const teller = await makeTeller('cli');
  const directory = programsOf(teller.host);
  await mkdir(directory);
  await writeFile(
    path.join(directory, 'openclaw'),
    `#!/bin/sh
cd '${directory}' || exit 9
: > called
fault=$(cat fails 2> /dev/null); rm -f fails
[ "$fault" = before ] && exit 1
cat "$7" >> taken; printf '\\0' >> taken
[ "$fault" = after ] && exit 1
echo '{"runId":"r","status":"ok"}'
`,
    { mode: 0o755 },
  );
  return {
    teller,
    command: {
      failOnce: (fault) => writeFile(path.join(directory, 'fails'), fault),
      wasCalled: () => existsSync(path.join(directory, 'called')),
      async turns() {
        const messages = (await readFile(path.join(directory, 'taken'), 'utf8')).split('\0').slice(0, -1);
        return messages.map((message) => ({ batch: batchIn(message), message, at: 0 }));
      },
    },
  };
}
