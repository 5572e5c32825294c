import { formatAge, formatBytes, formatCount, formatItems } from '../format.ts';
import { type Cell, type Column, layOut, widthOf } from '../table.ts';
import type { Standing } from '../usage.ts';
import type { Sums, UsageRow } from '../usagequery.ts';
import { type Oddity, oddities } from '../usagerecord.ts';
import type { Dimension } from '../usagerequest.ts';

/** A line of a table, and what kind it is. */
export interface Line {
  kind: 'heading' | 'row' | 'total';
  text: string;
}

const times: readonly Dimension[] = ['day', 'week', 'month'];

/**
 * Rows and their total in lines of at most `width`: all columns where they fit, then without the two of the cache, then
 * with short numbers. What is left of the width is a bar; without a width there is none.
 */
export function usageLines(
  by: readonly Dimension[],
  rows: readonly UsageRow[],
  totals: Sums,
  width: number | undefined,
): Line[] {
  const shown = isTimed(by) ? rows : rows.toSorted(byCost);
  const digits = (totals.cost ?? 0) >= 1 ? 2 : 4;
  const lay = (shape: Shape, widest?: number) =>
    layOut(
      columnsOf(by, shape),
      [
        ...shown.map((row) => cellsOf(by, row, shape, digits)),
        ['total', ...by.slice(1).map(() => ''), ...numbersOf(totals, shape, digits)],
      ],
      widest,
    );
  const fits = (lines: readonly string[]) => width === undefined || widestOf(lines) <= width;
  const fitting = shapes.map((shape) => lay(shape)).find(fits) ?? lay(narrowest, width);
  const widest = widestOf(fitting);
  const bars = barsOf(shown, totals, width === undefined ? 0 : width - widest - 2);
  return fitting.map((text, nth) => {
    const bar = bars[nth - 1] ?? '';
    const kind = nth === 0 ? 'heading' : nth === fitting.length - 1 ? 'total' : 'row';
    return { kind, text: bar === '' ? text : `${text}${' '.repeat(widest - widthOf(text))}  ${bar}` };
  });
}

/** Which counts are shown, and how they are written. */
interface Shape {
  counts: readonly (keyof typeof countTitles)[];
  number: (count: number) => string;
}

const countTitles = {
  calls: 'CALLS',
  input: 'INPUT',
  output: 'OUTPUT',
  cacheRead: 'CACHE READ',
  cacheWrite: 'CACHE WRITE',
  total: 'TOKENS',
} as const;

const all = ['calls', 'input', 'output', 'cacheRead', 'cacheWrite', 'total'] as const;
const most = ['calls', 'input', 'output', 'total'] as const;
const narrowest: Shape = { counts: ['total'], number: shortCount };
const shapes: readonly Shape[] = [
  { counts: all, number: formatCount },
  { counts: most, number: formatCount },
  { counts: all, number: shortCount },
  { counts: most, number: shortCount },
  narrowest,
];

function widestOf(lines: readonly string[]): number {
  return Math.max(...lines.map(widthOf));
}

export function isTimed([first]: readonly Dimension[]): boolean {
  return first !== undefined && times.includes(first);
}

function columnsOf(by: readonly Dimension[], { counts }: Shape): Column[] {
  return [
    ...by.map((dimension): Column => ({ title: dimension.toUpperCase(), align: 'left' })),
    ...[...counts.map((name) => countTitles[name]), 'COST'].map(
      (title): Column => ({ title, align: 'right' }),
    ),
  ];
}

function cellsOf(by: readonly Dimension[], row: UsageRow, shape: Shape, digits: number): Cell[] {
  return [...by.map((dimension) => row[dimension] ?? ''), ...numbersOf(row, shape, digits)];
}

function numbersOf(sums: Sums, { counts, number }: Shape, digits: number): string[] {
  return [...counts.map((name) => number(sums[name])), costText(sums, digits)];
}

/** A cost with what it leaves out: `≈` is partly estimated, `≥` leaves calls out; nothing known is no $0. */
export function costText({ cost, calls, costCoverage }: Sums, digits = 2): string {
  if (cost === null) return 'unpriced';
  const sign = calls > 0 && costCoverage.unpriced > 0 ? '≥ ' : costCoverage.estimated > 0 ? '≈ ' : '';
  return `${sign}${dollars(cost, digits)}`;
}

