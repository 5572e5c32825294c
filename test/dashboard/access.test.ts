import type { FastifyInstance } from 'fastify';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createServer } from '../../src/http/server.ts';
import { hashKey, type Key, makeKey } from '../../src/keys.ts';
import { openSignIns } from '../../src/signins.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Store } from '../../src/stores/store.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { nounsOver } from '../http/nouns.ts';

let directory: string;
let store: Store;
let usage: Usage;
let keys: Key[];
let now: Date;
let apps: FastifyInstance[];
let app: FastifyInstance;

const reader = makeKey();
const shipper = makeKey();

/** Another process over the same store. */
function serve(more: { proxies?: number } = {}): FastifyInstance {
  const made = createServer({
    ...nounsOver(store),
    keys: () => keys,
    version: '0',
    now: () => now,
    usage,
    dashboard: { signIns: openSignIns(store, () => now), timeZone: 'UTC' },
    ...more,
  });
  apps.push(made);
  return made;
}

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-access-'));
  store = await openLocalStore(path.join(directory, 'store'));
  usage = await openUsage({ store, file: path.join(directory, 'usage', 'index.sqlite') });
  keys = [
    { name: 'eyes', hash: hashKey(reader), agents: '*', scopes: ['read'] },
    { name: 'box', hash: hashKey(shipper), agents: '*', scopes: ['upload', 'pull'] },
  ];
  now = new Date('2026-11-20T12:00:00Z');
  apps = [];
  app = serve();
});
afterEach(async () => {
  for (const one of apps) await one.close();
  await usage.close();
  await store.close();
  await rm(directory, { recursive: true });
});

const own = { origin: 'http://localhost:7788', host: 'localhost:7788' };

