import { NexusError } from '../../errors.ts';
import { formatCount, formatItems } from '../../format.ts';
import { dayLabel, monthLabel, weekLabel } from '../../usagedays.ts';
import { type Sums, type UsageRow } from '../../usagequery.ts';
import { type Dimension, dimensions } from '../../usagerequest.ts';
import { chart, type ChartRequest, tokens } from './chart.ts';
import { bar, cost } from './figures.ts';
import { type FilterField, filterForm, filtersIn, keptIn, periodIn } from './filters.ts';
import { html, type Html } from './html.ts';
import { empty, type Page } from './layout.ts';
import { link, type View } from './view.ts';

const mostRows = 500;
const mostBars = 400;
const filterFields: FilterField[] = ['agent', 'model', 'provider', 'trigger', 'host'];

/** Sums by one or two dimensions; what is asked is all in the URL. */
export async function usagePage(view: View): Promise<Page> {
  const by = groupsIn(view);
  const [first, second] = by;
  const answer = await view.usage.query({
    ...filtersIn(view),
    ...periodIn(view, '30d'),
    by,
    tz: view.timeZone,
  });
  const timed = first === 'day' || first === 'week' || first === 'month';
  const rows = timed ? answer.rows.toReversed() : answer.rows.toSorted(byCost);
  return {
    title: `Usage by ${by.join(' and ')}`,
    at: 'usage',
    standing: answer,
    body: html`<h1>Usage</h1>
${await filterForm(view, {
  action: 'usage',
  fields: filterFields,
  fallback: '30d',
  before: html`${groupSelect('by', 'By', dimensions, first)}${groupSelect('and', 'and', ['', ...dimensions], second ?? '')}`,
})}
${
  rows.length === 0
    ? html`<section class="card">${empty('No calls of a model in this time.', html`Choose another time, or <a href="${link(view, ['usage'], { last: 'all' })}">see all of it</a>.`, answer)}</section>`
    : html`${timed ? charts(first, second, answer.rows) : ''}<section class="card">${table(view, by, rows, answer.totals)}</section>`
}`,
  };
}

function byCost(one: UsageRow, other: UsageRow): number {
  return (other.cost ?? -1) - (one.cost ?? -1) || other.total - one.total;
}

/** One or two different dimensions: `by=day&and=model`, or `by=day,model` as the API has it. */
function groupsIn(view: View): [Dimension, ...Dimension[]] {
  const said = [...view.query.getAll('by'), ...view.query.getAll('and')].flatMap((text) => text.split(','));
  if (said.some((text) => text !== '' && !dimensions.some((dimension) => dimension === text)))
    throw new NexusError('invalid', `Sums are by one or two of ${dimensions.join(', ')}.`);
  const known = dimensions.filter((dimension) => said.includes(dimension));
  const [first = 'day', ...rest] = known.sort((one, other) => said.indexOf(one) - said.indexOf(other));
  return [first, ...rest.slice(0, 1)];
}

function groupSelect(name: string, title: string, values: readonly string[], chosen: string): Html {
  return html`<label>${title}<select name="${name}">${values.map(
    (value) =>
      html`<option value="${value}"${value === chosen ? html` selected` : ''}>${value === '' ? '–' : value}</option>`,
  )}</select></label>`;
}

function charts(
  first: 'day' | 'week' | 'month',
  second: Dimension | undefined,
  rows: readonly UsageRow[],
): Html {
  const split =
    second === undefined || second === 'day' || second === 'week' || second === 'month' ? undefined : second;
  const labels = filled([...new Set(rows.map((row) => row[first] ?? ''))].sort(), first);
  const request = (measure: ChartRequest['measure'], title: string) =>
    chart({ title: `${title} by ${first}`, measure, across: first, split, rows, labels });
  return html`<section class="card charts"><div class="two">${request('cost', 'Spend')}${request('tokens', 'Tokens')}</div></section>`;
}

