import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { ask } from './asked.ts';
import type { Notes } from './notes.ts';
import type { Stand } from './stand.ts';
import { dial } from './wire.ts';

const wanted = 10_000;
/** Of file descriptors, for what else a process has open. */
const others = 500;
/** What 10,000 connections may add to the endpoint, MiB. */
const mostMiB = 400;

/** So many connections on which nothing is asked, all at once: others are answered, memory is bounded, all is given back. */
export async function crowd(stand: Stand, notes: Notes): Promise<void> {
  const { pid } = stand.serving;
  const room = Math.min(openFilesOf('self'), openFilesOf(String(pid))) - others;
  const count = Math.min(wanted, room);
  if (count < wanted)
    notes.left(`${wanted} idle connections: this machine's limit of open files allows ${count}.`);
  const before = { files: filesOf(pid), mib: residentOf(pid) };
  const sockets: Socket[] = [];
  let slowest = 0;
  let opened = 0;
  const look = async (when: string): Promise<void> => {
    const began = performance.now();
    const answer = await ask(stand.door, {
      method: 'GET',
      url: '/api/store',
      headers: [['x-functions-key', stand.keys.alpha]],
    });
    slowest = Math.max(slowest, performance.now() - began);
    if (answer?.status !== 200)
      notes.broken(
        'Idle connections keep others from being answered.',
        `${when}: ${answer?.status ?? 'no answer'}`,
      );
  };
  try {
    for (let n = 0; n < count; n += 500) {
      const some = Array.from({ length: Math.min(500, count - n) }, () => dial(stand.door));
      sockets.push(...some);
      opened += (await Promise.all(some.map(connected))).filter(Boolean).length;
      await look(`with ${sockets.length}`);
    }
    for (let n = 0; n < 10; n++) await look('with all');
    const mib = residentOf(pid) - before.mib;
    if (mib > mostMiB) notes.broken('Idle connections take memory without bound.', `${mib} MiB for ${count}`);
    notes.count(`idle connections, ${count} at once`, opened);
    if (opened < count) notes.broken('A connection was not even taken.', `${count - opened} of ${count}`);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
  for (let n = 0; n < 100 && filesOf(pid) > before.files + 20; n++) await delay(100);
  const left = filesOf(pid) - before.files;
  if (left > 20)
    notes.broken('Descriptors of connections that are gone are not given back.', `${left} more than before`);
  if (stand.gone()) notes.broken('The endpoint ended.', 'under idle connections');
}

function connected(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('close', () => resolve(false));
  });
}

export function filesOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** MiB. */
export function residentOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kib) / 1024);
}

/** The most it ever was. */
export function peakOf(pid: number): number {
  const kib = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kib) / 1024);
}

function openFilesOf(process: string): number {
  const line = /^Max open files\s+(\S+)/m.exec(readFileSync(`/proc/${process}/limits`, 'utf8'))?.[1];
  return line === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(line);
}