function signIn(
  key: string,
  {
    headers = {},
    to = '',
    at = app,
  }: { headers?: Record<string, string>; to?: string; at?: FastifyInstance } = {},
) {
  return at.inject({
    method: 'POST',
    url: '/sign-in',
    headers: { ...own, 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams({ key, to }).toString(),
  });
}

async function cookieOf(key = reader): Promise<string> {
  const [cookie] = (await signIn(key)).cookies;
  return `${cookie?.name}=${cookie?.value}`;
}

async function status(url: string, headers: Record<string, string>, at = app): Promise<number> {
  return (await at.inject({ url, headers: { host: own.host, ...headers } })).statusCode;
}

const pages = [
  '/',
  '/usage',
  '/sessions',
  '/sessions/main/x',
  '/webhooks',
  '/webhooks/main.0mwoyvaio0000i6k0le52',
];

describe('who is not signed in', () => {
  test.each(pages)('is sent to the form from %s, and then back', async (url) => {
    const answer = await app.inject({ url, headers: { host: own.host } });
    expect(answer.statusCode).toBe(303);
    const form = new URL(answer.headers.location ?? '', `http://x${url}`);
    expect(form.pathname).toBe('/sign-in');
    const to = form.searchParams.get('to') ?? '';
    const back = await signIn(reader, { to });
    expect(new URL(back.headers.location ?? '', 'http://x/sign-in').href).toBe(`http://x${url}`);
  });

  test.each([
    '//evil.example',
    'https://evil.example',
    '/\\evil.example',
    'javascript:alert(1)',
    'usage\\..\\x',
    '../x',
    'usage\r\nX: y',
  ])('is led nowhere else by %j', async (to) => {
    const { headers } = await signIn(reader, { to });
    expect(headers.location).toBe('./');
  });

  test('gets no page by a key in a header or in the URL: those would be kept where others see them', async () => {
    expect(await status('/', { 'x-functions-key': reader })).toBe(303);
    expect(await status(`/?code=${reader}`, {})).toBe(303);
  });

  test('coming by a link from elsewhere is shown a page that asks again from here, as then the cookie comes along', async () => {
    const answer = await app.inject({
      url: '/usage',
      headers: { host: own.host, 'sec-fetch-site': 'cross-site' },
    });
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain('http-equiv="refresh"');
    expect(await status('/usage', { 'sec-fetch-site': 'same-origin' })).toBe(303);
  });
});

describe('signing in', () => {
  test('gives a strict cookie that scripts cannot read and that is neither the key nor anything made of it', async () => {
    const { statusCode, cookies } = await signIn(reader);
    expect(statusCode).toBe(303);
    expect(cookies).toEqual([
      {
        name: 'nexus',
        value: expect.stringMatching(/^[\w-]{43}$/),
        path: '/',
        httpOnly: true,
        sameSite: 'Strict',
        maxAge: 1_209_600,
      },
    ]);
    expect(cookies[0]?.value).not.toContain(reader.slice(4, 12));
  });

  test.each([
    { 'x-forwarded-proto': 'https' },
    { forwarded: 'for=1.2.3.4;proto=https' },
    { origin: 'https://localhost:7788' },
  ])('behind TLS, told by %j, the cookie is for TLS and this origin only', async (headers) => {
    const { cookies } = await signIn(reader, { headers });
    expect(cookies).toMatchObject([
      { name: '__Host-nexus', secure: true, path: '/', httpOnly: true, sameSite: 'Strict' },
    ]);
    expect(cookies[0]).not.toHaveProperty('domain');
    const token = cookies[0]?.value ?? '';
    expect(await status('/', { 'x-forwarded-proto': 'https', cookie: `__Host-nexus=${token}` })).toBe(200);
    expect(await status('/', { 'x-forwarded-proto': 'https', cookie: `nexus=${token}` })).toBe(303);
  });

  test('is refused with a wrong key, and with one that may not read', async () => {
    const wrong = await signIn(makeKey());
    expect([wrong.statusCode, wrong.cookies]).toEqual([401, []]);
    expect(wrong.body).toContain('This key is not known here.');
    const other = await signIn(shipper);
    expect([other.statusCode, other.cookies]).toEqual([403, []]);
    expect(other.body).toContain('lacks the scope &quot;read&quot;');
  });

  test('repeats nothing of what was entered', async () => {
    expect((await signIn('nxk_"><script>alert(1)</script>')).body).not.toContain('alert(1)');
  });

  test('tells who fails often when to come back, and is still open to who has the key', async () => {
    const tries = [];
    for (let n = 0; n < 80; n++) tries.push(await signIn(`wrong${n}`));
    expect(new Set(tries.map(({ statusCode }) => statusCode))).toEqual(new Set([401]));
    expect(tries.map(({ headers }) => headers['retry-after'] !== undefined).indexOf(true)).toBe(60);
    expect(tries.at(-1)?.body).toContain('This key is not known here.');
    expect((await signIn(reader)).statusCode).toBe(303);
  });

  test('behind a proxy counts by who asked it', async () => {
    const at = serve({ proxies: 1 });
    const by = (address: string) => signIn('wrong', { at, headers: { 'x-forwarded-for': address } });
    for (let n = 0; n < 61; n++) await by('192.0.2.1');
    expect((await by('192.0.2.1')).headers['retry-after']).toBeDefined();
    expect((await by('192.0.2.2')).headers['retry-after']).toBeUndefined();
  });

  test.each([
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: 'http://localhost:7788' },
    { origin: 'http://localhost:81' },
  ])('is refused from a page elsewhere: %j', async (headers) => {
    const { statusCode, cookies } = await signIn(reader, { headers });
    expect([statusCode, cookies]).toEqual([403, []]);
  });

  test('is refused where nothing says from which page the form is', async () => {
    const answer = await app.inject({
      method: 'POST',
      url: '/sign-in',
      body: `key=${reader}`,
      headers: { host: own.host, 'content-type': 'application/x-www-form-urlencoded' },
    });
    expect(answer.statusCode).toBe(403);
  });

  test('leaves nothing in the store by which somebody could sign in', async () => {
    const cookie = await cookieOf();
    const rows = [];
    for await (const row of store.rows('SignIns', 'dashboard')) rows.push(row);
    expect(rows).toHaveLength(1);
    const kept = JSON.stringify(rows);
    expect(kept).not.toContain(cookie.split('=')[1] ?? '');
    expect(await status('/', { cookie: `nexus=${rows[0]?.id.slice(0, 43)}` })).toBe(303);
  });
});

