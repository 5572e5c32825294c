import type { FastifyInstance } from 'fastify';
import { onTestFinished } from 'vitest';
import { type Serving, serve } from '../../src/http/listen.ts';
import { createServer, type Limits } from '../../src/http/server.ts';
import { hashKey, type Key, makeKey, type Scope } from '../../src/keys.ts';
import type { Nexus } from '../../src/nexus.ts';
import { openSessions } from '../../src/sessions.ts';
import { type TestStore, temporaryStore } from '../port/local.ts';

export interface Endpoint extends TestStore {
  app: FastifyInstance;
  sessions: Nexus;
  /** The log so far, line by line. */
  log: string[];
}

interface Options {
  keys?: Key[];
  limits?: Partial<Limits>;
  /** Puts something between the endpoint and its store. */
  over?: (sessions: Nexus) => Nexus;
}

async function parts({ keys = [], limits = {}, over = (sessions) => sessions }: Options) {
  const stored = await temporaryStore();
  const sessions = openSessions(stored.store);
  const log: string[] = [];
  const server = {
    sessions: over(sessions),
    keys: () => keys,
    version: '1.2.3',
    limits,
    log: { write: (line: string) => void log.push(line) },
  };
  return { stored, sessions, log, server };
}

/** An endpoint on an embedded store, asked by `app.inject`; gone when the test is over. */
export async function openEndpoint(options: Options = {}): Promise<Endpoint> {
  const { stored, sessions, log, server } = await parts(options);
  const app = createServer(server);
  onTestFinished(async () => {
    await app.close();
    await stored.remove();
  });
  return { ...stored, app, sessions, log };
}

/** An endpoint that listens on a free loopback port; stopped when the test is over. */
export async function listeningEndpoint(
  options: Options & { drainMs?: number; host?: string } = {},
): Promise<TestStore & Serving & { sessions: Nexus; log: string[]; stop: () => void }> {
  const { stored, sessions, log, server } = await parts(options);
  const { host = '127.0.0.1', drainMs = 500 } = options;
  const stop = new AbortController();
  const serving = await serve({ ...server, host, port: 0, signal: stop.signal, drainMs });
  onTestFinished(async () => {
    stop.abort();
    await serving.closed;
    await stored.remove();
  });
  return { ...stored, ...serving, sessions, log, stop: () => stop.abort() };
}

/** A key, and what its holder sends. */
export function keyWith(scopes: Scope[], agents: '*' | string[] = '*'): { key: Key; text: string } {
  const text = makeKey();
  return { key: { name: `${scopes.join('-')}-key`, hash: hashKey(text), agents, scopes }, text };
}

export const aSession = '0b6c9d1e-5b8f-4c07-9f53-3f4a5c1d2e3f';
