import { createHash, createHmac } from 'node:crypto';
import path from 'node:path';
import { openSessions } from '../../../src/sessions.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import type { Ran, World } from '../world.ts';
import { endingOf, endOf, type Flow } from './flow.ts';

const secret = 's';

export const bodies = Array.from({ length: 4 }, (_, n) =>
  JSON.stringify({ n, text: n === 1 ? 'long'.repeat(15_000) : '' }),
);
export const transcripts = ['one', 'three'].map((name) => ({
  name,
  chunks: [0, 1].map(
    (chunk) => `${JSON.stringify({ type: 'message', name, chunk, text: name.repeat(200) })}\n`,
  ),
}));

/** What a client may hold the endpoint to. */
export interface Acknowledged {
  /** Body → the id that it was given. */
  items: Map<string, string>;
  /** Transcript → how many bytes are stored at least. */
  lengths: Map<string, number>;
  /** Ids that were to be taken out of pending, which may have been done whatever the answer. */
  asked: Set<string>;
  /** Ids that are no longer pending. */
  gone: Set<string>;
  /** Answers that no fault excuses. */
  wrong: string[];
}

interface Answer {
  status: number;
  text: string;
  offset: string | null;
}

/** `undefined`: nobody answered. */
async function ask(url: string, init: RequestInit): Promise<Answer | undefined> {
  try {
    const answer = await fetch(url, { ...init, signal: AbortSignal.timeout(30_000) });
    const { status, headers } = answer;
    return { status, text: await answer.text(), offset: headers.get('upload-offset') };
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError')
      return { status: 0, text: 'no answer in 30 s', offset: null };
    return undefined;
  }
}

/** Posts what is not acknowledged yet, several at once; answers whether all is now. */
async function send(url: string, known: Acknowledged): Promise<boolean> {
  function judge(what: string, answer: Answer | undefined): void {
    if (answer === undefined || (answer.status >= 200 && answer.status < 300)) return;
    if (answer.status < 500 || answer.text.includes('Internal error'))
      known.wrong.push(`${what} was answered ${answer.status} ${answer.text.slice(0, 200)}`);
  }

  const posts = bodies.map(async (body) => {
    if (known.items.has(body)) return;
    const answer = await ask(`${url}/api/webhook/main?source=github`, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/json',
        'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
        'x-github-delivery': createHash('sha256').update(body).digest('hex'),
      },
    });
    judge('A webhook', answer);
    if (answer?.status !== 202 && answer?.status !== 200) return;
    const { id = '' }: { id?: string } = JSON.parse(answer.text);
    known.items.set(body, id);
  });
  const appends = transcripts.map(async ({ name, chunks }) => {
    let at = 0;
    for (const chunk of chunks) {
      const from = at;
      at += chunk.length;
      if ((known.lengths.get(name) ?? 0) >= at) continue;
      const answer = await ask(`${url}/api/sessions/main/${name}`, {
        method: 'PATCH',
        body: chunk,
        headers: {
          'content-type': 'application/partial-upload',
          'upload-offset': String(from),
          'upload-complete': '?0',
        },
      });
      // A try that failed may have been done: then the next one is told how much is there.
      const there = answer?.status === 409 && answer.offset === String(at);
      if (!there) judge('An append', answer);
      if (!there && answer?.status !== 201 && answer?.status !== 204) return;
      known.lengths.set(name, at);
    }
  });
  await Promise.all([...posts, ...appends]);
  const first = known.items.get(bodies[0] ?? '');
  if (first !== undefined && !known.gone.has(first)) {
    known.asked.add(first);
    const answer = await ask(`${url}/api/webhook/items`, {
      method: 'DELETE',
      body: JSON.stringify({ ids: [first] }),
      headers: { 'content-type': 'application/json' },
    });
    judge('An acknowledge', answer);
    if (answer?.status === 200) known.gone.add(first);
  }
  const page = await ask(`${url}/api/webhook/pending?agentId=main`, {});
  judge('A page', page);
  return (
    page?.status === 200 &&
    known.items.size === bodies.length &&
    known.gone.size === 1 &&
    transcripts.every(({ name, chunks }) => known.lengths.get(name) === chunks.join('').length)
  );
}

