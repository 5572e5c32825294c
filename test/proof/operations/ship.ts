import { appendFile, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openSessions } from '../../../src/sessions.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import type { World } from '../world.ts';
import { endingOf, endOf, finishedBy, type Flow } from './flow.ts';

const ids = {
  grows: 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa',
  large: 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb',
  rewritten: 'cccccccc-cccc-4ccc-8ccc-cccccccccccc',
};
const deleted = '.deleted.2026-11-20T11-00-00.000Z';

function lines(id: string, count: number, text: string): string {
  const header = { type: 'session', version: 3, id, timestamp: '2026-11-20T10:00:00.000Z', cwd: '/' };
  return `${JSON.stringify(header)}\n${messages(count, text)}`;
}

function messages(count: number, text: string): string {
  return Array.from({ length: count }, (_, n) => {
    const message = { role: 'user', content: `${text} ${n}` };
    return `${JSON.stringify({ type: 'message', id: `${n}`, timestamp: '2026-11-20T10:00:01.000Z', message })}\n`;
  }).join('');
}

const sessionsOf = ({ stateDir }: World): string => path.join(stateDir, 'agents', 'main', 'sessions');

async function put(world: World, name: string, text: string, ageMs: number): Promise<void> {
  const file = path.join(sessionsOf(world), name);
  await writeFile(file, text);
  const at = new Date(Date.now() - ageMs);
  await utimes(file, at, at);
}

const hour = 3_600_000;
const old = lines(ids.rewritten, 2, 'old');
const anew = lines(ids.rewritten, 2, 'anew');
const first = lines(ids.grows, 3, 'first');
const tail = messages(2, 'tail');
const large = lines(ids.large, 120, 'large');

export const shipSettings = { host: 'box', chunkBytes: 8 * 1024, concurrency: 1 };

async function begin(world: World): Promise<void> {
  await world.configure(shipSettings);
  await mkdir(sessionsOf(world), { recursive: true });
  const entries = {
    'agent:main:one': { sessionId: ids.grows },
    'agent:main:two': { sessionId: ids.rewritten },
  };
  await writeFile(path.join(sessionsOf(world), 'sessions.json'), JSON.stringify(entries));
  await put(world, `${ids.grows}.jsonl`, first, 3 * hour);
  await put(world, `${ids.rewritten}.jsonl`, old, 3 * hour);
}

/** Since the last run one has grown, one was written anew, its old one is deleted, and one is new and done. */
async function goOn(world: World): Promise<void> {
  await appendFile(path.join(sessionsOf(world), `${ids.grows}.jsonl`), tail);
  const at = new Date(Date.now() - 2 * hour);
  await utimes(path.join(sessionsOf(world), `${ids.grows}.jsonl`), at, at);
  await put(world, `${ids.rewritten}.jsonl`, anew, 2 * hour);
  await put(world, `${ids.rewritten}.jsonl${deleted}`, old, 2 * hour);
  await put(world, `${ids.large}.jsonl${deleted}`, large, 2 * hour);
}

/** By the name in the archive: histories under one name are `X` and `X~2`, in whichever order they came. */
const expected = new Map([
  [`main/${ids.grows}`, [first + tail]],
  [`main/${ids.large}`, [large]],
  [`main/${ids.rewritten}`, [anew, old]],
]);

/** Every stored transcript, as it reads. */
export async function storedIn(dataDir: string): Promise<Map<string, string>> {
  const nexus = openSessions(await openLocalStore(path.join(dataDir, 'store')));
  try {
    const stored = new Map<string, string>();
    for await (const { agent, transcript } of nexus.list()) {
      const pieces: Uint8Array[] = [];
      for await (const piece of nexus.read(agent, transcript)) pieces.push(piece);
      stored.set(`${agent}/${transcript}`, Buffer.concat(pieces).toString());
    }
    return stored;
  } finally {
    await nexus.close();
  }
}

/**
 * OpenClaw's transcripts, in `archive/` or not. Each of them once: one whose move was cut short may lie there under a
 * second name, which says nothing else.
 */
export async function atHome(world: World): Promise<{ texts: string[]; moved: number }> {
  const texts = new Set<string>();
  const moved = new Set<string>();
  for (const directory of ['.', 'archive']) {
    const at = path.join(sessionsOf(world), directory);
    const found = await readdir(at).catch(() => []);
    for (const name of found.filter((one) => one.includes('.jsonl'))) {
      const text = await readFile(path.join(at, name), 'utf8');
      texts.add(text);
      if (directory === 'archive') moved.add(text);
    }
  }
  return { texts: [...texts].sort(), moved: moved.size };
}

export const shipTexts = [first + tail, anew, old, large].sort();

/** `whole`: all is stored, once. Else what is stored is the beginning of what is to be. */
export function differences(stored: Map<string, string>, whole: boolean): string[] {
  const found: string[] = [];
  const byName = Map.groupBy(stored, ([name]) => name.replace(/~\d+$/, ''));
  for (const [name, histories] of byName) {
    const wanted = expected.get(name) ?? [];
    for (const [one, text] of histories)
      if (!wanted.some((whole) => whole.startsWith(text)))
        found.push(`${one} is stored with ${text.length} bytes that are not its own.`);
  }
  if (!whole) return found;
  for (const [name, wanted] of expected) {
    const there = (byName.get(name) ?? []).map(([, text]) => text).sort();
    if (there.join('|') !== wanted.toSorted().join('|'))
      found.push(`${name} is stored with ${there.map((text) => text.length).join(' and ')} bytes.`);
  }
  return found;
}

function shipping(job: 'upload' | 'backfill', prepare: (world: World) => Promise<void>): Flow {
  return {
    name: job,
    prepare,
    async attempt(world, env, killed) {
      const ran = await endOf(world.start([job, '--json'], env));
      const broken = endingOf(ran, killed);
      // What it has called done, or a part of it.
      broken.push(...differences(await storedIn(world.dataDir), ran.status === 0));
      broken.push(...finishedBy(await endOf(world.start([job, '--json']))));
      broken.push(...differences(await storedIn(world.dataDir), true));
      const home = await atHome(world);
      if (home.texts.join() !== shipTexts.join()) broken.push("OpenClaw's own files are not what they were.");
      if (home.moved !== 2) broken.push(`${home.moved} files are in archive/, and 2 are complete.`);
      return broken;
    },
  };
}

/** On a machine where Nexus never ran. */
export const backfillFlow: Flow = shipping('backfill', async (world) => {
  await begin(world);
  await goOn(world);
});

export const uploadFlow: Flow = shipping('upload', async (world) => {
  await begin(world);
  const { status, stderr } = await world.run(['upload']);
  if (status !== 0) throw new Error(stderr);
  await goOn(world);
});
