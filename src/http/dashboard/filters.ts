import { filterNames } from '../../usagerequest.ts';
import { html, type Html } from './html.ts';
import { agentsIn, asked, link, maySee, type View } from './view.ts';

type FilterName = (typeof filterNames)[number];
/** What there is a choice of. */
export type FilterField = Exclude<FilterName, 'job' | 'source' | 'session'>;

/** What figures are taken of, as the ledger takes it; of no other agents than the caller's. */
export function filtersIn(view: View): Partial<Record<FilterName, string[]>> {
  const agents = agentsIn(view);
  return Object.fromEntries(
    filterNames.flatMap((name) => {
      const values = name === 'agent' ? agents : valuesIn(view, name);
      return values === undefined || values.length === 0 ? [] : [[name, values]];
    }),
  );
}

/** The filters and the time of this page, for a link to another. */
export function keptIn({ query }: View): Record<string, string[]> {
  return Object.fromEntries([...filterNames, 'from', 'to', 'last'].map((name) => [name, query.getAll(name)]));
}

function valuesIn({ query }: View, name: FilterName): string[] {
  return query.getAll(name).filter((value) => value.trim() !== '');
}

const lasts = { '7d': 'Last 7 days', '30d': 'Last 30 days', '90d': 'Last 90 days', '': 'All time' } as const;

/** The time that is asked for, as the ledger takes it. */
export function periodIn(view: View, fallback?: string): { from?: string; to?: string; last?: string } {
  const [from, to, last] = ['from', 'to', 'last'].map((name) => asked(view, name));
  if (from !== undefined || to !== undefined)
    return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
  if (last !== undefined && last !== 'all') return { last };
  return last === undefined && fallback !== undefined ? { last: fallback } : {};
}

interface FormRequest {
  action: 'usage' | 'sessions';
  fields: readonly FilterField[];
  /** With a search of the session's key. */
  text?: boolean;
  /** What else the form keeps. */
  hidden?: Record<string, string | undefined>;
  /** Before the filters. */
  before?: Html;
  /** The time when none is said. */
  fallback?: '7d' | '30d' | '90d';
}

/** Filters as a form whose state is the URL. Values are those that there are, of what the caller may see. */
export async function filterForm(view: View, request: FormRequest): Promise<Html> {
  const { action, hidden = {}, before, fallback = '' } = request;
  // What the form has no choice of, or but one choice, it keeps and names.
  const others = filterNames.flatMap((name) => {
    const values = valuesIn(view, name);
    const isChoice = request.fields.some((field) => field === name) && values.length < 2;
    return values.length === 0 || isChoice ? [] : [{ name, values }];
  });
  const fields = request.fields.filter((field) => !others.some(({ name }) => name === field));
  const options = await optionsOf(view, fields);
  const [from, to] = [asked(view, 'from') ?? '', asked(view, 'to') ?? ''];
  const last =
    from !== '' || to !== '' ? 'dates' : (asked(view, 'last') ?? (fallback === '' ? 'all' : fallback));
  const used = [...filterNames, 'from', 'to', 'last', 'text'].some((name) => asked(view, name) !== undefined);
  const known = Object.keys(lasts).map((value) => (value === '' ? 'all' : value));
  return html`<form class="filters card" method="get" action="${view.root}${action}">
${Object.entries(hidden).map(([name, value]) => (value === undefined ? '' : html`<input type="hidden" name="${name}" value="${value}">`))}
${others.map(({ name, values }) => values.map((value) => html`<input type="hidden" name="${name}" value="${value}">`))}
${request.text === true ? html`<label class="grow">Search<input type="search" name="text" value="${asked(view, 'text') ?? ''}" maxlength="200" placeholder="part of the key or name"></label>` : ''}
${before ?? ''}
${fields.map((field) => select(field, options[field], asked(view, field) ?? ''))}
<label>Time<select name="last">${last === 'dates' ? html`<option value="" selected>From – to</option>` : ''}${known.includes(last) || last === 'dates' ? '' : html`<option value="${last}" selected>Last ${last}</option>`}${Object.entries(
    lasts,
  ).map(
    ([value, text]) =>
      html`<option value="${value === '' ? 'all' : value}"${(value === '' ? 'all' : value) === last ? html` selected` : ''}>${text}</option>`,
  )}</select></label>
<label>From<input type="date" name="from" value="${from.slice(0, 10)}"></label>
<label>To<input type="date" name="to" value="${to.slice(0, 10)}"></label>
<span class="buttons"><button class="main">Show</button>${used ? html`<a href="${link(view, [action])}">Reset</a>` : ''}</span>
</form>
${others.map(({ name, values }) => html`<p class="quiet">Only ${name} ${values.map((value) => html`<code>${value}</code> `)}<a href="${link(view, [action], without(view, name))}">All</a></p>`)}`;
}

/** All that is asked for but one thing, from the beginning of the list. */
function without({ query }: View, name: FilterName): Record<string, string[]> {
  const others = [...new Set(query.keys())].filter((one) => one !== name && one !== 'page');
  return Object.fromEntries(others.map((one) => [one, query.getAll(one)]));
}

function select(name: FilterField, values: readonly string[], chosen: string): Html {
  // One that is asked for and is not there is shown too: it explains the empty page.
  const all = chosen === '' || values.includes(chosen) ? values : [chosen, ...values];
  const title = `${name[0]?.toUpperCase()}${name.slice(1)}`;
  return html`<label>${title}<select name="${name}"><option value="">All</option>${all.map(
    (value) => html`<option value="${value}"${value === chosen ? html` selected` : ''}>${value}</option>`,
  )}</select></label>`;
}

const mostValues = 200;

/** What there is to choose from, of what the caller may see. */
async function optionsOf(view: View, fields: readonly FilterField[]): Promise<Record<FilterField, string[]>> {
  const found: Record<FilterField, string[]> = {
    agent: [],
    model: [],
    provider: [],
    trigger: [],
    host: [],
  };
  const { agents } = view.caller;
  const { rows } = await view.usage.query({
    by: [...fields],
    tz: view.timeZone,
    ...(agents === '*' ? {} : { agent: [...agents] }),
  });
  for (const row of rows)
    for (const field of fields) {
      const value = row[field];
      if (value !== undefined && !found[field].includes(value) && found[field].length < mostValues)
        found[field].push(value);
    }
  for (const field of fields) found[field].sort();
  found.agent = found.agent.filter((agent) => maySee(view, agent));
  return found;
}
