import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { NexusError } from '../errors.ts';
import { followConnections } from './connections.ts';
import { isLoopback } from './loopback.ts';
import { createServer, defaultLimits, type ServerOptions } from './server.ts';

export interface ServeOptions extends ServerOptions {
  /** Name or address to listen on. Other than loopback only with a key. */
  host: string;
  /** 0 takes a free one. */
  port: number;
  /** Aborted: no new connection is taken, what runs is finished, the rest is closed. */
  signal: AbortSignal;
  /** How long what runs may take to finish; then it is cut. Default 10 s. */
  drainMs?: number;
}

export interface Serving {
  /** The address that is listened on, as a URL without a trailing slash. */
  url: string;
  host: string;
  port: number;
  /** Resolves when it has stopped, after the signal. */
  closed: Promise<void>;
}

/**
 * Resolves when the endpoint listens. `config` for an address that would let strangers in, `unavailable` when it
 * is taken, `forbidden` when this user may not have it.
 */
export async function serve(options: ServeOptions): Promise<Serving> {
  const { host, port, signal, drainMs = 10_000 } = options;
  if (!isLoopback(host) && (await options.keys()).length === 0)
    throw new NexusError(
      'config',
      `Without any key the endpoint listens on loopback only, and ${host} is not: run \`nexus keys add\` first, or use 127.0.0.1.`,
    );
  const app = createServer(options);
  const connections = followConnections(app.server, options.limits?.connections ?? defaultLimits.connections);
  try {
    // One address and so one server: Fastify makes a second one for this name, and does not wait for it at the end.
    const { address } = host === 'localhost' ? await lookup(host) : { address: host };
    await app.listen({ host: address, port });
  } catch (error) {
    await app.close();
    throw listenError(error, host, port);
  }

  async function drain(): Promise<void> {
    const cut = setTimeout(() => app.server.closeAllConnections(), drainMs);
    try {
      const over = app.close();
      connections.closeUnused();
      await over;
    } finally {
      clearTimeout(cut);
    }
  }
  const closed = new Promise<void>((resolve, reject) => {
    const stop = () => {
      drain().then(resolve, reject);
    };
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });

  const address = app.server.address();
  const bound = typeof address === 'object' && address !== null ? address : { address: host, port };
  const shown = isIP(bound.address) === 6 ? `[${bound.address}]` : bound.address;
  return { url: `http://${shown}:${bound.port}`, host: bound.address, port: bound.port, closed };
}

function listenError(error: unknown, host: string, port: number): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error;
  const where = `${host}:${port}`;
  switch (error.code) {
    case 'EADDRINUSE':
      return new NexusError('unavailable', `${where} is taken by another process: stop it, or use --port.`, {
        cause: error,
      });
    case 'EACCES':
    case 'EPERM':
      return new NexusError('forbidden', `This user may not listen on ${where}: use a port from 1024 up.`, {
        cause: error,
      });
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAFNOSUPPORT':
      return new NexusError(
        'config',
        `This machine has no address ${host} to listen on: use another --host.`,
        {
          cause: error,
        },
      );
    default:
      return error;
  }
}
