import { createHmac, randomUUID } from 'node:crypto';
import { connect } from 'node:net';

export interface Load {
  /** Answers a second. */
  rate: number;
  /** Milliseconds that 99 of 100 answers took at most. */
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

/** Sends each request once, over so many connections, the next when the answer to the last is there. */
export async function sendAll(url: string, requests: readonly Buffer[], connections: number): Promise<Load> {
  const port = Number(new URL(url).port);
  const queue = requests.values();
  const times: number[] = [];
  const statuses: Record<string, number> = {};
  const began = performance.now();
  await Promise.all(Array.from({ length: connections }, () => onOneConnection(port, queue, times, statuses)));
  const seconds = (performance.now() - began) / 1000;
  times.sort((one, other) => one - other);
  return { rate: times.length / seconds, p99: times[Math.floor(times.length * 0.99)] ?? 0, statuses };
}

function onOneConnection(
  port: number,
  queue: Iterator<Buffer>,
  times: number[],
  statuses: Record<string, number>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host, noDelay: true });
    let sent = 0;
    let answer = '';
    function next(): void {
      const request = queue.next();
      if (request.done === true) {
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
      const status = answer.slice(9, 12);
      statuses[status] = (statuses[status] ?? 0) + 1;
      times.push(performance.now() - sent);
      next();
    });
    socket.once('error', reject);
    socket.once('close', () => resolve());
  });
}
