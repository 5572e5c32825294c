import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';
import { gzipSync } from 'node:zlib';
import { valueAt } from '../../src/settings.ts';

/** A transfer as the API has it. */
export type ApiTransfer = Record<string, string | number | boolean | null | object> & { id: number };

interface Asked {
  method: string;
  /** Without /v2. */
  path: string;
  authorization: string | undefined;
  body: string;
}

interface Fault {
  status?: number;
  headers?: Record<string, string>;
  /** An object is JSON, text is a page. */
  body?: object | string;
  /** No answer at all. */
  silent?: boolean;
}

/** How a callback's fields are sent: as put.io was seen to, and as it might. */
export type Shape = 'form' | 'multipart' | 'gzip' | 'json';
export const shapes: Shape[] = ['form', 'multipart', 'gzip', 'json'];

/** A put.io that keeps its documented rules, for one account, and calls back as it was seen to. */
export interface PutioServer {
  base: string;
  token: string;
  callback: string | null;
  transfers: ApiTransfer[];
  /** All that it was asked. */
  asked: Asked[];
  /** What to answer in place of the rules; `undefined` keeps them. May wait. */
  fault: (asked: Asked) => Fault | undefined | Promise<Fault | undefined>;
  /** A transfer in the list, finished so long ago. */
  add: (id: number, over?: Partial<ApiTransfer>, agoMs?: number) => ApiTransfer;
  /** As `add`, and put.io calls back, once, whatever that answers. Answers its status; 0 for none. */
  finish: (id: number, over?: Partial<ApiTransfer>, agoMs?: number, missing?: string[]) => Promise<number>;
  /** The same call once more. */
  callAgain: (transfer: ApiTransfer, missing?: string[], shape?: Shape) => Promise<number>;
  /** Its history quotes the URL whose call failed. */
  quotesUrl: boolean;
  /** Requests that it takes before it answers 429; a minute later as many again. */
  limit: number;
  /** Forgets what is finished, as `transfers/clean`. */
  clean: () => void;
  /** An event of the account's history, `agoMs` ago. */
  happened: (type: string, fields: object, agoMs?: number) => void;
}

export const token = 'TOKEN-7c1f0ab2';

export async function startPutio(): Promise<PutioServer> {
  let events: ({ id: number; type: string } & Record<string, unknown>)[] = [];
  let nextEvent = 1;
  let callbackHasFailed = false;
  let windowEnds = 0;
  let taken = 0;
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });

  const putio: PutioServer = {
    base: `http://127.0.0.1:${port}`,
    token,
    callback: null,
    transfers: [],
    asked: [],
    fault: () => undefined,
    quotesUrl: false,
    limit: Number.POSITIVE_INFINITY,
    add(id, over = {}, agoMs = 0) {
      const transfer = apiTransfer(id, agoMs, over);
      putio.transfers.push(transfer);
      return transfer;
    },
    async finish(id, over, agoMs, missing) {
      const transfer = putio.add(id, over, agoMs);
      const { name: transfer_name, file_id, size: transfer_size, source } = transfer;
      putio.happened('transfer_completed', { transfer_name, file_id, transfer_size, source }, agoMs);
      return await putio.callAgain(transfer, missing);
    },
    async callAgain(transfer, missing = [], shape = 'form') {
      const to = transfer['callback_url'] ?? putio.callback;
      if (typeof to !== 'string') return 0;
      const { body, headers } = calledAs(shape, { ...transfer, callback_url: to }, missing);
      const answer = await fetch(to, { method: 'POST', body, headers }).catch(() => undefined);
      if (answer?.ok === true) return answer.status;
      callbackHasFailed = true;
      const why = answer === undefined ? 'Connection failed' : `HTTP ${answer.status}`;
      const message = putio.quotesUrl ? `${why}: ${to}` : why;
      const failed = { transfer_id: transfer.id, transfer_name: transfer['name'], message };
      putio.happened('transfer_callback_error', failed);
      return answer?.status ?? 0;
    },
    clean() {
      putio.transfers = putio.transfers.filter(({ finished_at }) => finished_at === null);
    },
    happened(type, fields, agoMs = 0) {
      events.push({ id: nextEvent++, user_id: 1, type, created_at: apiTime(agoMs), ...fields });
      events = events.sort((one, other) => other.id - one.id);
    },
  };
  return putio;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    await once(request, 'end');
    const { method = '', url = '', headers } = request;
    const body = Buffer.concat(pieces).toString('utf8');
    const path = url.replace(/^\/v2/, '');
    const asked = { method, path, authorization: headers.authorization, body };
    putio.asked.push(asked);
    const fault = (await putio.fault(asked)) ?? limited(Date.now());
    if (fault?.silent === true) return;
    const { status = 200, body: said = ok({}), headers: more = {} } = fault ?? answer(asked, headers);
    const page = typeof said === 'string';
    const type = page ? 'text/html; charset=utf-8' : 'application/json';
    response.writeHead(status, { 'content-type': type, ...more });
    response.end(page ? said : JSON.stringify(said));
  }

  function limited(now: number): Fault | undefined {
    if (now >= windowEnds) {
      windowEnds = now + 60_000;
      taken = 0;
    }
    if (++taken <= putio.limit) return undefined;
    const headers = {
      'x-ratelimit-limit': String(putio.limit),
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': String(Math.ceil(windowEnds / 1000)),
    };
    return { ...refusal(429, 'TOO_MANY_REQUESTS', 'Slow down'), headers };
  }

  function answer({ method, path, authorization, body }: Asked, headers: IncomingMessage['headers']): Fault {
    if (authorization !== `Token ${token}`)
      return refusal(401, 'invalid_grant', 'The access token is invalid.');
    const { pathname, searchParams } = new URL(path, putio.base);
    const form = new URLSearchParams(body);
    const perPage = Number(searchParams.get('per_page') ?? 50);
    if (!Number.isInteger(perPage) || perPage < 1 || perPage > 1000)
      return refusal(400, 'INVALID_PER_PAGE', 'per_page');
    const route = `${method} ${pathname}`;
    if (route === 'GET /account/settings')
      return { body: ok({ settings: { callback_url: putio.callback } }) };
    if (route === 'POST /account/settings') {
      if (headers['content-type'] !== 'application/json') return refusal(400, 'BAD_REQUEST', 'not JSON');
      const wanted = valueAt(JSON.parse(body), ['callback_url']);
      if (typeof wanted === 'string' && !/^https?:\/\/[^/]+\//.test(wanted))
        return refusal(400, 'INVALID_CALLBACK_URL', 'Invalid callback URL');
      if (typeof wanted === 'string' || wanted === null) putio.callback = wanted;
      return { body: ok({}) };
    }
    if (route === 'GET /account/info')
      return {
        body: ok({ info: { username: 'flick', warnings: { callback_url_has_failed: callbackHasFailed } } }),
      };
    if (route === 'GET /transfers/list') return page(0, perPage, { total: putio.transfers.length });
    if (route === 'POST /transfers/list/continue') return page(Number(form.get('cursor')), perPage, {});
    if (route === 'GET /events/list') {
      const before = Number(searchParams.get('before') ?? Number.POSITIVE_INFINITY);
      const older = events.filter(({ id }) => id < before);
      return { body: ok({ events: older.slice(0, perPage), has_more: older.length > perPage }) };
    }
    const [, id] = /^GET \/transfers\/(\d+)$/.exec(route) ?? [];
    const transfer = putio.transfers.find((one) => String(one.id) === id);
    return transfer === undefined ? refusal(404, 'NotFound', 'Not found') : { body: ok({ transfer }) };
  }

  function page(first: number, perPage: number, more: object): Fault {
    const transfers = putio.transfers.slice(first, first + perPage);
    const next = first + perPage;
    return { body: ok({ transfers, cursor: next < putio.transfers.length ? String(next) : null, ...more }) };
  }
}

