import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { onTestFinished } from 'vitest';

/** Between a job and its endpoint: what it does to one request, by its number among those of its method. */
export interface Rules {
  /** Before the request is passed on; resolves when it may be. */
  before?: (method: string, n: number) => Promise<void> | void;
  /** True: the request is passed on, its answer thrown away and the connection cut. */
  loseAnswer?: (method: string, n: number) => boolean;
}

export interface Proxy {
  url: string;
  /** Requests that arrived so far, by method. */
  count: (method: string) => number;
  /** Resolves when so many requests of a method have arrived. */
  arrived: (method: string, n: number) => Promise<void>;
}

/** Listens on a free port of loopback until the test ends; resolves with the URL. */
export async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('It does not listen.');
  return `http://127.0.0.1:${address.port}`;
}

/** The URL of a port on which nobody listens. */
export async function closedPort(): Promise<string> {
  const server = createServer();
  const url = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return url;
}

export async function startProxy(target: string, rules: Rules): Promise<Proxy> {
  const counts = new Map<string, number>();
  const waiting = new Set<() => void>();
  const count = (method: string) => counts.get(method) ?? 0;

  async function pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = incoming;
    const n = count(method) + 1;
    counts.set(method, n);
    for (const look of waiting) look();
    const pieces: Buffer[] = [];
    for await (const piece of incoming) pieces.push(Buffer.from(piece));
    await rules.before?.(method, n);
    const headers = { ...incoming.headers, host: new URL(target).host };
    const onward = request(`${target}${url}`, { method, headers }, (answer) => {
      answer.on('error', () => response.destroy());
      if (rules.loseAnswer?.(method, n) === true) {
        answer.resume().on('end', () => incoming.socket.destroy());
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => incoming.socket.destroy());
    onward.end(Buffer.concat(pieces));
  }

  const server = createServer((incoming, response) => {
    // A job that is killed cuts its connection.
    pass(incoming, response).catch(() => response.destroy());
  });
  const url = await listen(server);
  return {
    url,
    count,
    arrived(method, n) {
      return new Promise((resolve) => {
        const look = () => {
          if (count(method) < n) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      });
    },
  };
}
