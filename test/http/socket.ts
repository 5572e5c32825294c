import { once } from 'node:events';
import net from 'node:net';
import { onTestFinished } from 'vitest';

export interface RawSocket {
  write(text: string | Buffer): void;
  /** What has come so far. */
  received(): string;
  /** Waits until what has come matches. */
  until(pattern: RegExp): Promise<string>;
  /** Resolves when the other side has closed. */
  closed: Promise<void>;
  destroy(): void;
}

/** A connection on which a test says exactly what goes over the wire. */
export async function connect(port: number, options: { halfOpen?: boolean } = {}): Promise<RawSocket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: options.halfOpen ?? false });
  onTestFinished(() => {
    socket.destroy();
  });
  let text = '';
  socket.on('data', (piece: Buffer) => {
    text += piece.toString('latin1');
  });
  socket.on('error', () => {
    // Being reset is an answer too; `closed` tells.
  });
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.once('end', () => resolve());
  });
  await once(socket, 'connect');
  return {
    write: (piece) => void socket.write(piece),
    received: () => text,
    async until(pattern) {
      const end = Date.now() + 5000;
      while (!pattern.test(text)) {
        if (Date.now() > end)
          throw new Error(`nothing that matches ${String(pattern)} came, but ${text.slice(0, 500)}`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return text;
    },
    closed,
    destroy: () => socket.destroy(),
  };
}
