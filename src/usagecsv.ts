import type { UsageAnswer } from './usage.ts';
import type { Dimension } from './usagerequest.ts';

const sums = ['calls', 'input', 'output', 'cacheRead', 'cacheWrite', 'total'] as const;

/**
 * The rows as RFC 4180 has them, without totals, so that a column may be summed; without a dimension the totals are
 * the only row. A cost that nobody knows is empty.
 */
export function csvOf(
  by: readonly Dimension[],
  { rows, totals }: Pick<UsageAnswer, 'rows' | 'totals'>,
): string {
  const groups = [...new Set(by)];
  const heading = [
    ...groups,
    ...sums,
    'cost',
    'costRecorded',
    'costEstimated',
    'recorded',
    'estimated',
    'unpriced',
  ];
  const shown = groups.length === 0 ? [totals] : rows;
  const lines = shown.map((row) => {
    const { recorded, estimated, unpriced } = row.costCoverage;
    return [
      ...groups.map((group) => cell(labelIn(row, group))),
      ...sums.map((name) => String(row[name])),
      ...[row.cost, row.costRecorded, row.costEstimated].map((cost) => (cost === null ? '' : dollars(cost))),
      ...[recorded, estimated, unpriced].map(String),
    ].join(',');
  });
  return [heading.join(','), ...lines].map((line) => `${line}\r\n`).join('');
}

function labelIn(row: object, group: string): string {
  const value: unknown = Object.getOwnPropertyDescriptor(row, group)?.value;
  return typeof value === 'string' ? value : '';
}

/** Never as 1e-7, which not everything reads. */
function dollars(cost: number): string {
  return cost.toFixed(9).replace(/\.?0+$/, '');
}

/** What a spreadsheet would take for a formula is marked as text: names come from transcripts. */
function cell(text: string): string {
  const harmless = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
