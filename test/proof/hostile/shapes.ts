import { setTimeout as delay } from 'node:timers/promises';
import { judge } from './judge.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';
import { answersIn, dial, say } from './wire.ts';

interface Shape {
  name: string;
  bytes: string;
  /** The status of each answer that there may be, in order; `undefined`: the connection is just cut. */
  answers: (number | undefined)[][];
}

const host = 'Host: 127.0.0.1\r\n';
const get = `GET /healthz HTTP/1.1\r\n${host}`;
/** What a smuggled request would be answered with: one that is seen answers 404. */
const smuggled = `GET /smuggled HTTP/1.1\r\n${host}\r\n`;
const cut = [400];
const okThenClosed = [200];

/** What is no HTTP, or two things at once. A smuggled request that is answered makes one answer too many. */
function shapesOf({ keys }: Stand): Shape[] {
  const key = `x-functions-key: ${keys.alpha}\r\n`;
  const post = `POST /api/webhook/alpha?source=plain HTTP/1.1\r\n${host}${key}`;
  const long = (n: number): string => 'a'.repeat(n);
  return [
    {
      name: 'two lengths',
      bytes: `${post}Content-Length: 5\r\nContent-Length: 0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    { name: 'two lengths in one', bytes: `${post}Content-Length: 5, 0\r\n\r\n${smuggled}`, answers: [cut] },
    {
      name: 'length and chunked',
      bytes: `${post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'chunked and length',
      bytes: `${post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'coding not last',
      bytes: `${post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'coding unknown',
      bytes: `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'coding with a tab',
      bytes: `${post}Transfer-Encoding:\tchunked, x\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'space before the colon',
      bytes: `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
      answers: [cut],
    },
    {
      name: 'folded header',
      bytes: `${post}Content-Length: 0\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n`,
      answers: [cut, [202], [200]],
    },
    { name: 'bare LF', bytes: `GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n${smuggled}`, answers: [cut] },
    { name: 'bare CR', bytes: `${get}X: a\rTransfer-Encoding: chunked\r\n\r\n`, answers: [cut] },
    { name: 'NUL in a header', bytes: `${get}X: a\u0000b\r\n\r\n`, answers: [cut] },
    { name: 'escape in a header name', bytes: `${get}X\u001b[31m: a\r\n\r\n`, answers: [cut] },
    { name: 'no host', bytes: `GET /healthz HTTP/1.1\r\n\r\n`, answers: [cut] },
    {
      name: 'two hosts',
      bytes: `${get}Host: other\r\nConnection: close\r\n\r\n`,
      answers: [cut, okThenClosed],
    },
    { name: 'length below 0', bytes: `${post}Content-Length: -1\r\n\r\n`, answers: [cut] },
    { name: 'length no number', bytes: `${post}Content-Length: 0x5\r\n\r\nabcde`, answers: [cut] },
    { name: 'length with a sign', bytes: `${post}Content-Length: +5\r\n\r\nabcde`, answers: [cut] },
    {
      name: 'length beyond all',
      bytes: `${post}Content-Length: 99999999999999999999\r\n\r\n`,
      answers: [cut, [413]],
    },
    { name: 'length of 26 MB', bytes: `${post}Content-Length: 27262976\r\n\r\n`, answers: [[413]] },
    { name: 'length of 1 TB', bytes: `${post}Content-Length: 1099511627776\r\n\r\n`, answers: [[413]] },
    {
      name: 'chunk size beyond all',
      bytes: `${post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n`,
      answers: [cut],
    },
    {
      name: 'chunk size no number',
      bytes: `${post}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
      answers: [cut],
    },
    { name: 'chunk size below 0', bytes: `${post}Transfer-Encoding: chunked\r\n\r\n-1\r\n`, answers: [cut] },
    {
      name: 'chunk longer than said',
      bytes: `${post}Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n`,
      answers: [cut],
    },
    {
      name: 'chunk extension without end',
      bytes: `${post}Transfer-Encoding: chunked\r\n\r\n1;${long(100_000)}`,
      answers: [[413], cut, [431]],
    },
    {
      name: 'trailers without end',
      bytes: `${post}Transfer-Encoding: chunked\r\n\r\n0\r\n${`X: ${long(100)}\r\n`.repeat(1000)}`,
      answers: [[431], cut],
    },
    { name: 'header of 20 KB', bytes: `${get}X: ${long(20_000)}\r\n\r\n`, answers: [[431]] },
    { name: '5000 headers', bytes: `${get}${'X: a\r\n'.repeat(5000)}\r\n`, answers: [[431]] },
    { name: 'header name of 20 KB', bytes: `${get}${long(20_000)}: a\r\n\r\n`, answers: [[431]] },
    { name: 'URL of 20 KB', bytes: `GET /${long(20_000)} HTTP/1.1\r\n${host}\r\n`, answers: [[431], [414]] },
    { name: 'method of 20 KB', bytes: `${long(20_000)} / HTTP/1.1\r\n${host}\r\n`, answers: [cut, [431]] },
    { name: 'no such version', bytes: `GET /healthz HTTP/9.9\r\n${host}\r\n`, answers: [cut] },
    { name: 'HTTP/2 preface', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', answers: [cut] },
    {
      name: 'TLS',
      bytes: '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003',
      answers: [cut],
    },
    { name: 'HTTP/0.9', bytes: 'GET /healthz\r\n\r\n', answers: [cut, okThenClosed] },
    {
      name: 'CONNECT',
      bytes: `CONNECT 127.0.0.1:22 HTTP/1.1\r\n${host}\r\n`,
      answers: [[], [404], [405], cut],
    },
    {
      name: 'absolute URL',
      bytes: `GET http://127.0.0.1:22/healthz HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      answers: [[404], cut, okThenClosed],
    },
    {
      name: 'asterisk',
      bytes: `OPTIONS * HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      answers: [[404], [405], cut],
    },
    {
      name: 'upgrade to a web socket',
      bytes: `${get}Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n`,
      answers: [[200], [], cut],
    },
    {
      name: 'upgrade to h2c',
      bytes: `${get}Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      answers: [[200], [], cut],
    },
    {
      name: 'pipelined',
      bytes: `${`${get}\r\n`.repeat(50)}${get}Connection: close\r\n\r\n`,
      answers: [Array<number>(51).fill(200)],
    },
    {
      name: 'pipelined behind a refusal',
      bytes: `GET /nothing HTTP/1.1\r\n${host}\r\n${get}Connection: close\r\n\r\n`,
      answers: [[404, 200]],
    },
    {
      name: 'Expect of something else',
      bytes: `${get}Expect: 200-maybe\r\nConnection: close\r\n\r\n`,
      answers: [[417]],
    },
    { name: 'only line ends', bytes: '\r\n'.repeat(1000), answers: [[], cut] },
    { name: 'nothing but NUL', bytes: '\u0000'.repeat(1000), answers: [cut] },
  ];
}

/** Each within its time answered as it should be, and no request seen that was hidden in another. */
export async function trickParser(stand: Stand, notes: Notes): Promise<void> {
  for (const { name, bytes, answers: right } of shapesOf(stand)) {
    const heard = await say(stand.door, Buffer.from(bytes, 'latin1'), 20_000, name === 'only line ends');
    const answers = answersIn(heard.bytes);
    notes.count('malformed, smuggled and oversized requests');
    const statuses = answers.map(({ status }) => status);
    const asked = { method: 'RAW', url: name, headers: [] };
    for (const answer of answers) judge(stand, notes, asked, { ...answer, rest: Buffer.alloc(0) });
    if (!right.some((one) => one.join() === statuses.join()))
      notes.broken(
        `A malformed request was not answered as it should be: ${name}.`,
        `${statuses.join()} for ${JSON.stringify(bytes.slice(0, 600))}`,
      );
    if (!heard.ended) notes.broken('A connection with a malformed request was left open.', name);
  }
}

/** Requests cut off anywhere, and connections half closed: what was not asked whole is forgotten. */
export async function cutOff(stand: Stand, notes: Notes, random: () => number): Promise<void> {
  const body = JSON.stringify({ cut: 'x'.repeat(3000) });
  const whole = `POST /api/webhook/alpha?source=plain HTTP/1.1\r\n${host}x-functions-key: ${stand.keys.alpha}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const ends = Array.from({ length: 40 }, () => Math.floor(random() * whole.length));
  await Promise.all(
    ends.map(async (end, nth) => {
      notes.count('requests cut off or half closed');
      const bytes = Buffer.from(whole.slice(0, end));
      if (nth % 2 === 0) {
        const socket = dial(stand.door);
        socket.write(bytes);
        await delay(random() * 100);
        if (nth % 4 === 0) socket.resetAndDestroy();
        else socket.destroy();
        return;
      }
      const { ended, bytes: heard } = await say(stand.door, bytes, 20_000, true);
      const taken = answersIn(heard).some(({ status }) => status < 300);
      if (taken)
        notes.broken(
          'A request that was cut off was taken for a whole one.',
          `${end} of ${whole.length} bytes`,
        );
      if (!ended) notes.broken('A half closed connection was left open.', `${end} of ${whole.length} bytes`);
    }),
  );
}
