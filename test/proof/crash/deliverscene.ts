import path from 'node:path';
import { configSchema } from '../../../src/config.ts';
import { runPull } from '../../../src/jobs/pull.ts';
import { nobody } from '../../../src/jobs/pullreport.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import {
  deliveredBodies,
  payloadOf,
  pendingIn,
  pullFlow,
  pullSettings,
  take,
} from '../operations/deliver.ts';
import { endOf, finishedBy } from '../operations/flow.ts';
import type { World } from '../world.ts';
import type { Scene } from './scene.ts';

async function inProcess({ dataDir, stateDir, home }: World): Promise<string[]> {
  const { report } = await runPull(
    { agents: [] },
    {
      config: configSchema.parse({ ...pullSettings, dataDir }),
      env: { OPENCLAW_STATE_DIR: stateDir, HOME: home },
      openMailbox: async () => openWebhooks(await openLocalStore(path.join(dataDir, 'store'))),
      signal: new AbortController().signal,
      now: () => new Date(),
      warn: () => undefined,
      progress: () => undefined,
      tell: () => Promise.resolve({ notified: nobody(), failed: [] }),
      confirm: undefined,
      reconcile: undefined,
    },
  );
  return report.ok ? [] : [`The run after it ended so: ${JSON.stringify(report)}`];
}

/** `takes`: after the cut the agent takes what it finds before the next run comes. */
function deliverScene(takes: boolean): Scene {
  return {
    name: `deliver, by pull-webhooks, to an agent that ${takes ? 'takes' : 'leaves'} its files`,
    prepare: pullFlow.prepare,
    async perform(world, env) {
      const ran = await endOf(world.start(['pull-webhooks', '--json'], env));
      if (ran.status !== 0) throw new Error(ran.stderr);
      return async (said, binary) => {
        const broken: string[] = [];
        const seen = new Map<string, string[]>();
        const look = takes ? seen : new Map<string, string[]>();
        const pending = (await pendingIn(world)).length;
        await take(world, look, takes);
        for (const [name, texts] of look)
          if (texts.some((text) => payloadOf(text) === 'torn')) broken.push(`${name} is torn in the inbox.`);
        if (deliveredBodies.length - pending > look.size)
          broken.push(`${pending} items are pending, and ${look.size} are in the inbox.`);
        if (said.includes('"ok":true') && look.size < deliveredBodies.length)
          broken.push(`It had ended, and ${look.size} items are in the inbox.`);
        for (let runs = 0; runs < 2; runs++) {
          if (binary) broken.push(...finishedBy(await endOf(world.start(['pull-webhooks', '--json']))));
          else broken.push(...(await inProcess(world)));
          await take(world, seen, true);
        }
        const after = (await pendingIn(world)).length;
        if (after > 0) broken.push(`${after} items are pending after it.`);
        for (const [name, texts] of seen)
          if (texts.length > 1) broken.push(`${name} was in the inbox ${texts.length} times.`);
        const payloads = [...seen.values()].flatMap(([text = '']) => payloadOf(text)).sort();
        if (payloads.join() !== deliveredBodies.toSorted().join())
          broken.push(`The agent found ${payloads.map((one) => one.slice(0, 20)).join(', ')}.`);
        return broken;
      };
    },
  };
}

export const deliverScenes: readonly Scene[] = [deliverScene(true), deliverScene(false)];
