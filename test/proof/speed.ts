import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Bench, type Figure, placeIn } from '../bench/figure.ts';
import { suites } from '../bench/suites.ts';
import type { Broken, Part, Table } from './part.ts';
import { versionsOf } from './versions.ts';

/** Seconds that a suite of the bench takes whole, and its short form; `always` is measured whatever the time. */
const takes: Record<string, { whole: number; short: number; always?: true }> = {
  start: { whole: 15, short: 15, always: true },
  archive: { whole: 60, short: 8, always: true },
  webhooks: { whole: 100, short: 20, always: true },
  memory: { whole: 90, short: 20 },
  usage: { whole: 120, short: 15 },
  idle: { whole: 120, short: 15 },
  azure: { whole: 500, short: 40 },
};

type Form = 'whole' | 'short';

/** Every figure of the bench beside its peer or its limit, measured in the same run. A missed goal breaks no promise. */
export const speed: Part = {
  name: 'speed',
  promise: 'What is measured loses nothing; each figure stands beside its peer or its limit of the same run.',
  share: 25,
  async run(site) {
    const figures: (Figure & { form: Form })[] = [];
    const broken: Broken[] = [];
    const left: string[] = [];
    const plan = planOf((site.deadline - Date.now()) / 1000);
    for (const name of Object.keys(takes)) {
      const form = plan.get(name);
      const suite = suites[name];
      if (form === undefined || suite === undefined) {
        left.push(`The bench \`${name}\`, for want of time.`);
        continue;
      }
      const began = Date.now();
      const bench: Bench = {
        root: site.directory,
        quick: form === 'short',
        place: (place) => placeIn(site.directory, place),
        leave: (reason) => void left.push(`In \`${name}\`: ${reason}.`),
      };
      const again = `npm run bench -- ${name}${bench.quick ? ' --quick' : ''}`;
      try {
        const measured = await suite(bench);
        figures.push(...measured.map((figure) => ({ ...figure, form })));
        // The only goal that is a promise.
        for (const { what, value, goal, met } of measured)
          if (goal === 'all, once' && met === false) broken.push({ what: `${what}: ${value}.`, again });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        broken.push({ what: `The bench ${name} did not run to its end: ${reason}`, again });
      }
      site.say(`${name}, ${form}: ${((Date.now() - began) / 1000).toFixed(0)} s`);
    }
    const short = [...plan].filter(([, form]) => form === 'short').map(([name]) => `\`${name}\``);
    if (short.length > 0)
      left.push(`Whole, for want of time: ${short.join(', ')}; their figures say "short".`);
    const goals = figures.filter(({ met }) => met !== undefined);
    return {
      counts: [
        { what: 'figures measured', count: figures.length },
        { what: 'goals met', count: goals.filter(({ met }) => met === true).length, of: goals.length },
      ],
      broken,
      left,
      tables: [figuresTable(figures), await versionsOf(site.directory), ...(await improvements())],
    };
  },
};

/** The short forms that fit, then as many of them whole as fit. */
function planOf(seconds: number): Map<string, Form> {
  const plan = new Map<string, Form>();
  let left = seconds;
  for (const [name, { whole, short, always }] of Object.entries(takes)) {
    if (always !== true && left < short) continue;
    plan.set(name, short === whole ? 'whole' : 'short');
    left -= short;
  }
  for (const [name, { whole, short }] of Object.entries(takes)) {
    if (plan.get(name) !== 'short' || left < whole - short) continue;
    plan.set(name, 'whole');
    left -= whole - short;
  }
  return plan;
}

function figuresTable(figures: (Figure & { form: Form })[]): Table {
  const rows = figures.map(({ what, value, against, ratio, spread, goal, met, form }) => [
    form === 'short' ? `${what} (short)` : what,
    value,
    against,
    ratio === undefined ? '' : `${ratio.toFixed(2)}x`,
    spread ?? 'once',
    goal === undefined ? '' : `${goal}: ${met === true ? 'met' : '**missed**'}`,
  ]);
  return { title: 'Figures', columns: ['what', 'measured', 'against', 'ratio', 'spread', 'goal'], rows };
}

/** What was the worst and was improved; before and after are of one run, by turns. */
interface Improvement {
  what: string;
  before: string;
  after: string;
  how: string;
}

async function improvements(): Promise<Table[]> {
  const text = await readFile(path.join(import.meta.dirname, 'improvements.json'), 'utf8');
  const list: Improvement[] = JSON.parse(text);
  if (list.length === 0) return [];
  return [
    {
      title: 'The worst, profiled and improved',
      columns: ['what', 'before', 'after', 'how'],
      rows: list.map(({ what, before, after, how }) => [what, before, after, how]),
    },
  ];
}
