import { createHmac, randomUUID } from 'node:crypto';
import { connect } from 'node:net';

export interface Load {
  /** Answers a second. */
  rate: number;
  /** Milliseconds that 50, 90 and 99 of 100 answers took at most. */
  p50: number;
  p90: number;
  p99: number;
  /** How many answers had which status. */
  statuses: Record<string, number>;
}

const host = '127.0.0.1';

/** GitHub's requests with a body of 1 KiB, each another delivery, signed before anything is measured. */
export function signedRequests(count: number, secret: string): Buffer[] {
  return Array.from({ length: count }, () => {
    const delivery = randomUUID();
    const filling = 'x'.repeat(1024 - 64);
    const body = JSON.stringify({ action: 'opened', delivery, filling }).padEnd(1024);
    const signature = createHmac('sha256', secret).update(body).digest('hex');
    const head = [
      'POST /api/webhook/main?source=github HTTP/1.1',
      `Host: ${host}`,
      'User-Agent: GitHub-Hookshot/bench',
      'Content-Type: application/json',
      'X-GitHub-Event: issues',
      `X-GitHub-Delivery: ${delivery}`,
      `X-Hub-Signature-256: sha256=${signature}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
    ];
    return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`);
  });
}

/**
 * Sends each request once, over so many connections, the next when the answer to the last is there. `answered` is told
 * of each answer's body. Rejects where a connection broke.
 */
export async function sendAll(
  url: string,
  requests: Iterable<Buffer>,
  connections: number,
  answered: (status: string, body: string) => void = () => undefined,
): Promise<Load> {
  const port = Number(new URL(url).port);
  const queue = requests[Symbol.iterator]();
  const times: number[] = [];
  const statuses: Record<string, number> = {};
  const began = performance.now();
  const heard = (status: string, body: string, ms: number): void => {
    statuses[status] = (statuses[status] ?? 0) + 1;
    times.push(ms);
    answered(status, body);
  };
  await Promise.all(Array.from({ length: connections }, () => onOneConnection(port, queue, heard)));
  const seconds = (performance.now() - began) / 1000;
  times.sort((one, other) => one - other);
  const within = (part: number): number => times[Math.floor(times.length * part)] ?? 0;
  return {
    rate: times.length / seconds,
    p50: within(0.5),
    p90: within(0.9),
    p99: within(0.99),
    statuses,
  };
}

function onOneConnection(
  port: number,
  queue: Iterator<Buffer>,
  heard: (status: string, body: string, ms: number) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host, noDelay: true });
    let sent = 0;
    let answer = '';
    let over = false;
    function next(): void {
      const request = queue.next();
      if (request.done === true) {
        over = true;
        socket.end();
        return;
      }
      sent = performance.now();
      answer = '';
      socket.write(request.value);
    }
    socket.once('connect', next);
    socket.on('data', (data: Buffer) => {
      answer += data.toString('latin1');
      const end = answer.indexOf('\r\n\r\n');
      const length = /\r\ncontent-length: (\d+)/i.exec(answer)?.[1];
      if (end === -1 || length === undefined || answer.length < end + 4 + Number(length)) return;
      heard(answer.slice(9, 12), answer.slice(end + 4), performance.now() - sent);
      next();
    });
    socket.once('error', reject);
    // Before there was nothing more to send: an answer is missing.
    socket.once('close', () =>
      over ? resolve() : reject(new Error('a connection was closed in the middle')),
    );
  });
}
