import {
  createServer,
  request as send,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Azurite, connectionStringOf } from './azurite.ts';

/** What befalls one request. `before`: the service never sees it; `after`: the service has done it, or its refusal. */
export type Fault =
  | {
      kind: 'answer';
      when: 'before' | 'after';
      status: number;
      headers?: Record<string, string>;
      body?: string;
    }
  | { kind: 'reset'; when: 'before' | 'after' }
  | { kind: 'stall'; when: 'before' | 'after' }
  /** Half of the request, or of the answer, then the line breaks. */
  | { kind: 'cut'; what: 'request' | 'answer' };

export interface Asked {
  service: 'blobs' | 'tables';
  method: string;
  /** Path and query, without the account. */
  url: string;
  /** How often this method and URL were asked before. */
  earlier: number;
}

export interface FaultyProxy {
  connectionString: string;
  /** Decides about each request from now on. */
  faults: (rule: (asked: Asked) => Fault | undefined) => void;
  /** What was asked since the rule was set. */
  asked: Asked[];
  stop: () => Promise<void>;
}

/** Stands in front of Azurite and does what a network does on a bad day. */
export async function startFaultyProxy(azurite: Azurite): Promise<FaultyProxy> {
  let rule: (asked: Asked) => Fault | undefined = () => undefined;
  let counts = new Map<string, number>();
  const asked: Asked[] = [];

  function note(service: Asked['service'], request: IncomingMessage): Asked {
    const method = request.method ?? '';
    const url = (request.url ?? '').replace('/devstoreaccount1', '');
    const key = `${service} ${method} ${url}`;
    const one = { service, method, url, earlier: counts.get(key) ?? 0 };
    counts.set(key, one.earlier + 1);
    asked.push(one);
    return one;
  }

  const servers = await Promise.all(
    (['blobs', 'tables'] as const).map((service) =>
      listen(
        createServer((request, response) => {
          const fault = rule(note(service, request));
          handle(azurite[service], request, response, fault).catch(() => response.destroy());
        }),
      ),
    ),
  );
  const [blobs = '', tables = ''] = servers.map((server) => `http://127.0.0.1:${portOf(server)}`);
  return {
    connectionString: connectionStringOf(blobs, tables),
    asked,
    faults(next) {
      rule = next;
      counts = new Map();
      asked.length = 0;
    },
    async stop() {
      for (const server of servers) server.closeAllConnections();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

async function handle(
  target: string,
  request: IncomingMessage,
  response: ServerResponse,
  fault: Fault | undefined,
): Promise<void> {
  const body = await bodyOf(request);
  if (fault?.kind === 'cut' && fault.what === 'request') {
    await forward(target, request, body, body.length / 2).catch(() => undefined);
    response.destroy();
    return;
  }
  const before = fault !== undefined && fault.kind !== 'cut' && fault.when === 'before';
  const answer = before ? undefined : await forward(target, request, body, body.length);
  if (fault?.kind === 'stall') return;
  if (fault?.kind === 'reset') response.destroy();
  else if (fault?.kind === 'answer')
    response.writeHead(fault.status, fault.headers ?? {}).end(fault.body ?? '');
  else if (answer !== undefined) {
    const { statusCode = 502, rawHeaders } = answer.message;
    response.writeHead(statusCode, rawHeaders);
    if (fault?.kind !== 'cut') response.end(answer.body);
    else response.write(answer.body.subarray(0, answer.body.length / 2), () => response.destroy());
  }
}

/** Sends the first `length` bytes of the body, and breaks off when that is not all of it. */
async function forward(
  target: string,
  request: IncomingMessage,
  body: Buffer,
  length: number,
): Promise<{ message: IncomingMessage; body: Buffer }> {
  const message = await new Promise<IncomingMessage>((resolve, reject) => {
    const { method = 'GET', url = '', rawHeaders } = request;
    const onward = send(`${target}${url}`, { method, headers: pairs(rawHeaders), agent: false }, resolve);
    onward.on('error', reject);
    if (length === body.length) onward.end(body);
    else onward.write(body.subarray(0, length), () => onward.destroy());
  });
  return { message, body: await bodyOf(message) };
}

function pairs(raw: string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let i = 0; i + 1 < raw.length; i += 2) headers[raw[i] ?? ''] = raw[i + 1] ?? '';
  return headers;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

function listen(server: Server): Promise<Server> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** All that may befall a request, by name, for `test.each`. */
export const faults: [name: string, fault: Fault][] = [
  ['a 500', { kind: 'answer', when: 'before', status: 500 }],
  ['a 500 after the write', { kind: 'answer', when: 'after', status: 500 }],
  ['a 503', { kind: 'answer', when: 'before', status: 503 }],
  ['a 503 after the write', { kind: 'answer', when: 'after', status: 503, headers: { 'retry-after': '0' } }],
  ['a 429', { kind: 'answer', when: 'before', status: 429 }],
  ['a reset before the write', { kind: 'reset', when: 'before' }],
  ['a reset after the write', { kind: 'reset', when: 'after' }],
  ['a stall before the write', { kind: 'stall', when: 'before' }],
  ['a stall after the write', { kind: 'stall', when: 'after' }],
  ['a request cut in half', { kind: 'cut', what: 'request' }],
  ['an answer cut in half', { kind: 'cut', what: 'answer' }],
];
