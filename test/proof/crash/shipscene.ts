import path from 'node:path';
import { configSchema } from '../../../src/config.ts';
import { runJob } from '../../../src/jobs/job.ts';
import { openSessions } from '../../../src/sessions.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import { endOf, finishedBy, type Flow } from '../operations/flow.ts';
import {
  atHome,
  backfillFlow,
  differences,
  shipSettings,
  shipTexts,
  storedIn,
  uploadFlow,
} from '../operations/ship.ts';
import type { World } from '../world.ts';
import type { Scene } from './scene.ts';

async function inProcess({ dataDir, stateDir, home }: World, job: 'upload' | 'backfill'): Promise<string[]> {
  const { report } = await runJob(
    { job, agents: [], dryRun: false, everything: job === 'backfill', all: false, verify: false },
    {
      config: configSchema.parse({ ...shipSettings, dataDir }),
      env: { OPENCLAW_STATE_DIR: stateDir, HOME: home },
      openNexus: async () => openSessions(await openLocalStore(path.join(dataDir, 'store'))),
      signal: new AbortController().signal,
      now: () => new Date(),
      warn: () => undefined,
      progress: () => undefined,
    },
  );
  return report.ok ? [] : [`The run after it ended so: ${JSON.stringify(report)}`];
}

function shipScene(job: 'upload' | 'backfill', { prepare }: Flow): Scene {
  return {
    name: `create, append, ledger and move, by ${job}`,
    prepare,
    async perform(world, env) {
      const ran = await endOf(world.start([job, '--json'], env));
      if (ran.status !== 0) throw new Error(ran.stderr);
      return async (said, binary) => {
        const reported = said.includes('"ok":true');
        const broken = differences(await storedIn(world.dataDir), reported);
        const cut = await atHome(world);
        for (const text of shipTexts)
          if (!cut.texts.includes(text))
            broken.push(`OpenClaw has lost a transcript of ${text.length} bytes.`);
        if (binary) broken.push(...finishedBy(await endOf(world.start([job, '--json']))));
        else broken.push(...(await inProcess(world, job)));
        broken.push(...differences(await storedIn(world.dataDir), true));
        const home = await atHome(world);
        if (home.texts.join() !== shipTexts.join())
          broken.push("OpenClaw's own files are not what they were.");
        return broken;
      };
    },
  };
}

export const uploadScene: Scene = shipScene('upload', uploadFlow);
export const backfillScene: Scene = shipScene('backfill', backfillFlow);
