import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { hashKey, makeKey, type Scope } from '../../../src/keys.ts';
import { newWorld, type Serving, type World } from '../world.ts';
import { ask, type Asked } from './asked.ts';
import { type Canaries, plantCanaries } from './canaries.ts';
import type { Answer, Door } from './wire.ts';

/** An endpoint with two agents who may know nothing of each other, each with a key, and canaries all around. */
export interface Stand {
  world: World;
  serving: Serving;
  door: Door;
  settings: object;
  /** `alpha` is who attacks and `beta` who is attacked; `operator` may read everything. */
  keys: { alpha: string; beta: string; operator: string };
  /** In everything that is beta's and that alpha cannot know. */
  betas: string;
  canaries: Canaries;
  /** What exists, for requests that reach something. */
  known: {
    item: string;
    pending: string;
    betaItem: string;
    transcript: string;
    asset: string;
    cookie: string;
  };
  /** Has ended, which nobody asked it to. */
  gone(): boolean;
  /** All that is stored of beta, as its own key sees it. */
  betaNow(): Promise<string>;
}

export const hubSecret = 'hub-secret-of-alpha';

export async function openStand(directory: string): Promise<Stand> {
  const token = randomBytes(9).toString('hex');
  const world = await newWorld(directory);
  const tmp = path.join(world.home, 'tmp');
  await mkdir(tmp);
  await mkdir(path.join(world.stateDir, 'agents', 'alpha', 'sessions'), { recursive: true });
  await mkdir(path.join(world.stateDir, 'workspace-alpha'));
  const betas = `CANARY-BETA-${token}`;
  const keys = { alpha: makeKey(), beta: makeKey(), operator: makeKey() };
  const settings = settingsOf(keys, betas);
  await world.configure(settings);
  const canaries = await plantCanaries(
    directory,
    world.home,
    [world.dataDir, world.stateDir, path.join(tmp, 'node-compile-cache')],
    token,
  );
  const serving = await world.serve({ TMPDIR: tmp });
  const { hostname, port } = new URL(serving.url);
  const door = { host: hostname, port: Number(port) };
  let gone = false;
  serving.ended.then(
    () => (gone = true),
    () => (gone = true),
  );
  const known = await fill(door, keys, betas);
  return {
    world,
    serving,
    door,
    settings,
    keys,
    betas,
    canaries,
    known,
    gone: () => gone,
    betaNow: () => stored(door, keys.beta),
  };
}

function settingsOf(keys: Stand['keys'], betas: string): object {
  const scopes: Scope[] = ['upload', 'pull', 'webhook', 'read'];
  const key = (name: keyof Stand['keys'], agents: '*' | string[], may: Scope[]): object => ({
    name,
    hash: hashKey(keys[name]),
    agents,
    scopes: may,
  });
  const proofs = [
    'github',
    'stripe',
    'slack',
    'standard',
    'gitlab',
    'shopify',
    'linear',
    'telegram',
    'twilio',
    'secret',
  ];
  return {
    host: 'proof',
    log: { format: 'json', level: 'debug' },
    notify: { by: 'none' },
    keys: [key('alpha', ['alpha'], scopes), key('beta', ['beta'], scopes), key('operator', '*', ['read'])],
    mailboxes: {
      alpha: {
        sources: {
          ...Object.fromEntries(proofs.map((verify) => [verify, { verify, secret: hubSecret }])),
          meta: { verify: 'meta', secret: hubSecret, verifyToken: hubSecret },
          hmac: { verify: 'hmac', secret: hubSecret, hmac: { header: 'x-sign', signed: '{body}' } },
          graph: { verify: 'none', challenge: 'microsoft-graph' },
          putio: { verify: 'none' },
          deep: { verify: 'none', delivery: { json: 'a.a.a.a.0.a' } },
        },
      },
      beta: { sources: { [betas]: { verify: 'secret', secret: betas } } },
    },
  };
}

/** Asked with a key; throws where that is not answered well, since nothing was proved then. */
export async function told(
  door: Door,
  key: string,
  asked: Omit<Asked, 'headers'> & Partial<Asked>,
): Promise<Answer> {
  const headers: Asked['headers'] = [['x-functions-key', key], ...(asked.headers ?? [])];
  const answer = await ask(door, { ...asked, headers });
  if (answer === undefined || answer.status >= 400)
    throw new Error(
      `${asked.method} ${asked.url}: ${answer?.status ?? 'no answer'} ${answer?.body.toString() ?? ''}`,
    );
  return answer;
}

