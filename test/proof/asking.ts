import { Agent, request as httpRequest } from 'node:http';

export interface Answer {
  status: number;
  body: Buffer;
  ms: number;
}

/** Asks one endpoint over connections that stay, until `hangUp`. Rejects where no whole answer came. */
export interface Asking {
  ask(method: string, path: string, headers?: Record<string, string>, body?: Buffer): Promise<Answer>;
  hangUp(): void;
}

export function openAsking(url: string): Asking {
  let agent = new Agent({ keepAlive: true });
  return {
    ask(method, path, headers = {}, body) {
      const { promise, resolve, reject } = Promise.withResolvers<Answer>();
      const began = performance.now();
      const length = body === undefined ? {} : { 'content-length': String(body.length) };
      const request = httpRequest(new URL(path, url), { method, agent, headers: { ...headers, ...length } });
      request.setTimeout(60_000, () => request.destroy(new Error(`${method} ${path}: no answer in 60 s`)));
      request.once('error', reject);
      request.once('response', (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.once('error', reject);
        response.once('end', () => {
          const ms = performance.now() - began;
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces), ms });
        });
      });
      request.end(body);
      return promise;
    },
    hangUp() {
      agent.destroy();
      agent = new Agent({ keepAlive: true });
    },
  };
}
