import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { FastifyInstance } from 'fastify';
import { onTestFinished } from 'vitest';
import { type Serving, serve } from '../../src/http/listen.ts';
import { createServer, type Limits, type ServerOptions } from '../../src/http/server.ts';
import { hashKey, type Key, makeKey, type Scope } from '../../src/keys.ts';
import type { Webhooks } from '../../src/mailbox.ts';
import type { Nexus } from '../../src/nexus.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { type TestStore, temporaryStore } from '../port/local.ts';
import { nounsOver, type Settings } from './nouns.ts';

export interface Endpoint extends TestStore {
  app: FastifyInstance;
  sessions: Nexus;
  webhooks: Webhooks;
  /** The log so far, an entry an item. */
  log: string[];
}

interface Options {
  keys?: Key[];
  limits?: Partial<Limits>;
  proxies?: number;
  /** What is configured of senders. */
  mailboxes?: Settings | (() => Settings);
  now?: () => Date;
  /** Puts something between the endpoint and its store. */
  over?: (sessions: Nexus) => Nexus;
  overWebhooks?: (webhooks: Webhooks) => Webhooks;
  /** Keeps an index of usage too. */
  usage?: boolean;
}

async function parts(options: Options) {
  const { keys = [], limits = {}, proxies = 0, mailboxes = {}, now, over, overWebhooks, usage } = options;
  const stored = await temporaryStore();
  const index = usage === true ? await temporaryUsage(stored.store) : undefined;
  const nouns = nounsOver(stored.store, mailboxes);
  const { sessions, webhooks } = nouns;
  const log: string[] = [];
  const server: ServerOptions = {
    ...nouns,
    sessions: over === undefined ? sessions : over(sessions),
    webhooks: overWebhooks === undefined ? webhooks : overWebhooks(webhooks),
    keys: () => keys,
    version: '1.2.3',
    usage: index,
    limits,
    proxies,
    log: (entry) => void log.push(JSON.stringify(entry)),
    ...(now === undefined ? {} : { now }),
  };
  return { stored, sessions, webhooks, log, server };
}

async function temporaryUsage(store: Store): Promise<Usage> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-usage-'));
  const usage = await openUsage({ store, file: path.join(directory, 'index.sqlite'), timeZone: 'UTC' });
  onTestFinished(async () => {
    await usage.close();
    await rm(directory, { recursive: true, force: true });
  });
  return usage;
}

/** An endpoint on an embedded store, asked by `app.inject`; gone when the test is over. */
export async function openEndpoint(options: Options = {}): Promise<Endpoint> {
  const { stored, sessions, webhooks, log, server } = await parts(options);
  const app = createServer(server);
  onTestFinished(async () => {
    await app.close();
    await stored.remove();
  });
  return { ...stored, app, sessions, webhooks, log };
}

/** An endpoint that listens on a free loopback port; stopped when the test is over. */
export async function listeningEndpoint(
  options: Options & { drainMs?: number; host?: string } = {},
): Promise<TestStore & Serving & { sessions: Nexus; webhooks: Webhooks; log: string[]; stop: () => void }> {
  const { stored, sessions, webhooks, log, server } = await parts(options);
  const { host = '127.0.0.1', drainMs = 500 } = options;
  const stop = new AbortController();
  const serving = await serve({ ...server, host, port: 0, signal: stop.signal, drainMs });
  onTestFinished(async () => {
    stop.abort();
    await serving.closed;
    await stored.remove();
  });
  return { ...stored, ...serving, sessions, webhooks, log, stop: () => stop.abort() };
}

/** A key, and what its holder sends. */
export function keyWith(scopes: Scope[], agents: '*' | string[] = '*'): { key: Key; text: string } {
  const text = makeKey();
  return { key: { name: `${scopes.join('-')}-key`, hash: hashKey(text), agents, scopes }, text };
}

export const aSession = '0b6c9d1e-5b8f-4c07-9f53-3f4a5c1d2e3f';
