import { startAzurite } from '../stores/azurite.ts';
import { type Case, lengthOf, type Met, runCase } from './network/cases.ts';
import { azureLine, httpLine, type Line, throwingLine } from './network/lines.ts';
import { type Broken, type Part, randomOf, type Result, shuffled, type Site } from './part.ts';

/** How many cases at least, in this order of lines. */
const least = { http: 45, binary: 4, throwing: 60, azure: 12, first: 3 };

export const network: Part = {
  name: 'network',
  promise:
    'Whatever a network or a store does to any one request, or to all from it on, who asked is told the truth within a bound, and the next run ends the work with nothing lost and nothing twice.',
  share: 15,
  async run(site) {
    const broken: Broken[] = [];
    const azurite = await startAzurite();
    try {
      // One case at a time on each line, and the lines side by side: they mostly wait.
      const settled = await Promise.allSettled([
        onLine(site, broken, least.http, () => httpLine(site.directory, 'in this process')),
        onLine(site, broken, least.binary, () => httpLine(site.directory, 'binary')),
        onLine(site, broken, least.throwing, () => throwingLine(site.directory)),
        onLine(site, broken, least.azure, () => azureLine(azurite, 'net', false)),
        onLine(site, broken, least.first, () => azureLine(azurite, 'first', true)),
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

async function onLine(
  site: Site,
  broken: Broken[],
  minimum: number,
  open: () => Promise<Line>,
): Promise<Tried> {
  const line = await open();
  const tried: Tried = { line: line.name, flows: new Map(), met: new Map() };
  try {
    const cases: Case[] = [];
    for (const flow of [...line.jobs, ...line.requests]) {
      const length = await lengthOf(line, flow, site.directory);
      const all = line.faults.flatMap((fault) =>
        line.times.flatMap((times) =>
          Array.from({ length }, (_, n): Case => ({ flow, fault, at: n + 1, times })),
        ),
      );
      cases.push(...all);
      tried.flows.set(flow.name, { of: all.length, count: 0 });
    }
    const mine: Broken[] = [];
    for (const [n, one] of shuffled(cases, randomOf(site.seed)).entries()) {
      if ((n >= minimum && Date.now() >= site.deadline) || mine.length >= 10) break;
      const met = await runCase(line, one, site.directory, (found) => mine.push(found));
      const flow = tried.flows.get(one.flow.name);
      if (flow !== undefined) flow.count++;
      const counts = tried.met.get(one.fault) ?? { 'done all the same': 0, named: 0, unmet: 0 };
      counts[met]++;
      tried.met.set(one.fault, counts);
    }
    broken.push(...mine);
  } finally {
    await line.close();
  }
  return tried;
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
