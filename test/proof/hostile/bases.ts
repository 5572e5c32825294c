import { randomUUID } from 'node:crypto';
import type { Asked } from './asked.ts';
import type { Stand } from './stand.ts';

/** A request that a route takes, in the parts that hostile ones change. */
export interface Base {
  params?: Record<string, string>;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  json?: unknown;
  form?: Record<string, string>;
  body?: Uint8Array;
  /** Whose key it carries: alpha's, the operator's, alpha's sign-in, or none. Default alpha's. */
  as?: 'operator' | 'page' | 'nobody';
  /** What it is answered with. */
  status?: number;
}

const upload = {
  'upload-offset': '0',
  'upload-complete': '?0',
  'content-type': 'application/partial-upload',
};

/** One for each route: a route without one is not covered, which the part reports. */
export function basesOf({ known }: Stand): Record<string, () => Base> {
  const agent = { agentId: 'alpha' };
  const item = { params: { id: known.item } };
  const transcript = { params: { ...agent, transcript: known.transcript } };
  const host = { params: { ...agent, host: 'here' } };
  const usage = { by: 'agent,day,model', last: '7d', tz: 'UTC', agent: 'alpha' };
  const price = { provider: 'p', model: 'm', input: 1, output: 1, cacheRead: 0, cacheWrite: 0 };
  const report = {
    job: 'upload',
    endedAt: 1_700_000_000_000,
    seconds: 1,
    failures: 0,
    failedItems: 0,
    agents: [{ agent: 'alpha', unshipped: 0, untold: 0 }],
    sentAt: 1_700_000_000_000,
  };
  const page: Base = { as: 'page' };
  const bases: Record<string, Base | (() => Base)> = {
    'GET /metrics': { as: 'operator' },
    'GET /healthz': { as: 'nobody' },
    'HEAD /healthz': { as: 'nobody' },
    'GET /readyz': { as: 'nobody' },
    'HEAD /readyz': { as: 'nobody' },
    'GET /api/store': {},
    'GET /api/store/damage': {},
    'GET /api/marks/:agentId/:host': host,
    'PUT /api/marks/:agentId/:host': { ...host, json: { mark: 'mark' } },
    'PUT /api/prices/:agentId/:host': { ...host, json: { prices: [price] } },
    'POST /api/sessions': () => ({
      json: { ...agent, sessionId: randomUUID(), transcript: '{"type":"x"}\n' },
    }),
    'GET /api/sessions': { query: { ...agent, limit: '10', since: '2026-01-01T00:00:00Z' } },
    'HEAD /api/sessions/:agentId/:transcript': {
      ...transcript,
      headers: { 'want-repr-digest': 'sha-256=1' },
    },
    'PATCH /api/sessions/:agentId/:transcript': () => ({
      params: { ...agent, transcript: randomUUID() },
      headers: { ...upload, 'nexus-about': '{"host":"here","era":"file","lastEventAt":"2026-01-01"}' },
      body: Buffer.from('{"type":"x"}\n'),
    }),
    'GET /api/sessions/:agentId/:transcript': { ...transcript, headers: { range: 'bytes=0-9' } },
    'POST /api/webhook/:agentId': { params: agent, query: { source: 'plain' }, json: { a: { b: [1, 'x'] } } },
    'GET /api/webhook/:agentId': {
      params: agent,
      query: {
        source: 'meta',
        'hub.mode': 'subscribe',
        'hub.verify_token': 'hub-secret-of-alpha',
        'hub.challenge': '1',
      },
      as: 'nobody',
    },
    'GET /api/webhook/pending': { query: { ...agent, limit: '10', wait: '0' } },
    'DELETE /api/webhook/items': { json: { ids: [known.item], drop: false } },
    'GET /api/webhook/items': { query: { ...agent, source: 'plain', state: 'pending', limit: '10' } },
    'GET /api/webhook/items/:id': item,
    'GET /api/webhook/items/:id/body': item,
    'POST /api/webhook/items': () => ({
      json: {
        ...agent,
        source: 'putio',
        contentType: 'application/json',
        base64: 'e30=',
        delivery: randomUUID(),
        otherwise: { delivery: 'x', since: '2026-01-01T00:00:00Z' },
      },
    }),
    'POST /api/webhook/items/:id/replay': () => ({ ...item, json: { request: randomUUID() } }),
    'GET /api/webhook/mailboxes': { query: agent },
    'PUT /api/webhook/mailboxes/:agentId': { params: agent, json: { host: 'here' } },
    'PUT /api/jobs/:host': { params: { host: 'here' }, json: report },
    'GET /api/usage': { query: usage, headers: { accept: 'text/csv' } },
    'GET /api/usage/sessions': { query: { agent: 'alpha', limit: '5', offset: '0', ascending: 'true' } },
    'GET /api/usage/top': { query: { last: '7d' } },
    // No session is known that it began.
    'GET /api/usage/items/:id': { ...item, status: 404 },
    'GET /': { ...page, query: { last: '7d' } },
    'GET /usage': { ...page, query: { by: 'model', last: '7d' } },
    'GET /sessions': { ...page, query: { agent: 'alpha' } },
    'GET /sessions/:agentId/:transcript': { ...page, ...transcript, query: { from: '0' } },
    'GET /webhooks': { ...page, query: { agent: 'alpha', state: 'pending' } },
    'GET /webhooks/:id': { ...page, ...item },
    'GET /sign-in': { as: 'nobody', query: { to: 'usage' } },
    'POST /sign-in': {
      as: 'nobody',
      headers: { 'sec-fetch-site': 'same-origin' },
      form: { key: 'wrong', to: '' },
      status: 401,
    },
    // Without a cookie: what ends alpha's sign-in would let the pages be asked for no longer.
    'POST /sign-out': { as: 'nobody', headers: { 'sec-fetch-site': 'same-origin' }, form: {}, status: 303 },
    'GET /assets/:name': {
      as: 'nobody',
      params: { name: known.asset },
      headers: { 'accept-encoding': 'gzip' },
    },
  };
  return Object.fromEntries(
    Object.entries(bases).map(([route, base]) => [route, typeof base === 'function' ? base : () => base]),
  );
}

