import { randomBytes, randomUUID } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Truth } from './truth.ts';

/** OpenClaw at work on one agent. */
export interface Growing {
  /** Does one of the things that OpenClaw does; answers the name of the transcript that it did it to. */
  step(): Promise<string>;
  /** What a run that takes all there is would have to store, by place. */
  places(): Promise<{ name: string; place: string; bytes: Buffer }[]>;
  /** Removes what is stored already, as OpenClaw does in time, so that a run does not get longer and longer. */
  prune(): Promise<void>;
}

const kept = 40;

/** The file era: `agents/{agent}/sessions/*.jsonl` that are begun, appended to, left, reset and written anew. */
export async function openFileEra(
  stateDir: string,
  agent: string,
  truth: Truth,
  random: () => number,
): Promise<Growing> {
  const directory = path.join(stateDir, 'agents', agent, 'sessions');
  await mkdir(directory, { recursive: true });
  const active: string[] = [];
  let closed = 0;

  const fileOf = (id: string): string => path.join(directory, `${id}.jsonl`);
  const nameOf = (id: string): string => `${agent}/${id}`;

  async function index(): Promise<void> {
    const entries = active.map((id, n) => [`agent:${agent}:work-${n}`, { sessionId: id }]);
    const temp = path.join(directory, 'sessions.json.tmp');
    await writeFile(temp, JSON.stringify(Object.fromEntries(entries)));
    await rename(temp, path.join(directory, 'sessions.json'));
  }

  async function begin(): Promise<string> {
    const id = randomUUID();
    const bytes = Buffer.concat([header(id), lines(random, 1 + Math.floor(random() * 12))]);
    truth.begin(nameOf(id), bytes);
    active.push(id);
    await index();
    await writeFile(fileOf(id), bytes);
    return id;
  }

  const steps: ((id: string) => Promise<string>)[] = [
    begin,
    async function grow(id) {
      const bytes = lines(random, 1 + Math.floor(random() * 8));
      truth.grow(nameOf(id), bytes);
      await appendFile(fileOf(id), bytes);
      return id;
    },
    // Its entry is gone, its file is left behind complete.
    async function leave(id) {
      active.splice(active.indexOf(id), 1);
      await index();
      return id;
    },
    async function reset(id) {
      active.splice(active.indexOf(id), 1);
      await index();
      const how = random() < 0.5 ? 'reset' : 'deleted';
      const at = new Date(Date.UTC(2026, 10, 1) + 1000 * closed++).toISOString().replaceAll(':', '-');
      await rename(fileOf(id), `${fileOf(id)}.${how}.${at}`);
      return id;
    },
    async function writeAnew(id) {
      const bytes = Buffer.concat([header(id), lines(random, 1 + Math.floor(random() * 8))]);
      truth.begin(nameOf(id), bytes);
      // In place, as a migration does; or beside it, as a repair does.
      if (random() < 0.5) await writeFile(fileOf(id), bytes);
      else {
        await writeFile(`${fileOf(id)}.tmp`, bytes);
        await rename(`${fileOf(id)}.tmp`, fileOf(id));
      }
      return id;
    },
  ];

  async function places(): Promise<{ name: string; place: string; bytes: Buffer }[]> {
    const found: { name: string; place: string; bytes: Buffer }[] = [];
    for (const below of ['.', 'archive']) {
      for (const file of await namesIn(path.join(directory, below))) {
        const id = /^([0-9a-f-]{36})\.jsonl(?!\.tmp)/.exec(file)?.[1];
        if (id === undefined) continue;
        const place = path.join(directory, below, file);
        found.push({ name: nameOf(id), place, bytes: await readFile(place) });
      }
    }
    return found;
  }

  await begin();
  return {
    places,
    async step() {
      const kind = active.length < 3 ? 0 : active.length > 8 ? 3 : Math.floor(random() * steps.length);
      const chosen = active[Math.floor(random() * active.length)];
      const id = await (steps[kind] ?? begin)(chosen ?? '');
      return nameOf(id);
    },
    async prune() {
      // Left and closed ones alone, the oldest first.
      const names = (await Promise.all(['.', 'archive'].map((below) => namesIn(path.join(directory, below)))))
        .flatMap((files, n) => files.map((file) => (n === 0 ? file : path.join('archive', file))))
        .filter((file) => file.includes('.jsonl') && !active.some((id) => file === `${id}.jsonl`));
      for (const file of names.slice(0, Math.max(0, names.length - kept)))
        await rm(path.join(directory, file));
    },
  };
}

function header(id: string): Buffer {
  const made = { type: 'session', version: 3, id, timestamp: new Date().toISOString(), made: randomUUID() };
  return Buffer.from(`${JSON.stringify(made)}\n`);
}

/** Messages that no two of are alike, some longer than a chunk. */
export function lines(random: () => number, count: number): Buffer {
  let text = '';
  for (let n = 0; n < count; n++) text += `${message(random)}\n`;
  return Buffer.from(text);
}

export function message(random: () => number): string {
  const content = randomBytes(random() < 0.1 ? 9_000 : 100 + Math.floor(random() * 900)).toString('base64');
  const usage = { input: 10, output: 2, totalTokens: 12 };
  return JSON.stringify({
    type: 'message',
    id: randomUUID().slice(0, 8),
    timestamp: new Date().toISOString(),
    message: { role: 'assistant', model: 'm', provider: 'p', content: `${content}é✓`, usage },
  });
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
