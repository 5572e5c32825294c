import type { Machine } from './machine.ts';
import type { Result, Table } from './part.ts';
import type { Caught } from './seeds/caught.ts';

/** What one run of a part saw. */
export interface Proved extends Result {
  name: string;
  promise: string;
  /** ISO 8601. */
  began: string;
  seconds: number;
  seed: number;
  machine: Machine;
}

export interface Report {
  /** Each as it was last run, in the order of the report. */
  parts: Proved[];
  /** What became of the seeded bugs when these were last tried; see seeds/catch.ts. */
  caught: Caught[];
}

/** REPORT.md: for who wants to know whether to trust Nexus, then for who wants to see it again. */
export function reportOf({ parts, caught }: Report): string {
  const broken = parts.reduce((sum, part) => sum + part.broken.length, 0);
  const verdict =
    broken === 0 ? 'Every promise below held.' : `**${broken} of the promises below did not hold.**`;
  const machines = [...new Set(parts.map(({ machine }) => sentenceOf(machine)))];
  const lines = [
    '# Proof',
    '',
    `What \`npm run prove\` saw. ${verdict}`,
    ...tableOf({
      title: '',
      columns: ['part', 'held', 'minutes', 'began', 'commit', 'again'],
      rows: parts.map(({ name, broken: wrong, seconds, began, machine, seed }) => [
        name,
        wrong.length === 0 ? 'yes' : '**no**',
        (seconds / 60).toFixed(1),
        began.slice(0, 16).replace('T', ' '),
        machine.commit ?? '',
        `\`npm run prove -- ${name} --minutes ${Math.ceil(seconds / 60)} --seed ${seed}\``,
      ]),
    }),
    '',
    ...machines,
    ...parts.flatMap(sectionOf),
    ...caughtOf(caught),
  ];
  return `${lines.join('\n')}\n`;
}

/** What was seen before, with what was seen now in its place: the parts that have been run alone join the others. */
export function joined(
  before: readonly Proved[],
  now: readonly Proved[],
  order: readonly string[],
): Proved[] {
  const latest = new Map([...before, ...now].map((part) => [part.name, part]));
  return order.flatMap((name) => latest.get(name) ?? []);
}

function sentenceOf({ node, sqlite, system, cpu, cpus, memoryGiB }: Machine): string {
  return `Node ${node}, SQLite ${sqlite}, ${system}, ${cpus} × ${cpu}, ${memoryGiB} GiB.`;
}

function sectionOf({ name, promise, counts, broken, left, tables = [] }: Proved): string[] {
  const tried = counts.map(({ what, count, of }) => [
    what,
    count.toLocaleString('en-US'),
    of === undefined ? '' : of.toLocaleString('en-US'),
  ]);
  const columns = tried.some(([, , of]) => of !== '') ? ['tried', 'times', 'of'] : ['tried', 'times'];
  return [
    '',
    `## ${name[0]?.toUpperCase()}${name.slice(1)}`,
    '',
    `${promise} ${broken.length === 0 ? 'Held.' : '**Did not hold.**'}`,
    ...(tried.length > 0 ? tableOf({ title: '', columns, rows: tried }) : []),
    ...tables.flatMap(tableOf),
    ...listOf(
      'Broken',
      broken.map(({ what, again }) => `${what} Again: \`${again.split('\n')[0]}\``),
    ),
    ...listOf('Not tried', left),
  ];
}

function caughtOf(caught: readonly Caught[]): string[] {
  if (caught.length === 0) return [];
  const rows = caught.map(({ seed, file, part, by }) => [seed, file, part, by ?? '**not caught**']);
  return [
    '',
    '## Seeded bugs',
    '',
    'That these checks can fail: each of these bugs was put into a copy of Nexus by `node test/proof/seeds/catch.ts`.',
    ...tableOf({ title: '', columns: ['bug', 'in', 'part', 'what the part saw first'], rows }),
  ];
}

function tableOf({ title, columns, rows }: Table): string[] {
  const line = (cells: readonly string[]): string =>
    `| ${columns.map((_, column) => (cells[column] ?? '').replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    '',
    ...(title === '' ? [] : [`### ${title}`, '']),
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map(line),
  ];
}

function listOf(title: string, items: string[]): string[] {
  return items.length === 0 ? [] : ['', `${title}:`, '', ...items.map((item) => `- ${item}`)];
}