export function urlOf(
  url: string,
  params: Record<string, string>,
  query: readonly [string, string][],
): string {
  const path = url.replace(/:(\w+)/g, (_, name: string) => params[name] ?? '');
  return query.length === 0 ? path : `${path}?${query.map(([name, value]) => `${name}=${value}`).join('&')}`;
}

/** Percent-encoded, an unpaired surrogate as what UTF-8 has in its place. */
export function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

export function credential(stand: Stand, as: Base['as']): Asked['headers'] {
  if (as === 'nobody') return [];
  if (as === 'page') return [['cookie', stand.known.cookie]];
  return [['x-functions-key', as === 'operator' ? stand.keys.operator : stand.keys.alpha]];
}

export function plainRequest(stand: Stand, method: string, url: string, base: Base): Asked {
  const params = Object.fromEntries(
    Object.entries(base.params ?? {}).map(([name, value]) => [name, encoded(value)]),
  );
  const query = Object.entries(base.query ?? {}).map(([name, value]): [string, string] => [
    name,
    encoded(value),
  ]);
  const { body, type } = bodyOf(base);
  return {
    method,
    url: urlOf(url, params, query),
    headers: [
      ...credential(stand, base.as),
      ...(type === undefined ? [] : [['content-type', type] as [string, string]]),
      ...Object.entries(base.headers ?? {}),
    ],
    ...(body === undefined ? {} : { body }),
  };
}

export function bodyOf({ json, form, body }: Base): { body?: Uint8Array; type?: string } {
  if (json !== undefined) return { body: Buffer.from(JSON.stringify(json)), type: 'application/json' };
  if (form !== undefined)
    return {
      body: Buffer.from(new URLSearchParams(form).toString()),
      type: 'application/x-www-form-urlencoded',
    };
  return body === undefined ? {} : { body };
}