export const nothingYet = (): Acknowledged => ({
  items: new Map(),
  lengths: new Map(),
  asked: new Set(),
  gone: new Set(),
  wrong: [],
});

/** What of that is not there. */
export async function missingIn(dataDir: string, known: Acknowledged): Promise<string[]> {
  const store = await openLocalStore(path.join(dataDir, 'store'));
  const webhooks = openWebhooks(store);
  const sessions = openSessions(store);
  const missing: string[] = [];
  try {
    const ids: string[] = [];
    for await (const { id, state } of webhooks.list({ agent: 'main' })) if (state === 'pending') ids.push(id);
    const bodyOf = async (id: string): Promise<string> =>
      await webhooks.body(id).then(
        ({ body }) => body.toString(),
        (error: unknown) => `unreadable: ${String(error)}`,
      );
    for (const [body, id] of known.items) {
      if ((await bodyOf(id)) !== body) missing.push(`The webhook ${id} was acknowledged and is not there.`);
      const pending = ids.filter((one) => one === id).length;
      if (known.gone.has(id) && pending > 0) missing.push(`${id} was taken out of pending and is there.`);
      if (pending > 1 || (pending === 0 && !known.asked.has(id)))
        missing.push(`${id} is pending ${pending} times.`);
    }
    const all = await Promise.all(ids.map(bodyOf));
    for (const body of all) if (!bodies.includes(body)) missing.push('A body is served that nobody sent.');
    if (new Set(all).size < all.length) missing.push('A delivery is pending twice.');
    for (const { name, chunks } of transcripts) {
      const pieces: Uint8Array[] = [];
      if ((await sessions.stat('main', name)) !== undefined)
        for await (const piece of sessions.read('main', name)) pieces.push(piece);
      const text = Buffer.concat(pieces).toString();
      if (!chunks.join('').startsWith(text)) missing.push(`${name} is served with bytes that nobody sent.`);
      if (text.length < (known.lengths.get(name) ?? 0))
        missing.push(`${name} has ${text.length} bytes, and ${known.lengths.get(name)} were acknowledged.`);
    }
  } finally {
    await store.close();
  }
  return missing;
}

/** `undefined` where it ended before it listened. */
async function serving(world: World, env?: Record<string, string>) {
  const started = world.start(['serve', '--port', '0'], env);
  const { listening } = started;
  const url = await Promise.race([listening.catch(() => undefined), started.ended.then(() => undefined)]);
  return { url, ...started };
}

/** Serves while a client asks `tries` times for what is not acknowledged yet; then it is stopped. */
export async function session(
  world: World,
  known: Acknowledged,
  tries: number,
  env?: Record<string, string>,
): Promise<{ all: boolean; ran: Ran & { hung: boolean } }> {
  const started = await serving(world, env);
  let all = false;
  for (let n = 0; n < tries && started.url !== undefined && !all; n++) all = await send(started.url, known);
  if (started.url !== undefined) started.kill('SIGTERM');
  return { all, ran: await endOf(started) };
}

export const serveSettings = { mailboxes: { main: { sources: { github: { verify: 'github', secret } } } } };

/** Webhooks, one of them too long for its row, and appends, several at once; one item is taken out of pending. */
export const serveFlow: Flow = {
  name: 'serve',
  prepare: (world) => world.configure(serveSettings),
  async attempt(world, env, killed) {
    const known = nothingYet();
    const faulty = await session(world, known, 3, env);
    const broken = endingOf(
      { ...faulty.ran, status: faulty.ran.status === 143 ? 0 : faulty.ran.status },
      killed,
    );
    broken.push(...(await missingIn(world.dataDir, known)));
    const clean = await session(world, known, 2);
    if (!clean.all) broken.push(`The next serve does not take what is left: ${clean.ran.stderr.slice(-300)}`);
    broken.push(...(await missingIn(world.dataDir, known)), ...known.wrong);
    return broken;
  },
};
