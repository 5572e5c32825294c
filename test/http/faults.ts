import { once } from 'node:events';
import http from 'node:http';
import { onTestFinished } from 'vitest';

/** What becomes of one request on its way to the endpoint, or of the answer on its way back. */
export type Fault =
  | 'pass'
  /** The connection is reset, and the endpoint never hears of it. */
  | 'reset before'
  /** The endpoint does it, and the answer is lost. */
  | 'reset after'
  /** Nobody ever answers. */
  | 'stall'
  /** The answer breaks off after so many bytes of its body, or goes silent there. */
  | { cutAt: number }
  | { stallAt: number }
  /** Answered on the way. */
  | { status: number; headers?: Record<string, string>; body?: string };

export interface Seen {
  method: string;
  url: string;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

/** A way to an endpoint on which the next requests meet these faults, one each; then all pass. */
export async function badWayTo(target: string, faults: Fault[]): Promise<{ url: string; seen: Seen[] }> {
  const seen: Seen[] = [];
  const server = http.createServer((request, response) => {
    void handle(request, response).catch(() => response.destroy());
  });

  async function handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const fault = faults.shift() ?? 'pass';
    const pieces: Buffer[] = [];
    for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
    const body = Buffer.concat(pieces);
    const { method = '', url = '', headers } = request;
    seen.push({ method, url, headers, body });
    if (fault === 'stall') return;
    if (fault === 'reset before') {
      request.socket.resetAndDestroy();
      return;
    }
    if (typeof fault === 'object' && 'status' in fault) {
      response.writeHead(fault.status, fault.headers).end(fault.body);
      return;
    }
    const { host: _host, connection: _connection, ...passed } = headers;
    const forward = http.request(`${target}${url}`, { method, headers: passed, agent: false });
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
      forward.once('response', resolve).once('error', reject).end(body);
    });
    const back: Buffer[] = [];
    for await (const piece of answer as AsyncIterable<Buffer>) back.push(piece);
    const bytes = Buffer.concat(back);
    if (fault === 'reset after') {
      request.socket.resetAndDestroy();
      return;
    }
    response.writeHead(answer.statusCode ?? 500, answer.headers);
    if (fault === 'pass') response.end(bytes);
    else if ('cutAt' in fault)
      response.write(bytes.subarray(0, fault.cutAt), () => request.socket.destroySoon());
    else response.write(bytes.subarray(0, fault.stallAt));
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { url: `http://127.0.0.1:${port}`, seen };
}