export function jsonBody(value: unknown): Pick<Asked, 'headers' | 'body'> {
  return { headers: [['content-type', 'application/json']], body: Buffer.from(JSON.stringify(value)) };
}

function line(id: string, text: string): string {
  const usage = { input: 10, output: 5, cacheRead: 0, cacheWrite: 0, totalTokens: 15, cost: { total: 0.01 } };
  const message = { role: 'assistant', provider: 'p', model: text, usage, content: [{ type: 'text', text }] };
  return `${JSON.stringify({ type: 'message', id, timestamp: new Date().toISOString(), message })}\n`;
}

async function fill(door: Door, keys: Stand['keys'], betas: string): Promise<Stand['known']> {
  const transcript = randomUUID();
  const post = async (key: string, url: string, value: unknown): Promise<string> =>
    idIn(await told(door, key, { method: 'POST', url, ...jsonBody(value) }));
  await post(keys.alpha, '/api/sessions', {
    agentId: 'alpha',
    sessionId: transcript,
    transcript: line('a1', '<nexus-xss onload=1>').repeat(20),
  });
  await told(door, keys.beta, {
    method: 'PATCH',
    url: `/api/sessions/beta/${betas}`,
    headers: [
      ['upload-offset', '0'],
      ['upload-complete', '?1'],
      ['content-type', 'application/partial-upload'],
      ['nexus-about', JSON.stringify({ host: betas, sessionKey: betas, trigger: betas })],
    ],
    body: Buffer.from(line('b1', betas).repeat(20)),
  });
  const mark = jsonBody({ mark: betas });
  await told(door, keys.beta, { method: 'PUT', url: '/api/marks/beta/known', ...mark });
  await told(door, keys.beta, { method: 'PUT', url: `/api/marks/beta/${betas}`, ...mark });
  const betaItem = await post(keys.beta, `/api/webhook/beta?source=${betas}-key`, { betas });
  for (let n = 0; n < 3; n++) await post(keys.beta, `/api/webhook/beta?source=${betas}-key`, { betas, n });
  const item = await post(keys.alpha, '/api/webhook/alpha?source=plain', { hello: '<nexus-xss onload=1>' });
  await told(door, keys.alpha, { method: 'DELETE', url: '/api/webhook/items', ...jsonBody({ ids: [item] }) });
  const pending = await post(keys.alpha, '/api/webhook/alpha?source=plain', { hello: 2 });
  const cookie = await signIn(door, keys.alpha);
  const page = await ask(door, { method: 'GET', url: '/sign-in', headers: [] });
  const asset = /assets\/([^"]+)"/.exec(page?.body.toString() ?? '')?.[1] ?? '';
  return { item, pending, betaItem, transcript, asset, cookie };
}

export async function signIn(door: Door, key: string): Promise<string> {
  const answer = await ask(door, {
    method: 'POST',
    url: '/sign-in',
    headers: [
      ['content-type', 'application/x-www-form-urlencoded'],
      ['sec-fetch-site', 'same-origin'],
    ],
    body: Buffer.from(new URLSearchParams({ key, to: '' }).toString()),
  });
  const cookie = /^[^;]+/.exec(answer?.headers.get('set-cookie') ?? '')?.[0];
  if (cookie === undefined) throw new Error(`Nobody could sign in: ${answer?.status ?? 'no answer'}.`);
  return cookie;
}

/** Of what was stored. */
export function idIn(answer: Answer): string {
  const { id = '' }: { id?: string } = JSON.parse(answer.body.toString());
  return id;
}

async function stored(door: Door, key: string): Promise<string> {
  const get = async (url: string): Promise<string> =>
    (await told(door, key, { method: 'GET', url })).body.toString();
  const listed: {
    sessions: { path: string; transcript: string }[];
  } = JSON.parse(await get('/api/sessions?limit=1000'));
  const bytes = await Promise.all(
    listed.sessions.map(({ transcript }) => get(`/api/sessions/beta/${transcript}`)),
  );
  const others = ['/api/webhook/items?limit=1000', '/api/webhook/mailboxes', '/api/marks/beta/known'];
  return JSON.stringify([listed, bytes, await Promise.all(others.map(get))]);
}
