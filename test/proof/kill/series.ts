import path from 'node:path';
import type { Store } from '../../../src/stores/store.ts';
import { openAzureStore } from '../../../src/stores/azure.ts';
import { openLocalStore } from '../../../src/stores/local.ts';
import type { Azurite } from '../../stores/azurite.ts';
import { type Broken, randomOf } from '../part.ts';
import { type Hit, openCycles, openDurations, type Victim, victims } from './cycle.ts';
import { ended, type Job, jobs, newLife, type Place, saidBy } from './life.ts';

/** What became of one world. */
export interface Lived {
  place: string;
  /** How often each victim was hit in each moment: `upload in the middle`. */
  hits: Map<string, number>;
  kills: number;
  finished: number;
  webhooks: number;
  unanswered: number;
  bytes: number;
  /** Checks of everything that was ever acknowledged. */
  whole: number;
}

export interface SeriesOptions {
  directory: string;
  place: Place;
  seed: number;
  deadline: number;
  /** Kills at least. */
  least: number;
  broken: (one: Broken) => void;
  say: (line: string) => void;
}

export function localPlace(overHttp: boolean): Place {
  return {
    name: overHttp ? 'embedded store behind serve' : 'embedded store',
    overHttp,
    env: {},
    openStore: (_, serveDir): Promise<Store> => openLocalStore(path.join(serveDir, 'store')),
  };
}

export function azurePlace(overHttp: boolean, azurite: Azurite): Place {
  const { connectionString } = azurite;
  const prefix = overHttp ? 'http' : 'direct';
  return {
    name: overHttp ? 'Azure behind serve' : 'Azure',
    overHttp,
    env: {
      NEXUS_STORE: 'azure',
      NEXUS_STORE_CONNECTION_STRING: connectionString,
      NEXUS_STORE_PREFIX: prefix,
    },
    openStore: () => openAzureStore({ connectionString, prefix }),
  };
}

const wholeEvery = 25;

/** Kills in one world, one after another, until the deadline. */
export async function series(options: SeriesOptions): Promise<Lived> {
  const { place, seed, deadline, least, say } = options;
  const random = randomOf(seed);
  const lived: Lived = {
    place: place.name,
    hits: new Map(),
    kills: 0,
    finished: 0,
    webhooks: 0,
    unanswered: 0,
    bytes: 0,
    whole: 0,
  };
  let doing = 'beginning';
  const brokenHere: Broken[] = [];
  const again = (): string => `${place.name}, kill ${lived.kills}, ${doing}, seed ${seed}`;
  const broken = (one: Broken): void => {
    brokenHere.push(one);
    options.broken(one);
  };
  const life = await newLife({ directory: options.directory, place, random, broken, again });
  const durations = openDurations();
  const cycles = openCycles(life, durations, random);

  async function finish(job: Job, still?: 'still'): Promise<void> {
    doing = `${job} to its end`;
    await cycles.finish(job, still);
    lived.finished++;
  }
  async function check(whole: boolean): Promise<void> {
    doing = `${doing}, then looking`;
    const { bytes, webhooks } = await cycles.check(whole);
    if (!whole) return;
    lived.whole++;
    lived.bytes = bytes;
    lived.webhooks = webhooks;
  }

  try {
    // Unkilled, so that it is known how long each takes.
    for (const job of jobs) {
      await life.step(3);
      await finish(job);
    }
    let wholeAt = 0;
    while ((lived.kills < least || Date.now() < deadline) && brokenHere.length === 0) {
      await life.step(3 + Math.floor(random() * 8));
      const victim: Victim = victims[Math.floor(random() * victims.length)] ?? 'serve';
      doing = `kill of ${victim}`;
      const found = await cycles.kill(victim);
      for (const hit of found) note(lived, victim, hit);
      await check(false);
      // Now and then what has just been killed is killed while it makes good what was left.
      if (random() < 0.25) continue;
      await finish(victim === 'serve' ? (jobs[Math.floor(random() * jobs.length)] ?? 'upload') : victim);
      await check(false);
      if (lived.kills - wholeAt < wholeEvery) continue;
      wholeAt = lived.kills;
      await check(true);
      await life.prune();
      say(`${place.name}: ${lived.kills} kills, ${lived.webhooks} webhooks`);
    }
    if (brokenHere.length === 0) await end();
  } finally {
    await life.close();
  }
  lived.unanswered = life.sender.unanswered;
  return lived;

  /** Nothing is left to do, nothing is missing, and what is stored is what is here. */
  async function end(): Promise<void> {
    await life.sender.stop();
    for (const job of jobs) await finish(job, 'still');
    for (const args of [
      ['upload', '--json'],
      ['pull-webhooks', '--json'],
      ['backfill', '--verify', '--json'],
    ]) {
      doing = `${args.join(' ')} at the end`;
      const ran = await ended(life.startArgs(args), doing, broken, again);
      const said = saidBy(ran);
      if (ran.status !== 0 || said?.ok !== true || (said.bytes ?? 0) + (said.delivered ?? 0) > 0)
        life.broken(`${args.join(' ')} found something left: status ${ran.status}`, ran.stdout + ran.stderr);
    }
    await check(true);
  }
}

function note(lived: Lived, victim: Victim, hit: Hit): void {
  const key = `${victim} ${hit}`;
  lived.hits.set(key, (lived.hits.get(key) ?? 0) + 1);
  lived.kills++;
}
