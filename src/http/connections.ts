import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** The connections of a listener. */
export interface Connections {
  /**
   * Once called, closes each connection as soon as no request is under way on it. Node's own way leaves out those on
   * which none ever was, which a client's pool keeps in reserve, and those whose answer had begun before.
   */
  closeUnused(): void;
}

/**
 * Keeps at most so many. A new one is let in for the longest unused: first of those on which nothing was ever asked,
 * then of those between two requests, so that whoever holds many and asks nothing keeps nobody out. Where a request
 * is under way on every one the new one is closed.
 */
export function followConnections(server: Server, most: number): Connections {
  const running = new Map<Socket, number>();
  /** Those that have been unused longest are first. */
  const neverUsed = new Set<Socket>();
  const betweenRequests = new Set<Socket>();
  let closing = false;

  function forget(socket: Socket): void {
    running.delete(socket);
    neverUsed.delete(socket);
    betweenRequests.delete(socket);
  }

  function count(socket: Socket, by: number): void {
    const before = running.get(socket);
    if (before === undefined) return;
    const requests = before + by;
    running.set(socket, requests);
    neverUsed.delete(socket);
    betweenRequests.delete(socket);
    if (requests > 0) return;
    if (closing) socket.destroySoon();
    else betweenRequests.add(socket);
  }

  function begin({ socket }: IncomingMessage, response: ServerResponse): void {
    count(socket, 1);
    response.once('close', () => count(socket, -1));
  }

  server.on('connection', (socket: Socket) => {
    if (running.size >= most) {
      const [left = socket] = [...first(neverUsed), ...first(betweenRequests)];
      forget(left);
      left.destroy();
      if (left === socket) return;
    }
    running.set(socket, 0);
    neverUsed.add(socket);
    socket.once('close', () => forget(socket));
  });
  server.on('request', begin);
  server.on('checkContinue', begin);
  return {
    closeUnused() {
      closing = true;
      for (const [socket, requests] of running) if (requests === 0) socket.destroy();
    },
  };
}

function first(sockets: Set<Socket>): Socket[] {
  for (const socket of sockets) return [socket];
  return [];
}
