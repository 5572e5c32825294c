import { type Answer, answerIn, type Door, say } from './wire.ts';

/** A request as it goes over the wire: nothing is escaped or completed but the length of the body. */
export interface Asked {
  method: string;
  /** With its query, percent-encoded as it shall be. */
  url: string;
  /** Latin-1. */
  headers: [name: string, value: string][];
  body?: Uint8Array;
  /** In chunks of this many bytes rather than with a length. */
  chunks?: number;
}

export function bytesOf({ method, url, headers, body, chunks }: Asked): Buffer {
  const lines = [`${method} ${url} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: close'];
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  const chunked = chunks !== undefined && body !== undefined;
  if (chunked) lines.push('Transfer-Encoding: chunked');
  else if (body !== undefined) lines.push(`Content-Length: ${body.length}`);
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  if (body === undefined) return head;
  return Buffer.concat([head, ...(chunked ? chunksOf(body, chunks) : [body])]);
}

function chunksOf(body: Uint8Array, size: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += size) {
    const piece = body.subarray(at, at + size);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  return [...pieces, Buffer.from('0\r\n\r\n')];
}

/** Within this every request has its answer; what may wait by its own wish waits less. */
export const boundMs = 15_000;

export async function ask(door: Door, asked: Asked): Promise<Answer | undefined> {
  const { bytes } = await say(door, bytesOf(asked), boundMs);
  return answerIn(bytes, asked.method);
}

/** To see it again: enough to make the same request. */
export function againOf({ method, url, headers, body, chunks }: Asked): string {
  const short = (text: string): string =>
    text.length <= 300 ? text : `${text.slice(0, 300)}… (${text.length})`;
  return JSON.stringify({
    method,
    url: short(url),
    headers: headers.map(([name, value]) => [short(name), short(value)]),
    ...(body === undefined
      ? {}
      : { bytes: body.length, base64: Buffer.from(body).subarray(0, 300).toString('base64') }),
    ...(chunks === undefined ? {} : { chunks }),
  });
}