export function dollars(cost: number, digits = 2): string {
  return `$${cost.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

/** `1,234`, `56.7k`, `8.9M`, `1.2G`. */
export function shortCount(count: number): string {
  if (count < 10_000) return formatCount(count);
  const units = ['k', 'M', 'G', 'T', 'P'];
  let value = count;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value >= 99.95 ? 0 : 1)}${units[unit]}`;
}

function byCost(one: Sums, other: Sums): number {
  return (other.cost ?? 0) - (one.cost ?? 0) || other.total - one.total;
}

const longestBar = 30;
const shortestBar = 6;
const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** By cost, or by tokens where no cost is known; none where there is no room or nothing to compare. */
function barsOf(rows: readonly Sums[], totals: Sums, room: number): string[] {
  if (room < shortestBar || rows.length < 2) return [];
  const valueOf = ({ cost, total }: Sums) => ((totals.cost ?? 0) > 0 ? (cost ?? 0) : total);
  const greatest = Math.max(...rows.map(valueOf));
  if (greatest <= 0) return [];
  const length = Math.min(room, longestBar);
  return rows.map((row) => {
    const parts = Math.round((valueOf(row) / greatest) * length * 8);
    return `${'█'.repeat(Math.floor(parts / 8))}${eighths[parts % 8] ?? ''}`;
  });
}

/** What the sums rest on: calls by what their cost rests on, what was read, and what is odd. A sentence a line. */
export function coverageLines(totals: Sums | undefined, standing: Standing, now: Date): string[] {
  const { coverage, asOf, complete } = standing;
  const read = `${formatItems(coverage.transcripts, 'transcript')}, ${formatBytes(coverage.bytes)}`;
  const when =
    asOf === null ? 'Nothing was read yet' : `As of ${timeText(asOf)} (${formatAge(Date.parse(asOf), now)})`;
  return [
    ...(totals === undefined ? [] : [costLine(totals)]),
    complete ? `${when}: all of ${read}.` : `${when}: ${unreadText(standing)}`,
    ...(standing.uncounted === 0 ? [] : [uncountedText(standing)]),
    ...(standing.lostPrices === undefined ? [] : [lostPricesText(standing.lostPrices)]),
    ...coverage.oddities.map(oddityText),
  ];
}

function costLine({ calls, costCoverage }: Sums): string {
  const { recorded, estimated, unpriced } = costCoverage;
  if (calls === 0) return 'No calls.';
  const parts = [
    `cost recorded of ${formatCount(recorded)}`,
    ...(estimated === 0 ? [] : [`≈ estimated of ${formatCount(estimated)}`]),
    ...(unpriced === 0 ? [] : [`≥ unpriced and in no cost: ${formatCount(unpriced)}`]),
  ];
  return `${formatItems(calls, 'call')}: ${parts.join(', ')}.`;
}

/** All that is stored is in the sums, as far as it can be known. */
export function isWhole({
  complete,
  uncounted,
  lostPrices = 0,
}: Pick<Standing, 'complete' | 'uncounted' | 'lostPrices'>): boolean {
  return complete && uncounted === 0 && lostPrices === 0;
}

export function lostPricesText(lostPrices: number): string {
  return `Costs may be wrong: ${formatItems(lostPrices, 'day')} of prices from openclaw.json cannot be read; \`nexus backfill --verify\` names what is damaged.`;
}

export function uncountedText({ uncounted }: Pick<Standing, 'uncounted'>): string {
  return `The sums may be too low: ${formatItems(uncounted, 'line')} could not be counted.`;
}

/** What is missing, so that a partial sum does not pass for a whole one. */
export function unreadText({ coverage }: Standing): string {
  const { unread, unreadable, transcripts, bytes, bytesRead } = coverage;
  const [example] = unreadable.examples;
  const failed =
    example === undefined
      ? ''
      : ` ${formatItems(unreadable.count, 'transcript')} cannot be read, as ${example.agent}/${example.transcript}: ${example.reason}`;
  return `not all is read yet, the sums are too low: ${formatCount(unread)} of ${formatItems(transcripts, 'transcript')} and ${formatBytes(Math.max(0, bytes - bytesRead))} of ${formatBytes(bytes)} to go.${failed}`;
}

export function oddityText({ kind, count, example }: Standing['coverage']['oddities'][number]): string {
  const what: Record<Oddity, string> = oddities;
  return `Odd: ${formatCount(count)} × ${what[kind]}; the first is line ${formatCount(example.line)} of ${example.agent}/${example.transcript}.`;
}

function timeText(iso: string): string {
  const at = new Date(iso);
  const pad = (part: number) => String(part).padStart(2, '0');
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}