function ok(fields: object): object {
  return { status: 'OK', ...fields };
}

export function refusal(status: number, type: string, message: string): Fault {
  return {
    status,
    body: { status: 'ERROR', status_code: status, error_type: type, error_message: message, error_id: 'e1' },
  };
}

/** UTC, without saying so. */
export function apiTime(agoMs: number): string {
  return new Date(Date.now() - agoMs).toISOString().slice(0, 19);
}

export function apiTransfer(id: number, agoMs = 0, over: Partial<ApiTransfer> = {}): ApiTransfer {
  return {
    id,
    name: `Film ${id} [é].mkv`,
    type: 'TORRENT',
    status: 'COMPLETED',
    size: 734_003_200,
    file_id: 900_000 + id,
    save_parent_id: 0,
    percent_done: 100,
    source: `magnet:?xt=urn:btih:${id}`,
    is_private: false,
    created_torrent: false,
    simulated: false,
    userfile_exists: true,
    created_at: apiTime(agoMs + 60_000),
    started_at: apiTime(agoMs + 50_000),
    finished_at: apiTime(agoMs),
    error_message: null,
    tracker: null,
    subscription_id: null,
    callback_url: null,
    ...over,
  };
}

const boundary = '----FormBoundary7MA4YWxkTrZu0gW';

/** The body of a call and its headers. */
export function calledAs(
  shape: Shape,
  fields: Partial<ApiTransfer>,
  missing: string[] = [],
): { body: Buffer; headers: Record<string, string> } {
  const flat = Object.entries(fields).flatMap(([name, value]): [string, string][] =>
    value === null || value === undefined || missing.includes(name) ? [] : [[name, flattened(value)]],
  );
  const form = Buffer.from(new URLSearchParams(flat).toString());
  const type = { 'content-type': 'application/x-www-form-urlencoded' };
  if (shape === 'form') return { body: form, headers: type };
  if (shape === 'gzip') return { body: gzipSync(form), headers: { ...type, 'content-encoding': 'gzip' } };
  if (shape === 'json') {
    const body = Buffer.from(JSON.stringify(Object.fromEntries(flat)));
    return { body, headers: { 'content-type': 'application/json' } };
  }
  const parts = flat.map(
    ([name, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  const body = Buffer.from(`${parts.join('')}--${boundary}--\r\n`);
  return { body, headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } };
}

/** As Python writes it: `True`, and `str` of what is no scalar. */
export function flattened(value: string | number | boolean | object): string {
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
