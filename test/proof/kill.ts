import { startAzurite } from '../stores/azurite.ts';
import { type Hit, hits, type Victim, victims } from './kill/cycle.ts';
import { azurePlace, type Lived, localPlace, series, type SeriesOptions } from './kill/series.ts';
import type { Broken, Part, Result, Site } from './part.ts';

/** Of the minutes: the rest is for Azure. */
const localShare = 0.7;
const leastLocal = 24;
const leastAzure = 3;

export const kill: Part = {
  name: 'kill',
  promise:
    'Whenever a job or the endpoint is killed, under load, everything that was acknowledged is there byte for byte, nothing is twice in an inbox or in the archive, and the next run ends the work.',
  share: 25,
  async run(site) {
    const broken: Broken[] = [];
    const lived = await onBoth(site, broken, site.deadline - (site.deadline - Date.now()) * (1 - localShare));
    if (broken.length === 0) lived.push(...(await onAzure(site, broken)));
    return resultOf(lived, broken);
  },
};

/** Two worlds side by side, each with its own store. */
async function onBoth(site: Site, broken: Broken[], deadline: number): Promise<Lived[]> {
  const options = (n: number): Omit<SeriesOptions, 'place'> => ({
    directory: site.directory,
    seed: site.seed + n,
    deadline,
    least: leastLocal,
    broken: (one) => broken.push(one),
    say: (line) => site.say(line),
  });
  return await allOf([
    series({ ...options(0), place: localPlace(false) }),
    series({ ...options(1), place: localPlace(true) }),
  ]);
}

async function onAzure(site: Site, broken: Broken[]): Promise<Lived[]> {
  const azurite = await startAzurite();
  const { directory, seed, deadline } = site;
  const options = {
    directory,
    deadline,
    least: leastAzure,
    broken: (one: Broken) => broken.push(one),
    say: (line: string) => site.say(line),
  };
  try {
    return await allOf([
      series({ ...options, seed: seed + 2, place: azurePlace(false, azurite) }),
      series({ ...options, seed: seed + 3, place: azurePlace(true, azurite) }),
    ]);
  } finally {
    await azurite.stop();
  }
}

/** Waits for all, also when one has failed: none is left running. */
async function allOf(several: Promise<Lived>[]): Promise<Lived[]> {
  const settled = await Promise.allSettled(several);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

function resultOf(lived: Lived[], broken: Broken[]): Result {
  const sum = (of: (one: Lived) => number): number => lived.reduce((total, one) => total + of(one), 0);
  const count = (victim: Victim, hit: Hit, one: Lived): number => one.hits.get(`${victim} ${hit}`) ?? 0;
  return {
    broken,
    left: [
      'Azurite is not killed: it stands for a service that keeps what it acknowledged.',
      'What an agent is told of its mail: `notify.by` is `none` here.',
    ],
    counts: [
      { what: 'kill -9, all', count: sum(({ kills }) => kills) },
      ...lived.flatMap((one) =>
        victims.map((victim) => ({
          what: `kill -9 of ${victim}, ${one.place}`,
          count: hits.reduce((total, hit) => total + count(victim, hit, one), 0),
        })),
      ),
      { what: 'runs to their end after kills, exit status 0', count: sum(({ finished }) => finished) },
      { what: 'webhooks acknowledged, each there once at the end', count: sum(({ webhooks }) => webhooks) },
      {
        what: 'tries of a webhook without an answer, made again',
        count: sum(({ unanswered }) => unanswered),
      },
      { what: 'bytes of transcripts, compared at the end', count: sum(({ bytes }) => bytes) },
      { what: 'looks at everything ever acknowledged', count: sum(({ whole }) => whole) },
    ],
    tables: [
      {
        title: 'Where the kills hit',
        columns: ['killed', ...hits],
        rows: victims.map((victim) => [
          victim,
          ...hits.map((hit) => String(sum((one) => count(victim, hit, one)))),
        ]),
      },
    ],
  };
}
