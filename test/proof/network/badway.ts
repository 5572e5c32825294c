import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** What befalls a request on its way, or its answer on the way back. */
export type NetworkFault =
  /** The connection is reset, and the service never hears of the request; or it has done it, and the answer is lost. */
  | 'reset before'
  | 'reset after'
  /** Nobody ever answers; the service was not asked, or has done it. */
  | 'stall before'
  | 'stall after'
  /** Answered on the way, without the service; `after`, the service has done it. */
  | '429'
  | '500'
  | '503'
  | '503 after'
  /** The answer breaks off: fewer bytes come than its Content-Length says, or half a head where there is no body. */
  | 'truncated';

export const networkFaults: readonly NetworkFault[] = [
  'reset before',
  'reset after',
  'stall before',
  'stall after',
  '429',
  '500',
  '503',
  '503 after',
  'truncated',
];

/** Which requests a fault hits: `times` of them from the n-th on, counted from 1 since `begin`. */
export interface Plan {
  at: number;
  times: number;
  fault: string;
}

/** Proxies before one or several services, which count together. */
export interface BadWay {
  urls: string[];
  /** Begins to count anew; without a plan everything passes. */
  begin(plan?: Plan): void;
  /** How many there were since. */
  requests(): number;
  stop(): Promise<void>;
}

export async function openBadWay(targets: readonly string[]): Promise<BadWay> {
  let plan: Plan | undefined;
  let count = 0;

  function next(): string | undefined {
    count++;
    if (plan === undefined || count < plan.at || count >= plan.at + plan.times) return undefined;
    return plan.fault;
  }

  const servers = await Promise.all(
    targets.map(async (target) => {
      const server = http.createServer((request, response) => {
        pass(target, request, response, next()).catch(() => request.socket.destroy());
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  return {
    urls: servers.map((server) => `http://127.0.0.1:${portOf(server.address())}`),
    begin(wanted) {
      plan = wanted;
      count = 0;
    },
    requests: () => count,
    async stop() {
      for (const server of servers) server.closeAllConnections();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

async function pass(
  target: string,
  request: http.IncomingMessage,
  response: http.ServerResponse,
  fault: string | undefined,
): Promise<void> {
  const body = await bodyOf(request);
  const { socket } = request;
  if (fault === 'reset before') return void socket.resetAndDestroy();
  // Until the other side gives it up.
  if (fault === 'stall before') return;
  if (fault === '429' || fault === '500' || fault === '503') return answer(response, fault);
  const told = await forward(target, request, body);
  if (fault === 'reset after') return void socket.resetAndDestroy();
  if (fault === 'stall after') return;
  if (fault === '503 after') return answer(response, '503');
  if (fault === 'truncated') {
    const wire = wireOf(told);
    const half = told.body.length > 0 ? wire.length - Math.ceil(told.body.length / 2) : wire.length >> 1;
    socket.end(wire.subarray(0, half));
    return;
  }
  response.writeHead(told.status, told.headers).end(told.body);
}

/** What something between the two says of itself. */
function answer(response: http.ServerResponse, status: '429' | '500' | '503'): void {
  const wait = status === '429' ? { 'retry-after': '1' } : {};
  response.writeHead(Number(status), { 'content-type': 'text/html', ...wait }).end('<html>a proxy</html>');
}

interface Told {
  status: number;
  headers: string[];
  body: Buffer;
}

async function forward(target: string, request: http.IncomingMessage, body: Buffer): Promise<Told> {
  const { method, url, rawHeaders } = request;
  const onward = http.request(`${target}${url ?? ''}`, { method, headers: rawHeaders, agent: false });
  const message = await new Promise<http.IncomingMessage>((resolve, reject) => {
    onward.once('response', resolve).once('error', reject).end(body);
  });
  const whole = await bodyOf(message);
  return { status: message.statusCode ?? 502, headers: message.rawHeaders, body: whole };
}

/** The answer as bytes; its length is said even where the service sent it in chunks. */
function wireOf({ status, headers, body }: Told): Buffer {
  const fields: string[] = [];
  for (let n = 0; n + 1 < headers.length; n += 2)
    if (!/^(transfer-encoding|content-length|connection)$/i.test(headers[n] ?? ''))
      fields.push(`${headers[n]}: ${headers[n + 1]}`);
  if (body.length > 0) fields.push(`Content-Length: ${body.length}`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} ${status}\r\n${fields.join('\r\n')}\r\n\r\n`), body]);
}

async function bodyOf(message: http.IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0;
}