/** With those between that have no calls, unless they are too many to be drawn. */
function filled(labels: string[], unit: 'day' | 'week' | 'month'): string[] {
  const [first, last] = [labels[0], labels.at(-1)];
  if (first === undefined || last === undefined) return labels;
  const label = { day: dayLabel, week: weekLabel, month: monthLabel }[unit];
  const begin = unit === 'day' ? first : unit === 'month' ? `${first}-01` : `${first.slice(0, 4)}-01-01`;
  const all: string[] = [];
  // Some days before the year: its first week may begin there.
  for (let day = Date.parse(begin) / 86_400_000 - (unit === 'week' ? 7 : 0); all.length <= mostBars; day++) {
    const one = label(day);
    if (one > last) return all;
    if (one >= first && all.at(-1) !== one) all.push(one);
  }
  return labels;
}

function table(view: View, by: readonly Dimension[], rows: readonly UsageRow[], totals: Sums): Html {
  const greatest = Math.max(...rows.map(({ cost: known }) => known ?? 0));
  const shown = rows.slice(0, mostRows);
  // A phone has no room for it beside two names.
  const callsKind = by.length > 1 ? 'n wide' : 'n';
  const figures = (sums: Sums) =>
    html`<td class="n">${cost(sums)}</td><td class="n">${tokens(sums.total)}</td>${[sums.input, sums.output, sums.cacheRead, sums.cacheWrite].map((count) => html`<td class="n wide" title="${formatCount(count)}">${tokens(count)}</td>`)}<td class="${callsKind}">${formatCount(sums.calls)}</td>`;
  return html`<div class="scroll"><table class="list sums"><thead><tr>${by.map((name) => html`<th scope="col">${name[0]?.toUpperCase()}${name.slice(1)}</th>`)}<th scope="col" class="wide"><span class="away">Share</span></th><th scope="col" class="n">Cost</th><th scope="col" class="n">Tokens</th><th scope="col" class="n wide">Input</th><th scope="col" class="n wide">Output</th><th scope="col" class="n wide">Cache read</th><th scope="col" class="n wide">Cache write</th><th scope="col" class="${callsKind}">Calls</th></tr></thead>
<tbody>${shown.map(
    (row) =>
      html`<tr>${by.map((name) => html`<th scope="row" class="cut">${label(view, name, row[name] ?? 'unknown')}</th>`)}<td class="wide bars">${bar(row.cost ?? 0, greatest)}</td>${figures(row)}</tr>
`,
  )}</tbody>
<tfoot><tr><th scope="row" colspan="${by.length}">Total of ${formatItems(rows.length, 'row')}</th><td class="wide"></td>${figures(totals)}</tr></tfoot></table></div>
${rows.length > shown.length ? html`<p class="quiet">The first ${formatCount(shown.length)} rows of ${formatCount(rows.length)}; the total is of all. Narrow the time or a filter to see the others.</p>` : ''}
<p class="quiet">Costs: ${formatItems(totals.costCoverage.recorded, 'call')} recorded by OpenClaw, ${formatCount(totals.costCoverage.estimated)} estimated from prices, ${formatCount(totals.costCoverage.unpriced)} without a price.</p>`;
}

/** A group's name, and where it leads: a session to itself, anything else to what lies in it. */
function label(view: View, dimension: Dimension, value: string): Html {
  if (dimension === 'session') {
    const [agent = '', ...name] = value.split('/');
    return html`<a href="${link(view, ['sessions', agent, name.join('/')])}">${value}</a>`;
  }
  const kept = keptIn(view);
  if (dimension === 'day')
    return html`<a href="${link(view, ['sessions'], { ...kept, last: undefined, from: value, to: value })}">${value}</a>`;
  if (dimension === 'week' || dimension === 'month' || value === 'unknown' || value === 'none')
    return html`${value}`;
  return html`<a href="${link(view, ['usage'], { ...kept, by: 'day', [dimension]: value })}">${value}</a>`;
}
