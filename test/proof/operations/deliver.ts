import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Item } from '../../../src/mailbox.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import type { World } from '../world.ts';
import { endingOf, endOf, finishedBy, type Flow } from './flow.ts';

export const pullSettings = { host: 'box', notify: { by: 'none' } };

export const deliveredBodies = ['{"n":1}', JSON.stringify({ n: 2, text: 'long'.repeat(15_000) }), '{"n":3}'];

export const inboxOf = ({ stateDir }: World): string => path.join(stateDir, 'workspace', 'inbox', 'webhooks');

async function withStore<T>(
  { dataDir }: World,
  work: (webhooks: ReturnType<typeof openWebhooks>) => Promise<T>,
): Promise<T> {
  const webhooks = openWebhooks(await openLocalStore(path.join(dataDir, 'store')));
  try {
    return await work(webhooks);
  } finally {
    await webhooks.close();
  }
}

export const pendingIn = (world: World): Promise<Item[]> =>
  withStore(world, async (webhooks) => (await webhooks.pending({ agents: ['main'] })).items);

/** The agent looks at what it finds, and takes it where `takes`; `seen` counts how often it found each. */
export async function take(world: World, seen: Map<string, string[]>, takes = true): Promise<void> {
  const names = await readdir(inboxOf(world)).catch(() => []);
  for (const name of names.filter((one) => one !== '.incoming')) {
    const file = path.join(inboxOf(world), name);
    seen.set(name, [...(seen.get(name) ?? []), await readFile(file, 'utf8')]);
    if (takes) await rm(file);
  }
}

export function payloadOf(text: string): string {
  try {
    const item: { payload?: unknown } = JSON.parse(text);
    return JSON.stringify(item.payload);
  } catch {
    return 'torn';
  }
}

/** Three items are pending, one of them too long for its row; the agent takes what it finds as soon as it is there. */
export const pullFlow: Flow = {
  name: 'pull-webhooks',
  async prepare(world) {
    await world.configure(pullSettings);
    await mkdir(path.join(world.stateDir, 'agents', 'main'), { recursive: true });
    await mkdir(path.join(world.stateDir, 'workspace', 'notes'), { recursive: true });
    await withStore(world, async (webhooks) => {
      for (const body of deliveredBodies)
        await webhooks.receive({
          agent: 'main',
          source: 'github',
          contentType: 'application/json',
          headers: {},
          body: Buffer.from(body),
        });
    });
  },
  async attempt(world, env, killed) {
    const seen = new Map<string, string[]>();
    const before = (await pendingIn(world)).length;
    const ran = await endOf(world.start(['pull-webhooks', '--json'], env));
    const broken = endingOf(ran, killed);
    await take(world, seen);
    const left = (await pendingIn(world)).length;
    if (ran.status === 0 && (seen.size !== before || left > 0))
      broken.push(
        `It ended with 0, ${seen.size} of ${before} items were in the inbox and ${left} are pending.`,
      );
    if (before - left > seen.size)
      broken.push(`${before - left} items are acknowledged, and ${seen.size} were in the inbox.`);
    broken.push(...finishedBy(await endOf(world.start(['pull-webhooks', '--json']))));
    await take(world, seen);
    // A third run, since what was delivered twice might come now.
    broken.push(...finishedBy(await endOf(world.start(['pull-webhooks', '--json']))));
    await take(world, seen);
    const pending = (await pendingIn(world)).length;
    if (pending > 0) broken.push(`${pending} items are pending after it.`);
    for (const [name, texts] of seen)
      if (texts.length > 1) broken.push(`${name} was in the inbox ${texts.length} times.`);
    const payloads = [...seen.values()].flatMap(([text = '']) => payloadOf(text)).sort();
    if (payloads.join() !== deliveredBodies.toSorted().join())
      broken.push(`The agent found ${payloads.map((one) => one.slice(0, 20)).join(', ')}.`);
    return broken;
  },
};
