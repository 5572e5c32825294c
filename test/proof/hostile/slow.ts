import { setTimeout as delay } from 'node:timers/promises';
import { ask } from './asked.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';
import { dial } from './wire.ts';

/** What the endpoint gives a head, and how late it may look; ms. */
const headMs = 15_000 + 5_000;
const bodyMs = 300_000 + 5_000;
const slackMs = 5_000;

/** Connections that say a byte now and then, and none that is kept longer than the time for what it says. */
export async function trickle(stand: Stand, notes: Notes, deadline: number): Promise<void> {
  const post = `POST /api/webhook/alpha?source=github HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n`;
  const key = `x-functions-key: ${stand.keys.alpha}`;
  const keyed = `POST /api/webhook/alpha?source=plain HTTP/1.1\r\nHost: 127.0.0.1\r\n${key}\r\nContent-Length: 100000\r\n\r\n`;
  const heads = [
    '',
    'G',
    'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ',
    'POST /api/sessions HTTP/1.1\r\nHost: 1',
  ];
  const tries = heads.flatMap((begin) => Array.from({ length: 10 }, () => slow(stand, begin, headMs)));
  // Signed by nobody, so refused before the body is read.
  tries.push(slow(stand, post, headMs));
  const patient = deadline - Date.now() > bodyMs;
  if (patient) tries.push(slow(stand, keyed, bodyMs));
  else
    notes.left(
      'A body that trickles is cut after five minutes: not waited for in a short run (a test has it with a shorter limit).',
    );
  const done = Promise.all(tries);
  for (let n = 0; n < 10; n++) {
    const answer = await ask(stand.door, { method: 'GET', url: '/healthz', headers: [] });
    if (answer?.status !== 200)
      notes.broken('Slow requests keep others from being answered.', String(answer?.status));
    await delay(1000);
  }
  for (const { begin, ms, ended } of await done) {
    notes.count('slow heads and bodies');
    if (!ended)
      notes.broken(
        'A slow request was not cut in its time.',
        `${JSON.stringify(begin.slice(0, 60))}: ${Math.round(ms)} ms`,
      );
  }
}

async function slow(
  stand: Stand,
  begin: string,
  ms: number,
): Promise<{ begin: string; ms: number; ended: boolean }> {
  const began = performance.now();
  const socket = dial(stand.door);
  const state = { ended: false };
  socket.on('close', () => (state.ended = true));
  socket.resume();
  if (begin !== '') socket.write(begin);
  while (!state.ended && performance.now() - began < ms + slackMs) {
    await delay(500);
    if (begin !== '' && !state.ended) socket.write('x');
  }
  socket.destroy();
  return { begin, ms: performance.now() - began, ended: state.ended };
}
