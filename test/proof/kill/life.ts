import { mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Webhooks } from '../../../src/mailbox.ts';
import type { Store } from '../../../src/stores/store.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import { freePort } from '../../freeport.ts';
import type { Broken } from '../part.ts';
import { newWorld, type Ran, type Running, type Serving, type World } from '../world.ts';
import { type Growing, openFileEra } from './fileera.ts';
import { openRecipient, type Recipient } from './recipient.ts';
import { openSender, secret, type Sender } from './sender.ts';
import { openSqliteEra } from './sqliteera.ts';
import { openTruth, type Truth } from './truth.ts';

export const jobs = ['upload', 'backfill', 'pull-webhooks'] as const;
export type Job = (typeof jobs)[number];

/** What of a job's report the proof compares with what is stored. */
export interface Said {
  ok: boolean;
  bytes?: number;
  delivered?: number;
  failed: { item: string; reason: string }[];
  skipped?: number;
  agents?: Record<string, unknown>;
}

/** How a world stores: which names of the environment say so, and the same store for the proof to look into. */
export interface Place {
  name: string;
  /** Jobs ask `nexus serve`; else they open the store themselves, beside it. */
  overHttp: boolean;
  env: Record<string, string>;
  openStore: (world: World, serveDir: string) => Promise<Store>;
}

/**
 * One world that lives through all kills of a series: OpenClaw's two eras that grow, webhooks that come, an agent that
 * reads its inbox, `nexus serve`, and jobs.
 */
export interface Life {
  overHttp: boolean;
  /** The most that one job has asked the endpoint to store and was not answered yet. */
  inFlightBytes: number;
  store: Store;
  webhooks: Webhooks;
  truth: Truth;
  sender: Sender;
  recipient: Recipient;
  broken: (what: string, again?: string) => void;
  again: () => string;
  /** OpenClaw goes on; answers the names that it did something to. */
  step(times: number): Promise<string[]>;
  places(): ReturnType<Growing['places']>;
  prune(): Promise<void>;
  start(job: Job): Running;
  startArgs(args: readonly string[]): Running;
  /** Resolves when this process works on an agent, or has ended. */
  atWork(running: Running): Promise<void>;
  serving: () => Serving;
  startServing(): Promise<Serving>;
  /** A start that is not waited for. */
  beginServing(): Running;
  close(): Promise<void>;
}

export interface LifeOptions {
  directory: string;
  place: Place;
  random: () => number;
  broken: (one: Broken) => void;
  /** Says which cycle it is. */
  again: () => string;
}

const agent = 'main';
const chunkBytes = 4 * 1024;
const concurrency = 3;

export async function newLife({ directory, place, random, broken, again }: LifeOptions): Promise<Life> {
  const world = await newWorld(directory);
  await world.configure({
    notify: { by: 'none' },
    settleMinutes: 0,
    chunkBytes,
    concurrency,
    archiveAfterHours: 0,
    // More than a restart takes, in all: a job outlives one.
    retry: { tries: 6, baseMs: 50, maxMs: 400 },
    mailboxes: { [agent]: { sources: { github: { verify: 'github', secret } } } },
  });
  const workspace = path.join(world.stateDir, 'workspace');
  await mkdir(workspace);
  const serveDir = place.overHttp ? path.join(world.home, 'endpoint') : world.dataDir;
  const serveEnv = { ...place.env, NEXUS_DATA_DIR: serveDir };
  const truth = openTruth(again);
  const files = await openFileEra(world.stateDir, agent, truth, random);
  const rows = await openSqliteEra(world.stateDir, 'rows', truth, random);
  const eras = [files, files, files, rows];
  const sender = openSender({ agent, random, pauseMs: 120, connections: 2, broken, again });
  let port = await freePort();
  let serving = await world.serve(serveEnv, port);
  sender.sendTo(serving.url);
  const store = await place.openStore(world, serveDir);
  const webhooks = openWebhooks(store);
  const { acknowledged } = sender;
  const recipient = await openRecipient({ agent, workspace, acknowledged, random, broken, again });

  function startArgs(args: readonly string[]): Running {
    const endpoint = { NEXUS_ENDPOINT: `http://127.0.0.1:${port}` };
    return world.start(args, place.overHttp ? endpoint : place.env);
  }

  return {
    overHttp: place.overHttp,
    inFlightBytes: chunkBytes * concurrency,
    store,
    webhooks,
    truth,
    sender,
    recipient,
    again,
    broken: (what, how) => broken({ what, again: how === undefined ? again() : `${again()}\n${how}` }),
    async step(times) {
      const names: string[] = [];
      for (let n = 0; n < times; n++) {
        const era = eras[Math.floor(random() * eras.length)] ?? files;
        names.push(await era.step());
      }
      return names;
    },
    async places() {
      return [...(await files.places()), ...(await rows.places())];
    },
    prune: () => files.prune(),
    start: (job) => startArgs([job, '--json']),
    startArgs,
    async atWork({ pid, ended: end }) {
      const over = new AbortController();
      const ending = end.finally(() => over.abort());
      const locks = path.join(world.dataDir, 'host', 'locks');
      while (!over.signal.aborted && !(await holders(locks)).some((text) => text.includes(`(pid ${pid} `)))
        await Promise.race([sleep(2), ending]);
    },
    serving: () => serving,
    beginServing() {
      return world.start(['serve', '--port', String(port)], serveEnv);
    },
    async startServing() {
      try {
        serving = await world.serve(serveEnv, port);
      } catch (error) {
        if (!String(error).includes('EADDRINUSE') && !String(error).includes('in use')) throw error;
        // Somebody else on this machine got it in between.
        port = await freePort();
        serving = await world.serve(serveEnv, port);
      }
      sender.sendTo(serving.url);
      return serving;
    },
    async close() {
      await sender.stop();
      serving.kill('SIGTERM');
      await ended(serving, 'serve', broken, again);
      await store.close();
      rows.close();
    },
  };
}

/** Who says to hold a lock on an agent; who died says so still. */
async function holders(locks: string): Promise<string[]> {
  const names = await readdir(locks).catch(() => []);
  const held = names.filter((name) => name.endsWith('.holder'));
  return await Promise.all(held.map((name) => readFile(path.join(locks, name), 'utf8').catch(() => '')));
}

const hungMs = 120_000;

/** Waits for the end of a run; one that does not come in two minutes is a hang, and broken. */
export async function ended(
  running: Running,
  what: string,
  broken: (one: Broken) => void,
  again: () => string,
): Promise<Ran> {
  const over = new AbortController();
  const late = sleep(hungMs, undefined, { signal: over.signal, ref: false }).then(
    () => {
      broken({ what: `${what} did not end within ${hungMs / 1000} s`, again: again() });
      running.kill('SIGKILL');
    },
    () => undefined,
  );
  const ran = await running.ended;
  over.abort();
  await late;
  return ran;
}

/** The one object that `--json` prints; `undefined` where a run ended before it said anything. */
export function saidBy({ stdout }: Ran): Said | undefined {
  try {
    const said: unknown = JSON.parse(stdout);
    return isSaid(said) ? said : undefined;
  } catch {
    return undefined;
  }
}

function isSaid(said: unknown): said is Said {
  return (
    typeof said === 'object' &&
    said !== null &&
    'ok' in said &&
    'failed' in said &&
    Array.isArray(said.failed)
  );
}
