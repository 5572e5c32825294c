import { createHash } from 'node:crypto';
import path from 'node:path';
import { openSessions } from '../../../src/sessions.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import {
  type Acknowledged,
  bodies,
  missingIn,
  nothingYet,
  serveSettings,
  session,
  transcripts,
} from '../operations/receive.ts';
import type { World } from '../world.ts';
import type { Scene } from './scene.ts';

/** Of all that was acknowledged in the end, what had been when this was all that was said. */
function knownBy(said: string, all: Acknowledged): Acknowledged {
  const known: Acknowledged = { ...nothingYet(), asked: all.asked };
  for (const [body, id] of all.items) if (said.includes(`"id":"${id}"`)) known.items.set(body, id);
  // No two appends end at the same length.
  for (const { name, chunks } of transcripts) {
    let at = 0;
    for (const chunk of chunks) {
      at += chunk.length;
      if (said.includes(`upload-offset: ${at}\r\n`)) known.lengths.set(name, at);
    }
  }
  if (said.includes('{"deleted":1}')) known.gone = new Set(all.gone);
  return known;
}

/** What is left is sent again, as by the routes. */
async function goOn({ dataDir }: World, known: Acknowledged): Promise<void> {
  const store = await openLocalStore(path.join(dataDir, 'store'));
  const webhooks = openWebhooks(store);
  const sessions = openSessions(store);
  try {
    for (const body of bodies) {
      const { id } = await webhooks.receive({
        agent: 'main',
        source: 'github',
        contentType: 'application/json',
        headers: {},
        body: Buffer.from(body),
        delivery: createHash('sha256').update(body).digest('hex'),
      });
      known.items.set(body, id);
    }
    for (const { name, chunks } of transcripts) {
      const whole = Buffer.from(chunks.join(''));
      const length = (await sessions.stat('main', name))?.length ?? 0;
      await sessions.append('main', name, length, whole.subarray(length), { complete: false, about: {} });
      known.lengths.set(name, whole.length);
    }
    await webhooks.acknowledge([...known.asked]);
    known.gone = known.asked;
  } finally {
    await store.close();
  }
}

/** A first start, and webhooks and appends at once; then a second start, which finds what the first has left. */
export const receiveScene: Scene = {
  name: 'receive and append, by serve',
  prepare: (world) => world.configure(serveSettings),
  async perform(world, env) {
    const all = nothingYet();
    const { ran } = await session(world, all, 1, env);
    const again = await session(world, all, 1, env);
    if (!again.all) throw new Error(`Not all was acknowledged: ${all.wrong.join(' ')} ${ran.stderr}`);
    return async (said, binary) => {
      const known = knownBy(said, all);
      const broken: string[] = [];
      // A serve that starts, or what it would open.
      if (binary) {
        const { all, ran } = await session(world, known, 2);
        if (!all) broken.push(`serve does not go on: ${known.wrong.join(' ')} ${ran.stderr.slice(-300)}`);
        broken.push(...(await missingIn(world.dataDir, known)));
        return broken;
      }
      broken.push(...(await missingIn(world.dataDir, known)));
      await goOn(world, known);
      broken.push(...(await missingIn(world.dataDir, known)));
      return broken;
    };
  },
};
