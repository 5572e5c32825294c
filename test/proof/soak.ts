import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { openAsking } from './asking.ts';
import { type Broken, type Count, randomOf, type Site, type Table } from './part.ts';
import { actors, type Seen, type Soak } from './soakactors.ts';
import { checkSpending, checkTranscripts, checkWebhooks, type Compared } from './soakcheck.ts';
import { flatness } from './soakflat.ts';
import {
  bytesBelow,
  freePort,
  inspectedAt,
  liveMiBOf,
  medianOf,
  type Quiet,
  type Vitals,
  vitalsOf,
} from './vitals.ts';
import { newWorld, type Serving } from './world.ts';

const secret = 'the secret of the soak';

/**
 * Everything at once against one `nexus serve`, at a steady rate, for so long. In spells, between which all rests for
 * a moment: what the process holds then is what it cannot let go of.
 */
export async function soak(
  site: Site,
  ms: number,
): Promise<{ counts: Count[]; broken: Broken[]; tables: Table[] }> {
  const world = await newWorld(site.directory);
  const sessions = path.join(world.stateDir, 'agents', 'main', 'sessions');
  await mkdir(sessions, { recursive: true });
  await mkdir(path.join(world.stateDir, 'workspace'));
  await writeFile(path.join(sessions, 'sessions.json'), '{}');
  const github = { github: { verify: 'github', secret: { env: 'SOAK_SECRET' } } };
  const mailboxes = { main: { sources: github }, other: { sources: github } };
  await world.configure({ mailboxes });
  const inspector = await freePort();
  const serving = await world.serve({ SOAK_SECRET: secret, ...inspectedAt(inspector) });
  const asking = openAsking(serving.url);
  const seen: Seen = {
    accepted: new Map(),
    taken: new Set(),
    posted: new Map(),
    spent: { calls: 0, tokens: 0 },
    times: new Map(),
    busy: 0,
    wrong: [],
  };
  try {
    await world.configure({
      endpoint: serving.url,
      settleMinutes: 0,
      afterUpload: 'keep',
      notify: { by: 'none' },
    });
    const one: Soak = { world, asking, sessions, secret, random: randomOf(site.seed), seen };
    const held = await work(site, one, serving, inspector, ms);
    await settle(one);
    asking.hangUp();
    const stopped = await stop(serving);
    if (stopped !== undefined) seen.wrong.push(stopped);
    const compared: Compared = { webhooks: 0, inboxFiles: 0, transcripts: 0, bytes: 0 };
    await checkTranscripts(world, sessions, seen, compared);
    await checkWebhooks(world, seen, compared);
    const stored = await bytesBelow(world.dataDir);
    const flat = flatness({
      ...held,
      storedBytes: stored,
      sentBytes: compared.bytes,
      items: compared.webhooks,
    });
    return {
      counts: countsOf(seen, compared),
      broken: [...new Set([...seen.wrong.slice(0, 20), ...flat.broken])].map((what) => ({
        what,
        again: `npm run prove -- --seed ${site.seed} load`,
      })),
      tables: [flat.table, latencies(seen)],
    };
  } finally {
    asking.hangUp();
    serving.kill('SIGKILL');
    await serving.ended;
  }
}

export interface Held {
  /** While it works, after the warm-up. */
  working: Vitals[];
  /** Between spells, the first after the warm-up. */
  quiet: Quiet[];
  /** Of all processors, while it works. */
  busyPart: number;
}

