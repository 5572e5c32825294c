import { startAzurite } from '../stores/azurite.ts';
import { type Case, lengthOf, type Met, runCase } from './network/cases.ts';
import { azureLine, httpLine, type Line, throwingLine } from './network/lines.ts';
import { type Broken, type Part, randomOf, type Result, shuffled, type Site } from './part.ts';

/** How many cases at least. */
const least = { http: 40, binary: 4, requests: Number.POSITIVE_INFINITY, throwing: 40, azure: 12, first: 3 };

export const network: Part = {
  name: 'network',
  promise:
    'Whatever a network or a store does to any one request, or to all from it on, who asked is told the truth within a bound, and the next run ends the work with nothing lost and nothing twice.',
  share: 15,
  async run(site) {
    const broken: Broken[] = [];
    const azurite = await startAzurite();
    try {
      // Side by side: they mostly wait.
      const settled = await Promise.allSettled([
        onLine(site, broken, least.http, (n) => httpLine(site.directory, `http${n}`), 3),
        onLine(site, broken, least.binary, (n) => httpLine(site.directory, `binary${n}`), 2),
        onLine(site, broken, least.requests, () => throwingLine(site.directory, 'requests')),
        onLine(site, broken, least.throwing, () => throwingLine(site.directory, 'jobs')),
        onLine(site, broken, least.azure, (n) => azureLine(azurite, `net${n}x`, false), 4),
        onLine(site, broken, least.first, (n) => azureLine(azurite, `first${n}x`, true), 2),
      ]);
      const tried = settled.map((one) => {
        if (one.status === 'rejected') throw one.reason;
        return one.value;
      });
      return resultOf(tried, broken);
    } finally {
      await azurite.stop();
    }
  },
};

interface Tried {
  line: string;
  /** By flow: how many cases there are, and how many were tried. */
  flows: Map<string, { of: number; count: number }>;
  /** By fault. */
  met: Map<string, Record<Met, number>>;
}

/** Tries the cases of one kind of line, on several of them at once. */
async function onLine(
  site: Site,
  broken: Broken[],
  minimum: number,
  open: (n: number) => Promise<Line>,
  atOnce = 1,
): Promise<Tried> {
  const lines = await Promise.all(Array.from({ length: atOnce }, (_, n) => open(n)));
  const [first] = lines;
  const tried: Tried = { line: first?.name ?? '', flows: new Map(), met: new Map() };
  try {
    const cases = first === undefined ? [] : await casesOn(first, site, tried);
    const queue = shuffled(cases, randomOf(site.seed)).entries();
    const mine: Broken[] = [];
    await Promise.all(
      lines.map(async (line) => {
        for (const [n, one] of queue) {
          if ((n >= minimum && Date.now() >= site.deadline) || mine.length >= 10) return;
          note(tried, one, await runCase(line, one, site.directory, (found) => mine.push(found)));
        }
      }),
    );
    broken.push(...mine.map(({ what, again }) => ({ what, again: `seed ${site.seed}, ${again}` })));
    site.say(
      `${tried.line}: ${[...tried.flows.values()].reduce((sum, { count }) => sum + count, 0)} of ${cases.length}`,
    );
  } finally {
    for (const line of lines) await line.close();
  }
  return tried;
}

async function casesOn(line: Line, site: Site, tried: Tried): Promise<Case[]> {
  const cases: Case[] = [];
  for (const flow of [...line.jobs, ...line.requests]) {
    const length = await lengthOf(line, flow, site.directory);
    for (const fault of line.faults)
      for (const times of line.times)
        for (let at = 1; at <= length; at++) cases.push({ flow, fault, at, times });
    tried.flows.set(flow.name, { of: length * line.faults.length * line.times.length, count: 0 });
  }
  return cases;
}

function note(tried: Tried, { flow, fault }: Case, met: Met): void {
  const counted = tried.flows.get(flow.name);
  if (counted !== undefined) counted.count++;
  const counts = tried.met.get(fault) ?? { 'done all the same': 0, named: 0, unmet: 0 };
  counts[met]++;
  tried.met.set(fault, counts);
}

function resultOf(all: Tried[], broken: Broken[]): Result {
  return {
    broken,
    left: [
      'A stall of the built jobs, which wait 60 s for each: in this process they wait 0.3 s by the same code.',
      'Faults on the way of a service that posts webhooks: they are the same to the endpoint as those of a job.',
    ],
    counts: all.flatMap(({ line, flows }) =>
      [...flows].map(([flow, { count, of }]) => ({
        what: `${line}: ${flow}, a fault at a request`,
        count,
        of,
      })),
    ),
    tables: all.map(({ line, met }) => ({
      title: `From ${line}`,
      columns: ['fault', 'done all the same', 'named as not done', 'fewer requests were made'],
      rows: [...met]
        .toSorted(([one], [other]) => (one < other ? -1 : 1))
        .map(([fault, counts]) => [
          fault,
          String(counts['done all the same']),
          String(counts.named),
          String(counts.unmet),
        ]),
    })),
  };
}
