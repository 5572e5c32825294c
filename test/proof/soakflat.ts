import type { Table } from './part.ts';
import type { Held } from './soak.ts';
import { medianOf, slopeOf } from './vitals.ts';

export interface Flatness extends Held {
  /** Of the data directory at the end. */
  storedBytes: number;
  /** Of bodies and transcripts, as they were sent. */
  sentBytes: number;
  items: number;
}

/** From here on a slope is projected on the hour; before, thirds are compared. */
const projectedFromMs = 30 * 60_000;
/** Growth within an hour that is none: of what is reachable, and of what the system has given, where it is more than a tenth. */
const mostLiveMiB = 12;
const mostRssMiB = 20;
/** Within a soak that is too short for a slope. */
const mostLiveAtOnceMiB = 3;
const mostRssAtOnce = { part: 1.3, MiB: 48 };
const mostHandles = 4;
const mostThreads = 2;
const mostLocks = 64;
const mostWalMiB = 64;
/** What a webhook takes beside its bytes: rows, an index of them, pages that are not full. */
const itemBytes = 6 * 1024;
const onceBytes = 80 * 1024 * 1024;

/** Whether what one `serve` held stayed as it was once it was warm, and what it stored is what it was sent. */
export function flatness(of: Flatness): { table: Table; broken: string[] } {
  const { working, quiet, busyPart } = of;
  const [first, last] = [quiet[0], quiet.at(-1)];
  if (first === undefined || last === undefined || working.length < 3)
    return {
      table: { title: '', columns: [], rows: [] },
      broken: ['the soak was too short to see anything'],
    };
  const broken: string[] = [];
  const rows: string[][] = [];
  function row(what: string, from: string, to: string, said: string, bound: string, holds: boolean): void {
    rows.push([what, from, to, said, bound]);
    if (!holds)
      broken.push(
        `${what} of serve did not stay flat: from ${from} to ${to}, ${said}; the bound is ${bound}.`,
      );
  }

  const long = last.at - first.at >= projectedFromMs;
  const live = quiet.map(({ at, liveMiB }) => ({ at, value: liveMiB }));
  const grown = last.liveMiB - first.liveMiB;
  const liveHour = hourly(live);
  const mib = (value: number): string => `${value.toFixed(1)} MiB`;
  if (long)
    row(
      'memory that is reachable',
      mib(first.liveMiB),
      mib(last.liveMiB),
      liveHour.said,
      `${mostLiveMiB} MiB an hour`,
      liveHour.least <= mostLiveMiB,
    );
  else
    row(
      'memory that is reachable',
      mib(first.liveMiB),
      mib(last.liveMiB),
      `${signed(grown)} MiB`,
      `${mostLiveAtOnceMiB} MiB more`,
      grown <= mostLiveAtOnceMiB,
    );

  // After a collection: between two of them it says how lazy V8 is, not what is held.
  const [early, late] = [first.rssMiB, last.rssMiB];
  const rssHour = hourly(middles(quiet.map(({ at, rssMiB }) => ({ at, value: rssMiB }))));
  const mostRss = Math.max(mostRssMiB, early / 10);
  if (long)
    row(
      'resident memory, after a collection',
      mib(early),
      mib(late),
      rssHour.said,
      `${mostRss.toFixed(0)} MiB an hour`,
      rssHour.least <= mostRss,
    );
  else
    row(
      'resident memory, after a collection',
      mib(early),
      mib(late),
      `${signed(late - early)} MiB`,
      `${mostRssAtOnce.part} times and ${mostRssAtOnce.MiB} MiB`,
      late <= early * mostRssAtOnce.part + mostRssAtOnce.MiB,
    );

  row(
    'other open files and sockets',
    String(first.handles),
    String(last.handles),
    `${last.handles - first.handles} more`,
    `${mostHandles} more`,
    last.handles - first.handles <= mostHandles,
  );
  row(
    "the store's lock files that are open",
    String(first.locks),
    String(last.locks),
    `${last.locks - first.locks} more`,
    `${mostLocks} in all`,
    last.locks <= mostLocks,
  );
  row(
    'threads',
    String(first.threads),
    String(last.threads),
    `${last.threads - first.threads} more`,
    `${mostThreads} more`,
    last.threads - first.threads <= mostThreads,
  );
  const wal = Math.max(...working.map(({ walMiB }) => walMiB));
  row(
    'SQLite log',
    mib(first.walMiB),
    mib(last.walMiB),
    `${wal.toFixed(1)} MiB at most`,
    `${mostWalMiB} MiB`,
    wal <= mostWalMiB,
  );
  const explained = of.sentBytes * 2 + of.items * itemBytes + onceBytes;
  row(
    'data directory',
    '0 MiB',
    mib(of.storedBytes / 1024 / 1024),
    `${(of.storedBytes / of.sentBytes).toFixed(2)} of what was sent`,
    mib(explained / 1024 / 1024),
    of.storedBytes <= explained,
  );
  const peak = Math.max(...working.map(({ rssMiB }) => rssMiB));
  rows.push(['resident memory at its most, while it worked', '', mib(peak), '', '']);
  const minutes = (last.at - first.at) / 60_000;
  return {
    table: {
      title: `What \`serve\` held over ${minutes.toFixed(1)} minutes, the processors ${Math.round(busyPart * 100)} % busy`,
      columns: ['what', 'after the warm-up', 'at the end', 'change', 'bound'],
      rows,
    },
    broken,
  };
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(1)}`;
}

/** Twelve middles in their order: one collection more or less is no trend. */
function middles(points: { at: number; value: number }[]): { at: number; value: number }[] {
  const size = Math.max(1, Math.floor(points.length / 12));
  return Array.from({ length: Math.floor(points.length / size) }, (_, nth) => {
    const some = points.slice(nth * size, (nth + 1) * size);
    return { at: medianOf(some.map(({ at }) => at)), value: medianOf(some.map(({ value }) => value)) };
  });
}

/** `least`: what the slope is at least, in all likelihood. */
function hourly(points: { at: number; value: number }[]): { said: string; least: number } {
  const { slope, error } = slopeOf(points);
  const [hour, doubt] = [slope * 3600, 2 * error * 3600];
  return { said: `${hour.toFixed(1)} ± ${doubt.toFixed(1)} MiB an hour`, least: hour - doubt };
}
