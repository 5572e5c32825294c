import { createServer, request as ask, type Server } from 'node:http';

export interface Front {
  /** Where it listens, as `defaultHostName` and `fqdn` say it. */
  host: string;
  url: string;
  close: () => Promise<void>;
}

/** What a platform has before a site: it says who asked, as App Service does, and 503 where nothing answers. */
export async function openFront(portOf: () => number | undefined): Promise<Front> {
  const server: Server = createServer((incoming, outgoing) => {
    const { method, url, headers, socket } = incoming;
    const before = headers['x-forwarded-for'];
    const asker = `${socket.remoteAddress}:${socket.remotePort}`;
    const unavailable = () => {
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(503).end('The service is unavailable.');
    };
    const port = portOf();
    if (port === undefined) return unavailable();
    const forwarded = ask(
      {
        host: '127.0.0.1',
        port,
        method,
        path: url,
        headers: {
          ...headers,
          'x-forwarded-for': before === undefined ? asker : `${String(before)}, ${asker}`,
          'x-forwarded-proto': 'https',
        },
      },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    forwarded.on('error', unavailable);
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  const host = `127.0.0.1:${address.port}`;
  return {
    host,
    url: `http://${host}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