async function work(site: Site, one: Soak, serving: Serving, inspector: number, ms: number): Promise<Held> {
  const wal = path.join(one.world.dataDir, 'store', 'store.sqlite-wal');
  const working: Vitals[] = [];
  const quiet: Quiet[] = [];
  const from = Date.now();
  const spellMs = Math.min(60_000, ms / 7.5);
  let [busy, all] = [0, 0];

  async function spell(until: number): Promise<void> {
    const before = processorTimes();
    const over = new AbortController();
    const watch = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const vitals = await vitalsOf(serving.pid, wal);
        if (quiet.length > 0) working.push(vitals);
        await pause(Math.min(5000, spellMs / 4), undefined, { signal: over.signal }).catch(() => undefined);
      }
    };
    const watching = watch();
    try {
      await Promise.all(actors.map((actor) => actor(one, until)));
    } finally {
      over.abort();
      await watching;
    }
    const after = processorTimes();
    busy += after.busy - before.busy;
    all += after.all - before.all;
    one.asking.hangUp();
    await pause(500);
  }

  await spell(from + ms / 5);
  for (;;) {
    const liveMiB = await liveMiBOf(inspector);
    quiet.push({ ...(await vitalsOf(serving.pid, wal)), liveMiB });
    const left = from + ms - Date.now();
    site.say(
      `soak: ${one.seen.accepted.size} webhooks, ${quiet.at(-1)?.rssMiB.toFixed(0)} MiB, ${Math.max(0, left / 1000).toFixed(0)} s to go`,
    );
    if (left < spellMs / 2) break;
    await spell(Math.min(from + ms, Date.now() + spellMs));
  }
  return { working, quiet, busyPart: busy / all };
}

/** Lets the jobs finish what came last, and the index read it. */
async function settle({ world, asking, seen }: Soak): Promise<void> {
  for (const name of ['upload', 'pull-webhooks', 'backfill']) {
    const ran = await world.run([name, '--json']);
    if (ran.status !== 0)
      seen.wrong.push(`the last ${name} ended with ${ran.status}: ${ran.stdout}${ran.stderr}`);
  }
  await checkSpending(asking, seen);
}

async function stop(serving: Serving): Promise<string | undefined> {
  serving.kill('SIGTERM');
  const ended = await Promise.race([serving.ended, pause(30_000, undefined, { ref: false })]);
  if (ended === undefined) return 'serve did not end within 30 s of SIGTERM';
  const bugs = ended.stderr.split('\n').filter((line) => /internal error|^\s+at /.test(line));
  if (bugs.length > 0) return `serve logged ${bugs.slice(0, 3).join(' ')}`;
  return [0, 143].includes(ended.status ?? -1) ? undefined : `serve ended with ${ended.status}`;
}

function countsOf(seen: Seen, { webhooks, inboxFiles, transcripts, bytes }: Compared): Count[] {
  const times = (what: RegExp): number =>
    [...seen.times].reduce((sum, [name, list]) => sum + (what.test(name) ? list.length : 0), 0);
  return [
    { what: 'webhooks acknowledged, found in the store once, equal in every byte', count: webhooks },
    { what: 'of them in the inbox, once, equal', count: inboxFiles },
    { what: 'of them seen pending, compared and acknowledged by hand', count: seen.taken.size },
    { what: 'transcripts grown or posted, stored once, equal in every byte', count: transcripts },
    { what: 'model calls in them, all in the ledger of spending, to the token', count: seen.spent.calls },
    { what: 'MiB compared', count: Math.round(bytes / 1024 / 1024) },
    { what: 'runs of `upload` and `pull-webhooks`', count: times(/^nexus/) },
    { what: 'queries and pages answered', count: times(/^GET/) },
    { what: 'requests answered 503', count: seen.busy },
  ];
}

function latencies({ times }: Seen): Table {
  const rows = [...times]
    .toSorted(([one], [other]) => one.localeCompare(other))
    .map(([what, list]) => {
      const sorted = list.toSorted((a, b) => a - b);
      const at = (part: number): string => (sorted[Math.floor(sorted.length * part)] ?? 0).toFixed(1);
      return [
        what,
        String(list.length),
        medianOf(list).toFixed(1),
        at(0.99),
        (sorted.at(-1) ?? 0).toFixed(1),
      ];
    });
  return {
    title: 'While everything ran together, ms',
    columns: ['asked', 'times', 'half within', '99 of 100 within', 'longest'],
    rows,
  };
}

function processorTimes(): { busy: number; all: number } {
  let [busy, all] = [0, 0];
  for (const { times } of cpus()) {
    const total = Object.values(times).reduce((sum, time) => sum + time, 0);
    all += total;
    busy += total - times.idle;
  }
  return { busy, all };
}
