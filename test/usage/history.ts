// A slow and obvious counter, written apart from the product, and what tests of usage share.
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import { onTestFinished } from 'vitest';
import type { Usage } from '../../src/usage.ts';
import type { UsageRow } from '../../src/usagequery.ts';

/** What is stored: `agent/transcript` → its text, and whether it is complete. */
export type Stored = Map<string, { text: string; complete: boolean }>;

interface Entry {
  agent: string;
  session: string;
  history: string;
  id: string;
  loose: string;
  day: string;
  model: string;
  tokens: [number, number, number, number];
  cost: number | undefined;
}

interface Line {
  type?: string;
  id?: string;
  timestamp?: string;
  message?: {
    role?: string;
    provider?: string;
    model?: string;
    timestamp?: number;
    usage?: {
      input?: number;
      output?: number;
      cacheRead?: number;
      cacheWrite?: number;
      cost?: { total?: number };
    };
  };
}

/** Calls, the four token counts, recorded billionths of a dollar, and calls with a recorded cost. */
export type Figures = [calls: number, ...tokens: number[]];

/** By `agent session day model`. */
export function countSlowly(stored: Stored): Map<string, Figures> {
  const entries: Entry[] = [];
  const starts = new Map<string, number>();
  for (const [name, { text, complete }] of stored) {
    const [agent = '', history = ''] = name.split('/');
    const session = history.replace(/~\d+$/, '');
    const lines = text.split('\n');
    const last = lines.pop() ?? '';
    if (complete && last !== '') lines.push(last);
    let header: number | undefined;
    let first: number | undefined;
    for (const raw of lines) {
      const line = lineIn(raw);
      if (line === undefined) continue;
      const at = line.timestamp === undefined ? undefined : Date.parse(line.timestamp);
      if (line.type === 'session') header ??= at;
      // Of records that are no messages only headers are looked into.
      if (line.type === 'session' || line.type === 'message') first ??= at;
      const { message } = line;
      if (line.type !== 'message' || message?.role !== 'assistant' || message.usage === undefined) continue;
      const { input = 0, output = 0, cacheRead = 0, cacheWrite = 0, cost } = message.usage;
      if (input + output + cacheRead + cacheWrite === 0 && !cost?.total) continue;
      const time = at ?? message.timestamp;
      if (time === undefined) continue;
      const day = new Date(time).toISOString().slice(0, 10);
      const model = message.model ?? 'unknown';
      const loose = JSON.stringify([time, message.provider, model, input, output, cacheRead, cacheWrite]);
      entries.push({
        agent,
        session,
        history,
        id: line.id ?? '',
        loose,
        day,
        model,
        tokens: [input, output, cacheRead, cacheWrite],
        cost: cost?.total === undefined ? undefined : Math.round(cost.total * 1e9),
      });
    }
    const start = header ?? first ?? Number.POSITIVE_INFINITY;
    const key = `${agent}/${session}`;
    starts.set(key, Math.min(start, starts.get(key) ?? Number.POSITIVE_INFINITY));
  }

  const figures = new Map<string, Figures>();
  for (const agent of new Set(entries.map((entry) => entry.agent)))
    for (const loose of new Set(entries.map((entry) => entry.loose))) {
      const alike = entries.filter((entry) => entry.agent === agent && entry.loose === loose);
      const [one] = alike;
      if (one === undefined) continue;
      const costOf = (id: string): number =>
        Math.max(-1, ...alike.filter((entry) => entry.id === id).map((entry) => entry.cost ?? -1));
      for (const session of new Set(alike.map((entry) => entry.session))) {
        const start = starts.get(`${agent}/${session}`) ?? 0;
        const before = (other: string): boolean => {
          const began = starts.get(`${agent}/${other}`) ?? 0;
          return began < start || (began === start && other < session);
        };
        const mine = alike.filter((entry) => entry.session === session);
        const theirs = new Set(alike.filter((entry) => before(entry.session)).map(({ id }) => id));
        let most = 0;
        let mostShared = 0;
        const costs: number[] = [];
        for (const history of new Set(mine.map((entry) => entry.history))) {
          const ids = new Set(mine.filter((entry) => entry.history === history).map(({ id }) => id));
          const own = [...ids].filter((id) => !theirs.has(id));
          most = Math.max(most, ids.size);
          mostShared = Math.max(mostShared, ids.size - own.length);
          // The costliest of each history are the same call, and so on.
          const sorted = own.map(costOf).sort((a, b) => b - a);
          for (const [nth, cost] of sorted.entries()) costs[nth] = Math.max(costs[nth] ?? -1, cost);
        }
        const calls = most - mostShared;
        if (calls === 0) continue;
        const key = `${agent} ${session} ${one.day} ${one.model}`;
        const sums = figures.get(key) ?? [0, 0, 0, 0, 0, 0, 0];
        const paid = costs.slice(0, calls).filter((cost) => cost > 0);
        const cost = paid.reduce((all, each) => all + each, 0);
        const added = [calls, ...one.tokens.map((count) => count * calls), cost, paid.length];
        const [sum = 0, ...rest] = sums.map((figure, nth) => figure + (added[nth] ?? 0));
        figures.set(key, [sum, ...rest]);
      }
    }
  return figures;
}

/** Lines that are no JSON object. */
export function countUnparsable(stored: Stored): number {
  return [...stored.values()].reduce((sum, { text, complete }) => {
    const lines = text.split('\n');
    const last = lines.pop() ?? '';
    const whole = complete ? [...lines, last] : lines;
    return sum + whole.filter((line) => line.trim() !== '' && lineIn(line) === undefined).length;
  }, 0);
}

function lineIn(raw: string): Line | undefined {
  try {
    const line: unknown = JSON.parse(raw);
    return typeof line === 'object' && line !== null && !Array.isArray(line) ? line : undefined;
  } catch {
    return undefined;
  }
}

/** As `countSlowly`, from the index. */
export async function countedBy(usage: Usage): Promise<Map<string, Figures>> {
  return figuresOf((await usage.query({ by: ['agent', 'session', 'day', 'model'], tz: 'UTC' })).rows);
}

/** Of rows by agent, session, day and model. */
export function figuresOf(rows: readonly UsageRow[]): Map<string, Figures> {
  const figures = rows.map((row): [string, Figures] => [
    `${row.agent} ${row.session?.split('/')[1]} ${row.day} ${row.model}`,
    [
      row.calls,
      row.input,
      row.output,
      row.cacheRead,
      row.cacheWrite,
      Math.round(row.costRecorded * 1e9),
      row.costCoverage.recorded,
    ],
  ]);
  return new Map(figures);
}

export async function temporary(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-usage-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Changes one byte of a file. */
export async function rotAt(file: string, position: number): Promise<void> {
  const handle = await open(file, 'r+');
  const byte = Buffer.alloc(1);
  await handle.read(byte, 0, 1, position);
  await handle.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, position);
  await handle.close();
}

export async function exhaust(iterator: AsyncIterator<unknown>): Promise<void> {
  while ((await iterator.next()).done !== true);
}

/** The threads that are begun from now on, until the test has ended. */
export function workersBegun(): Worker[] {
  const workers: Worker[] = [];
  const note = (worker: Worker): number => workers.push(worker);
  process.on('worker', note);
  onTestFinished(() => {
    process.off('worker', note);
  });
  return workers;
}
