// `npm run bench [-- archive idle memory start azure webhooks usage]`: figures are ratios against a peer or a limit of the same run.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { type Bench, type Figure, placeIn } from './figure.ts';
import { suites } from './suites.ts';

const project = path.resolve(import.meta.dirname, '..', '..');
const root = await mkdtemp(path.join(tmpdir(), 'nexus-bench-'));
const figures: Figure[] = [];
const left: string[] = [];
const bench: Bench = {
  root,
  quick: process.argv.includes('--quick'),
  place: (name) => placeIn(root, name),
  leave: (reason) => void left.push(reason),
};

const wanted = process.argv.slice(2).filter((name) => !name.startsWith('-'));
const unknown = wanted.filter((name) => suites[name] === undefined);
if (unknown.length > 0) {
  process.stderr.write(
    `There is no bench ${unknown.join(', ')}; there are ${Object.keys(suites).join(', ')}.\n`,
  );
  process.exitCode = 64;
} else
  try {
    for (const name of wanted.length > 0 ? wanted : Object.keys(suites)) {
      process.stderr.write(`bench: ${name}\n`);
      figures.push(...((await suites[name]?.(bench)) ?? []));
    }
    await print();
  } finally {
    await rm(root, { recursive: true, force: true });
  }

async function print(): Promise<void> {
  const rows = figures.map(({ what, value, against, ratio, spread = '', goal, met }) => [
    what,
    value,
    against,
    ratio === undefined ? '' : `${ratio.toFixed(2)}x`,
    spread,
    goal === undefined ? '' : `${goal}: ${met === true ? 'met' : 'missed'}`,
  ]);
  const titles = ['what', 'measured', 'against', 'ratio', 'spread', 'goal'];
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  for (const row of [titles, ...rows])
    process.stdout.write(
      `${row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  for (const reason of left) process.stdout.write(`left out: ${reason}\n`);
  const machine = {
    node: process.version,
    cpus: cpus().length,
    cpu: cpus()[0]?.model,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
  };
  const results = path.join(import.meta.dirname, 'results');
  await mkdir(results, { recursive: true });
  const file = path.join(results, `${new Date().toISOString().replaceAll(':', '-')}.json`);
  await writeFile(file, `${JSON.stringify({ machine, figures, left }, null, 2)}\n`);
  process.stdout.write(`written to ${path.relative(project, file)}\n`);
}
