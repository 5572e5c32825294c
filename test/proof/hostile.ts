import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { archiveHostile } from './hostile/archive.ts';
import { filesWith } from './hostile/canaries.ts';
import { coverRoutes, fuzzRoutes } from './hostile/fuzz.ts';
import { guessKeys } from './hostile/guessing.ts';
import { sendHeavy } from './hostile/heavy.ts';
import { crowd, peakOf } from './hostile/idle.ts';
import { judgeLog } from './hostile/judge.ts';
import { deliverHostile } from './hostile/mail.ts';
import { type Notes, openNotes } from './hostile/notes.ts';
import { type Route, routesOf } from './hostile/routes.ts';
import { nastyPlaces, trespass } from './hostile/places.ts';
import { readHostileSettings, turnHostile } from './hostile/settings.ts';
import { cutOff, trickParser } from './hostile/shapes.ts';
import { trickle } from './hostile/slow.ts';
import { openStand } from './hostile/stand.ts';
import { type Part, randomOf, type Result, type Site } from './part.ts';

/** Of one round, whatever the time: to each route, of transcripts in each era, of configurations. */
const least = { requests: 8, places: 1000, names: 4, transcripts: 40, settings: 150, spawns: 8 };
/** Further rounds have this long for requests, so that each kind comes again and again. */
const roundMs = 60_000;
/** Whatever is sent, the endpoint never takes more, MiB: bodies of 60 MB are text of twice that. */
const mostMiB = 1024;

/** Everything from outside is whatever somebody wrote: requests, transcripts, names, rows, settings. */
export const hostile: Part = {
  name: 'hostile',
  promise:
    'Whatever comes from outside: no crash, no 500, an answer in time, nothing outside its root, nothing of another agent.',
  share: 20,
  async run(site: Site): Promise<Result> {
    const notes = openNotes();
    const routes = await routesOf();
    notes.count('routes', routes.length);
    let round = 0;
    do {
      const directory = path.join(site.directory, `round-${round}`);
      await mkdir(directory);
      await oneRound(
        { ...site, directory, seed: site.seed + round * 7919 },
        { notes, routes, isFirst: round === 0, order: site.seed },
      );
      round += 1;
      site.say(`round ${round}: ${notes.counted('hostile requests')} requests`);
    } while (Date.now() < site.deadline && notes.breaks().length === 0);
    notes.left(
      'A thousand requests with bodies under way at once, which keep new connections out for up to five minutes.',
    );
    notes.left(
      'Devices as transcripts: only through links, as making one needs more rights than a proof should have.',
    );
    return { counts: notes.counts(), broken: notes.breaks(), left: notes.leftOut() };
  },
};

interface Round {
  notes: Notes;
  routes: readonly Route[];
  isFirst: boolean;
  /** Seed of what goes on in the next round where this one stopped. */
  order: number;
}

async function oneRound(site: Site, round: Round): Promise<void> {
  const { notes } = round;
  const [served, history] = [path.join(site.directory, 'served'), path.join(site.directory, 'history')];
  for (const place of [served, history]) await mkdir(place);
  const both = await Promise.allSettled([
    serveHostile({ ...site, directory: served }, round),
    archiveHostile(history, notes, site.seed, least.transcripts, randomOf(site.seed)),
  ]);
  for (const one of both) if (one.status === 'rejected') throw one.reason;
}

/** An endpoint through everything that somebody could send to it. */
async function serveHostile(site: Site, { notes, routes, isFirst, order }: Round): Promise<void> {
  const { directory, seed, deadline } = site;
  const random = randomOf(seed);
  const timed = async (name: string, work: Promise<void>): Promise<void> => {
    const began = Date.now();
    await work;
    if (isFirst) site.say(`${name}: ${((Date.now() - began) / 1000).toFixed(1)} s`);
  };
  const stand = await openStand(directory);
  try {
    const before = await stand.betaNow();
    await timed('each route once', coverRoutes(stand, notes, routes));
    await timed('trespass', trespass(stand, notes, routes, isFirst ? least.names : Number.POSITIVE_INFINITY));
    await timed(
      'places',
      nastyPlaces(stand, notes, routes, { most: isFirst ? least.places : 10 * least.places, order }),
    );
    // Beside the others: it waits more than it works.
    const trickling = isFirst ? trickle(stand, notes, deadline) : Promise.resolve();
    const until = Math.min(deadline, Date.now() + roundMs);
    await timed(
      'requests',
      fuzzRoutes(stand, notes, { routes, least: least.requests, seed, until: isFirst ? 0 : until }),
    );
    await timed('shapes', trickParser(stand, notes));
    await timed('cut off', cutOff(stand, notes, random));
    await timed('mail', deliverHostile(stand, notes));
    await timed('heavy', sendHeavy(stand, notes));
    await timed(
      'settings',
      readHostileSettings(stand, notes, {
        directory: stand.world.dataDir,
        seed,
        count: least.settings,
        spawns: least.spawns,
      }),
    );
    await timed('settings that change', turnHostile(stand, notes, seed));
    await timed('guesses', guessKeys(stand, notes));
    await timed('slow', trickling);
    await timed('idle', crowd(stand, notes));
    if ((await stand.betaNow()) !== before)
      notes.broken("Another agent's data was changed.", `round with seed ${seed}`);
    const peak = peakOf(stand.serving.pid);
    if (isFirst) site.say(`the endpoint took ${peak} MiB at most`);
    if (peak > mostMiB) notes.broken('The endpoint takes memory without bound.', `${peak} MiB, seed ${seed}`);
    for (const one of await stand.canaries.touched())
      notes.broken('A path outside its root was touched.', `seed ${seed}: ${one}`);
    for (const file of await filesWith(stand.world.dataDir, stand.canaries.secret))
      notes.broken('A file outside its root was stored.', file);
  } finally {
    stand.serving.kill(stand.gone() ? 'SIGKILL' : 'SIGTERM');
  }
  const { stderr, status, signal } = await stand.serving.ended;
  if (signal !== null || status !== 143)
    notes.broken('The endpoint did not end as it was told.', `${status} ${signal}: ${stderr.slice(-1500)}`);
  judgeLog(stand, notes, stderr);
}
