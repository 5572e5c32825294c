import type { FastifyInstance } from 'fastify';
import { onTestFinished } from 'vitest';
import { type Serving, serve } from '../../src/http/listen.ts';
import { createServer, type Limits, type ServerOptions } from '../../src/http/server.ts';
import { hashKey, type Key, makeKey, type Scope } from '../../src/keys.ts';
import type { Webhooks } from '../../src/mailbox.ts';
import type { Nexus } from '../../src/nexus.ts';
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
}

async function parts(options: Options) {
  const { keys = [], limits = {}, proxies = 0, mailboxes = {}, now, over, overWebhooks } = options;
  const stored = await temporaryStore();
  const nouns = nounsOver(stored.store, mailboxes);
  const { sessions, webhooks } = nouns;
  const log: string[] = [];
  const server: ServerOptions = {
    ...nouns,
    sessions: over === undefined ? sessions : over(sessions),
    webhooks: overWebhooks === undefined ? webhooks : overWebhooks(webhooks),
    keys: () => keys,
    version: '1.2.3',
    limits,
    proxies,
    log: (entry) => void log.push(JSON.stringify(entry)),
    ...(now === undefined ? {} : { now }),
  };
  return { stored, sessions, webhooks, log, server };
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
