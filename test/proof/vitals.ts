import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';

/** What a process holds. */
export interface Vitals {
  /** ms since 1970. */
  at: number;
  rssMiB: number;
  /** Open files and sockets, but for the store's lock files: it keeps those it has used, 64 at most. */
  handles: number;
  locks: number;
  threads: number;
  walMiB: number;
}

/** Between two spells of work, when nothing is under way. */
export interface Quiet extends Vitals {
  /** What is still reachable in the main thread after a collection: objects and buffers. */
  liveMiB: number;
}

const mebi = 1024 * 1024;

export async function vitalsOf(pid: number, wal: string): Promise<Vitals> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const open = await openOf(pid);
  const locks = open.filter((target) => /\/locks\/\d+\.sqlite$/.test(target)).length;
  const figure = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    at: Date.now(),
    rssMiB: figure('VmRSS') / 1024,
    handles: open.length - locks,
    locks,
    threads: figure('Threads'),
    walMiB: (await sizeOf(wal)) / mebi,
  };
}

/** What its descriptors are of. */
async function openOf(pid: number): Promise<string[]> {
  const directory = `/proc/${pid}/fd`;
  const targets = await Promise.all(
    // One that is closed between the two looks is not open.
    (await readdir(directory)).map((name) => readlink(path.join(directory, name)).catch(() => undefined)),
  );
  return targets.filter((target) => target !== undefined);
}

/** 0 where it is not there. */
async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch {
    // SQLite takes its log away when the last who has it open is gone.
    return 0;
  }
}

/** Bytes of all files below. */
export async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true }))
    if (entry.isFile()) bytes += await sizeOf(path.join(entry.parentPath, entry.name));
  return bytes;
}

/** Environment of a process that `liveMiBOf` shall ask at this port. */
export function inspectedAt(port: number): Record<string, string> {
  return { NODE_OPTIONS: `--inspect=127.0.0.1:${port}` };
}

/** A process that was started with `inspectedAt` this port, asked for what it cannot let go of. */
export async function liveMiBOf(port: number): Promise<number> {
  const targets: unknown = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
  const address = Array.isArray(targets) ? String(targets[0]?.webSocketDebuggerUrl) : '';
  const socket = new WebSocket(address);
  const { promise: opened, resolve, reject } = Promise.withResolvers<void>();
  socket.addEventListener('open', () => resolve());
  socket.addEventListener('error', () => reject(new Error(`no inspector at ${address}`)));
  await opened;
  let nth = 0;
  const call = (method: string, params: object = {}): Promise<unknown> => {
    const id = ++nth;
    const answer = Promise.withResolvers<unknown>();
    socket.addEventListener('message', function hear({ data }) {
      const message: { id?: number; result?: unknown } = JSON.parse(String(data));
      if (message.id !== id) return;
      socket.removeEventListener('message', hear);
      answer.resolve(message.result);
    });
    socket.send(JSON.stringify({ id, method, params }));
    return answer.promise;
  };
  try {
    // Twice: what a finalizer lets go of goes with the second.
    await call('HeapProfiler.collectGarbage');
    await call('HeapProfiler.collectGarbage');
    const expression = 'const { heapUsed, external } = process.memoryUsage(); heapUsed + external';
    const said = await call('Runtime.evaluate', { expression: `{ ${expression} }`, returnByValue: true });
    const text = JSON.stringify(said);
    const bytes = Number(/"value":(\d+)/.exec(text)?.[1]);
    if (!(bytes > 0)) throw new Error(`the inspector said ${text}`);
    return bytes / mebi;
  } finally {
    socket.close();
  }
}

/** By least squares, a second, with its standard error. */
export function slopeOf(points: readonly { at: number; value: number }[]): { slope: number; error: number } {
  const count = points.length;
  if (count < 3) return { slope: 0, error: Number.POSITIVE_INFINITY };
  const seconds = points.map(({ at }) => at / 1000);
  const meanX = seconds.reduce((sum, x) => sum + x, 0) / count;
  const meanY = points.reduce((sum, { value }) => sum + value, 0) / count;
  let [xx, xy] = [0, 0];
  points.forEach(({ value }, nth) => {
    const x = (seconds[nth] ?? 0) - meanX;
    xx += x * x;
    xy += x * (value - meanY);
  });
  const slope = xy / xx;
  const rest = points.reduce(
    (sum, { value }, nth) => sum + (value - meanY - slope * ((seconds[nth] ?? 0) - meanX)) ** 2,
    0,
  );
  return { slope, error: Math.sqrt(rest / (count - 2) / xx) };
}

export function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
