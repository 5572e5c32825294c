import type { Sums, UsageRow } from '../../usagequery.ts';
import { dollars, short } from './figures.ts';
import { html, type Html } from './html.ts';
import { formatCount } from '../../format.ts';

export type Measure = 'cost' | 'tokens';

export interface ChartRequest {
  title: string;
  measure: Measure;
  /** What the rows are: `day`, … */
  across: 'day' | 'week' | 'month';
  /** What each is split by; undefined: not at all. */
  split: 'agent' | 'model' | 'provider' | 'trigger' | 'host' | 'job' | 'source' | 'session' | undefined;
  rows: readonly UsageRow[];
  /** All labels there are, in ascending order, those without a call too. */
  labels: readonly string[];
}

/** The most that are told apart; the others are summed up. */
const mostSeries = 6;
const others = 'others';

function measured(measure: Measure, sums: Sums): number {
  return measure === 'cost' ? (sums.cost ?? 0) : sums.total;
}

/**
 * A figure over time, each split up, as a table from which a script draws bars: without a script the table is there.
 * The first row is the latest.
 */
export function chart({ title, measure, across, split, rows, labels }: ChartRequest): Html {
  const ranked = rankOf(rows, split);
  const told = ranked.length > mostSeries ? ranked.slice(0, mostSeries - 1) : ranked;
  const series = ranked.length > told.length ? [...told, others] : told;
  const cells = new Map<string, number[]>(labels.map((label) => [label, series.map(() => 0)]));
  for (const row of rows) {
    const name = nameIn(row, split);
    const nth = told.includes(name) ? told.indexOf(name) : series.length - 1;
    const cell = cells.get(row[across] ?? '');
    if (cell !== undefined) cell[nth] = (cell[nth] ?? 0) + measured(measure, row);
  }
  const show = (value: number) =>
    value === 0
      ? html`<span class="none">–</span>`
      : html`${measure === 'cost' ? dollars(value) : formatCount(value)}`;
  const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
  const single = series.length === 1;
  return html`<figure class="chart" data-measure="${measure}" data-title="${title}">
<figcaption><h2>${title}</h2></figcaption>
<details open><summary>Figures</summary><div class="scroll"><table class="figures">
<thead><tr><th scope="col">${across[0]?.toUpperCase()}${across.slice(1)}</th>${series.map((name) => html`<th scope="col" class="n" data-series="${name}">${name}</th>`)}${single ? '' : html`<th scope="col" class="n">Total</th>`}</tr></thead>
<tbody>${labels.toReversed().map((label) => {
    const values = cells.get(label) ?? [];
    return html`<tr><th scope="row" data-label="${label}">${label}</th>${values.map((value) => html`<td class="n" data-value="${value}">${show(value)}</td>`)}${single ? '' : html`<td class="n total">${show(total(values))}</td>`}</tr>
`;
  })}</tbody></table></div></details>
</figure>`;
}

/** The same order for cost and tokens, so that a colour is the same name's in both: by its share of each. */
function rankOf(rows: readonly UsageRow[], split: ChartRequest['split']): string[] {
  const all = (measure: Measure) => rows.reduce((sum, row) => sum + measured(measure, row), 0) || 1;
  const [cost, tokens] = [all('cost'), all('tokens')];
  const shares = new Map<string, number>();
  for (const row of rows) {
    const name = nameIn(row, split);
    const share = measured('cost', row) / cost + measured('tokens', row) / tokens;
    shares.set(name, (shares.get(name) ?? 0) + share);
  }
  return [...shares].sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1)).map(([name]) => name);
}

function nameIn(row: UsageRow, split: ChartRequest['split']): string {
  return split === undefined ? 'all' : (row[split] ?? 'unknown');
}

/** Tokens in few characters, all of them in the title. */
export function tokens(count: number): Html {
  return html`<span title="${formatCount(count)} tokens">${short(count)}</span>`;
}
