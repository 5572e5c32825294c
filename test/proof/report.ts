import type { Machine } from './machine.ts';
import type { Result, Table } from './part.ts';
import type { Caught } from './seeds/caught.ts';

export interface Proved extends Result {
  name: string;
  promise: string;
  seconds: number;
}

export interface Report {
  /** ISO 8601. */
  began: string;
  minutes: number;
  seed: number;
  machine: Machine;
  parts: Proved[];
  /** What became of the seeded bugs when these were last tried; see seeds/catch.ts. */
  caught: Caught[];
}

/** REPORT.md: for who wants to know whether to trust Nexus, then for who wants to see it again. */
export function reportOf({ began, minutes, seed, machine, parts, caught }: Report): string {
  const broken = parts.reduce((sum, part) => sum + part.broken.length, 0);
  const verdict =
    broken === 0 ? 'Every promise below held.' : `**${broken} of the promises below did not hold.**`;
  const { node, sqlite, system, cpu, memoryGiB } = machine;
  const lines = [
    '# Proof',
    '',
    `What \`npm run prove -- --minutes ${minutes} --seed ${seed}\` saw on ${began.slice(0, 10)}. ${verdict}`,
    '',
    `Node ${node}, SQLite ${sqlite}, ${system}, ${machine.cpus} × ${cpu}, ${memoryGiB} GiB` +
      `${machine.commit === undefined ? '' : `, commit ${machine.commit}`}.`,
    ...parts.flatMap(sectionOf),
    ...caughtOf(caught),
  ];
  return `${lines.join('\n')}\n`;
}

function sectionOf({ name, promise, seconds, counts, broken, left, tables = [] }: Proved): string[] {
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
    `${promise} ${broken.length === 0 ? 'Held' : '**Did not hold**'}, ${(seconds / 60).toFixed(1)} minutes.`,
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
