import { formatBytes, formatCount, formatDuration, formatItems } from '../../format.ts';
import type { Standing } from '../../usage.ts';
import { sessionOrders } from '../../usagerequest.ts';
import type { SessionUsage } from '../../usagesessions.ts';
import { tokens } from './chart.ts';
import { cost } from './figures.ts';
import { filterForm, filtersIn, keptIn, periodIn } from './filters.ts';
import { html, type Html } from './html.ts';
import { empty, type Page } from './layout.ts';
import { asked, choice, link, type View, whole } from './view.ts';

const pageSize = 50;

const columns: [order: (typeof sessionOrders)[number] | undefined, title: string, kind: string][] = [
  [undefined, 'Session', ''],
  ['start', 'Began', 'wide'],
  [undefined, 'Duration', 'n wide'],
  [undefined, 'Size', 'n wide'],
  ['calls', 'Calls', 'n wide'],
  ['tokens', 'Tokens', 'n'],
  ['cost', 'Cost', 'n'],
];

/**
 * Sessions that were found, each with what it has cost in the time that is asked for; also those that have called no
 * model, as they are in the archive like the others.
 */
export async function sessionsPage(view: View): Promise<Page> {
  const order = choice(view, 'order', ['start', 'cost', 'tokens', 'calls', 'end']);
  const ascending = asked(view, 'way') === 'up';
  const page = Math.max(1, whole(view, 'page', 1));
  const text = asked(view, 'text');
  const answer = await view.usage.sessions({
    ...periodIn(view),
    ...filtersIn(view),
    ...(text === undefined ? {} : { text: text.slice(0, 200) }),
    uncalled: true,
    order,
    ascending,
    limit: pageSize,
    offset: (page - 1) * pageSize,
    tz: view.timeZone,
  });
  const { sessions, found } = answer;
  const kept = { ...keptIn(view), text: view.query.getAll('text') };
  const place = { ...kept, order, way: ascending ? 'up' : undefined };
  const narrowed = Object.values(kept).some((values) => values.some((value) => value !== ''));
  const heads = columns.map(([by, title, kind]) => {
    if (by === undefined) return html`<th scope="col" class="${kind}">${title}</th>`;
    const now = by === order;
    const way = now && !ascending ? 'up' : undefined;
    return html`<th scope="col" class="${kind}"${now ? html` aria-sort="${ascending ? 'ascending' : 'descending'}"` : ''}><a href="${link(view, ['sessions'], { ...kept, order: by, way })}">${title}${now ? (ascending ? ' ↑' : ' ↓') : ''}</a></th>`;
  });
  const first = (page - 1) * pageSize + 1;
  return {
    title: 'Sessions',
    at: 'sessions',
    standing: answer,
    body: html`<h1>Sessions</h1>
${await filterForm(view, { action: 'sessions', fields: ['agent', 'model', 'trigger', 'host'], text: true, hidden: { order, way: place.way } })}
<section class="card">
${
  sessions.length === 0
    ? nothingFound(view, page, narrowed, answer)
    : html`<div class="scroll"><table class="list"><thead><tr>${heads}</tr></thead><tbody>${sessions.map((session) => rowOf(view, session))}</tbody></table></div>
<nav class="pages" aria-label="Pages of the list"><span>${formatCount(first)}–${formatCount(first + sessions.length - 1)} of ${formatItems(found, 'session')}</span>
${page > 1 ? html`<a rel="prev" href="${link(view, ['sessions'], { ...place, page: page - 1 })}">Previous</a>` : ''}
${first + sessions.length - 1 < found ? html`<a rel="next" href="${link(view, ['sessions'], { ...place, page: page + 1 })}">Next</a>` : ''}</nav>`
}
</section>`,
  };
}

function nothingFound(view: View, page: number, narrowed: boolean, standing: Standing): Html {
  if (page > 1)
    return empty(
      'The list ends before this page.',
      html`<a href="${link(view, ['sessions'])}">To its beginning</a>`,
    );
  return narrowed
    ? empty(
        'No session fits.',
        html`Take a word or a filter away, or see <a href="${link(view, ['sessions'])}">all sessions</a>.`,
        standing,
      )
    : empty(
        'No sessions yet.',
        html`<code>nexus backfill</code> on a host of OpenClaw archives all of its history.`,
        standing,
      );
}

function rowOf(view: View, session: SessionUsage): Html {
  const { agent, start, end, transcripts, trigger, host } = session;
  const transcript = transcripts.at(-1)?.transcript ?? session.session;
  const bytes = transcripts.reduce((sum, one) => sum + one.bytes, 0);
  const odd = Object.values(session.oddities).reduce((sum, count) => sum + count, 0);
  return html`<tr><th scope="row" class="cut"><a href="${link(view, ['sessions', agent, transcript])}">${labelOf(session)}</a><br><span class="quiet">${start === undefined ? '' : html`<span class="slim">${time(start, view.timeZone)} · </span>`}${agent} · ${trigger ?? 'unknown'}${host === undefined ? '' : ` · ${host}`}${transcripts.length > 1 ? ` · ${transcripts.length} histories` : ''}${odd > 0 ? html` · <span class="warned">${formatItems(odd, 'record')} out of order</span>` : ''}</span></th>
<td class="wide">${start === undefined ? html`<span class="none">–</span>` : time(start, view.timeZone)}</td>
<td class="n wide">${start === undefined || end === undefined ? html`<span class="none">–</span>` : formatDuration(Date.parse(end) - Date.parse(start))}</td>
<td class="n wide">${formatBytes(bytes)}</td><td class="n wide">${formatCount(session.calls)}</td><td class="n">${tokens(session.total)}</td><td class="n">${cost(session)}</td></tr>
`;
}

/** What a session is called: its key without the agent, which stands beside it, else its name. */
export function labelOf({ key, session, agent }: Pick<SessionUsage, 'key' | 'session' | 'agent'>): string {
  if (key === undefined) return session;
  const own = `agent:${agent}:`;
  return key.startsWith(own) ? key.slice(own.length) : key;
}

/** A time in the dashboard's time zone, to the minute. */
export function time(iso: string, timeZone: string): Html {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return html`${iso}`;
  const parts = Object.fromEntries(
    new Intl.DateTimeFormat('en-GB', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
    })
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  );
  const text = `${parts['year']}-${parts['month']}-${parts['day']} ${parts['hour']}:${parts['minute']}`;
  return html`<time datetime="${at.toISOString()}" title="${at.toISOString()}">${text}</time>`;
}