describe('who is signed in', () => {
  test('sees the pages, also after a restart and at another replica', async () => {
    const cookie = await cookieOf();
    expect(await status('/', { cookie })).toBe(200);
    expect(await status('/', { cookie }, serve())).toBe(200);
  });

  test('is locked out at once when the key is removed', async () => {
    const cookie = await cookieOf();
    keys = keys.filter(({ name }) => name !== 'eyes');
    expect(await status('/', { cookie })).toBe(303);
  });

  test('is not let in by another key of the same name', async () => {
    const cookie = await cookieOf();
    keys = [{ name: 'eyes', hash: hashKey(makeKey()), agents: '*', scopes: ['read'] }];
    expect(await status('/', { cookie })).toBe(303);
  });

  test('is locked out when the key may read no more', async () => {
    const cookie = await cookieOf();
    keys = [{ name: 'eyes', hash: hashKey(reader), agents: '*', scopes: ['upload'] }];
    expect(await status('/', { cookie })).toBe(303);
  });

  test('is signed out after two weeks, and what is over is cleared away by the next who signs in', async () => {
    const cookie = await cookieOf();
    now = new Date(now.getTime() + 14 * 86_400_000 - 1000);
    expect(await status('/', { cookie })).toBe(200);
    now = new Date(now.getTime() + 1000);
    expect(await status('/', { cookie })).toBe(303);
    await cookieOf();
    const rows = [];
    for await (const row of store.rows('SignIns', 'dashboard')) rows.push(row);
    expect(rows).toHaveLength(1);
  });

  test('gets nothing of the API by the cookie', async () => {
    const cookie = await cookieOf();
    expect(await status('/api/sessions', { cookie })).toBe(401);
    expect(await status('/api/webhook/pending', { cookie })).toBe(401);
  });

  test('signs out everywhere, and only by a form of this origin', async () => {
    const cookie = await cookieOf();
    const foreign = await app.inject({
      method: 'POST',
      url: '/sign-out',
      headers: { host: own.host, origin: 'http://evil', cookie },
    });
    expect(foreign.statusCode).toBe(403);
    expect(await status('/', { cookie })).toBe(200);
    const answer = await app.inject({ method: 'POST', url: '/sign-out', headers: { ...own, cookie } });
    expect(answer.statusCode).toBe(303);
    expect(answer.cookies.every(({ value }) => value === '')).toBe(true);
    expect(await status('/', { cookie })).toBe(303);
    expect(await status('/', { cookie }, serve())).toBe(303);
  });
});

describe('without any key', () => {
  beforeEach(() => {
    keys = [];
  });

  test('this machine sees the pages without signing in', async () => {
    expect(await status('/', {})).toBe(200);
    expect((await app.inject({ url: '/sign-in', headers: { host: own.host } })).headers.location).toBe('./');
  });

  test.each([
    { 'x-forwarded-for': '1.2.3.4' },
    { host: 'nexus.example.com' },
    { 'sec-fetch-site': 'cross-site' },
    { origin: 'http://evil' },
  ])('nobody gets in through a proxy or a page: %j', async (headers) => {
    for (const url of pages) expect(await status(url, headers)).toBe(403);
  });
});

test('pages let nothing run or load but their own files, are kept by nobody, and assets for ever', async () => {
  const cookie = await cookieOf();
  for (const url of ['/', '/sign-in', '/sessions/main/none']) {
    const { headers } = await app.inject({ url, headers: { host: own.host, cookie } });
    expect(headers['content-security-policy']).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'same-origin',
    });
  }
  const { body } = await app.inject({ url: '/', headers: { host: own.host, cookie } });
  const [, script = ''] =
    /<script type="module" src="\.\/(assets\/dashboard-[\w-]{12}\.js)">/.exec(body) ?? [];
  const asset = await app.inject({ url: `/${script}` });
  expect(asset.statusCode).toBe(200);
  expect(asset.headers).toMatchObject({
    'cache-control': 'public, max-age=31536000, immutable',
    'content-type': 'text/javascript; charset=utf-8',
  });
  expect(await status('/assets/dashboard-000000000000.js', {})).toBe(404);
  expect(await status('/assets/..%2f..%2fpackage.json', {})).toBe(404);
});

test('a failure is a page that says nothing of the inside', async () => {
  const broken = createServer({
    ...nounsOver(store),
    keys: () => [],
    version: '0',
    usage: { ...usage, query: () => Promise.reject(new Error('secret inside')) },
    dashboard: { signIns: openSignIns(store) },
  });
  apps.push(broken);
  const { statusCode, body, headers } = await broken.inject({ url: '/', headers: { host: own.host } });
  expect([statusCode, headers['content-type']]).toEqual([500, 'text/html; charset=utf-8']);
  expect(body).not.toContain('secret inside');
});
