import { connect, type Socket } from 'node:net';

/** Where an endpoint listens. */
export interface Door {
  host: string;
  port: number;
}

/** All that came back on one connection. */
export interface Heard {
  bytes: Buffer;
  /** The other side ended it; else the time was over. */
  ended: boolean;
  ms: number;
}

export interface Answer {
  status: number;
  /** As sent, in order; names as sent. */
  head: string[];
  headers: Map<string, string>;
  body: Buffer;
  /** What came after the body on the same connection. */
  rest: Buffer;
}

let last = 0;

/** Another address of this machine each time: one pair of addresses has not ports enough for all. */
export function nextAddress(): string {
  last = (last + 1) % 200;
  return `127.0.0.${last + 2}`;
}

/** An open connection, its errors heard by nobody: being cut is an answer too. */
export function dial({ host, port }: Door): Socket {
  const socket = connect({ host, port, localAddress: nextAddress() });
  socket.on('error', () => undefined);
  return socket;
}

/** Says bytes on a connection of their own and hears what comes until the other side ends it. */
export async function say(door: Door, bytes: Uint8Array, boundMs: number, end = false): Promise<Heard> {
  const began = performance.now();
  return await new Promise<Heard>((resolve) => {
    const pieces: Buffer[] = [];
    const socket = dial(door);
    const over = (ended: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ bytes: Buffer.concat(pieces), ended, ms: performance.now() - began });
    };
    const timer = setTimeout(() => over(false), boundMs);
    socket.on('data', (piece: Buffer) => void pieces.push(piece));
    socket.once('end', () => over(true));
    socket.once('close', () => over(true));
    socket.write(bytes);
    if (end) socket.end();
  });
}

/** The first answer in what came; `undefined` where there is no whole one. Interim answers are left out. */
export function answerIn(bytes: Buffer, method = 'GET'): Answer | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...head] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first)?.[1]);
  if (Number.isNaN(status)) return undefined;
  const after = bytes.subarray(end + 4);
  if (status === 100) return answerIn(after, method);
  const headers = new Map(
    head.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const made = (body: Buffer, rest: Buffer): Answer => ({ status, head, headers, body, rest });
  if (method === 'HEAD' || status === 204 || status === 304) return made(Buffer.alloc(0), after);
  if (headers.get('transfer-encoding') === 'chunked') {
    const read = unchunked(after);
    return read === undefined ? undefined : made(read.body, read.rest);
  }
  const length = headers.get('content-length');
  if (length === undefined) return made(after, Buffer.alloc(0));
  if (after.length < Number(length)) return undefined;
  return made(after.subarray(0, Number(length)), after.subarray(Number(length)));
}

/** All answers, one after the other. */
export function answersIn(bytes: Buffer): Answer[] {
  const answers: Answer[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const answer = answerIn(rest);
    if (answer === undefined) break;
    answers.push(answer);
    rest = answer.rest;
  }
  return answers;
}

function unchunked(bytes: Buffer): { body: Buffer; rest: Buffer } | undefined {
  const pieces: Buffer[] = [];
  for (let at = 0; ; ) {
    const line = bytes.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const size = Number.parseInt(bytes.subarray(at, line).toString('latin1'), 16);
    if (Number.isNaN(size) || bytes.length < line + size + 4) return undefined;
    pieces.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + size + 4;
    if (size === 0) return { body: Buffer.concat(pieces), rest: bytes.subarray(at) };
  }
}
