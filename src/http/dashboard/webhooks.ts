import { checkAgentId } from '../../agents.ts';
import { formatAge, formatBytes, formatCount, formatItems } from '../../format.ts';
import type { ListedItem } from '../../mailbox.ts';
import { html, type Html } from './html.ts';
import { empty, type Page } from './layout.ts';
import { time } from './sessions.ts';
import { agentsIn, asked, choice, link, type View, whole } from './view.ts';

const pageSize = 50;
/** Of a longer history only so many of the latest can be paged through. */
const mostKept = 2000;
const spans = { '7': '7 days', '1': '24 hours', '30': '30 days' } as const;

/** What waits for the agents' hosts, and what they have had. */
export async function webhooksPage(view: View): Promise<Page> {
  const state = choice(view, 'state', ['pending', 'history']);
  const source = asked(view, 'source');
  const page = Math.max(1, whole(view, 'page', 1));
  const days = choice(view, 'days', ['7', '1', '30']);
  const agents = agentsIn(view);
  const kept: ListedItem[] = [];
  const damaged = new Set<string>();
  let found = 0;
  for (const agent of agents ?? [undefined])
    for await (const item of view.webhooks.list({
      ...(agent === undefined ? {} : { agent: checkAgentId(agent) }),
      ...(source === undefined ? {} : { source }),
      ...(state === 'history'
        ? { since: new Date(view.now.getTime() - Number(days) * 86_400_000).toISOString() }
        : {}),
      state,
      broken: ({ id }) => damaged.add(id),
    })) {
      found += 1;
      kept.push(item);
      // What is pending is read from its oldest on, history from its latest back.
      if (kept.length > 2 * mostKept) trim(kept, state);
    }
  trim(kept, state);
  const first = (page - 1) * pageSize;
  const items = kept.slice(first, first + pageSize);
  const standing = await view.webhooks.standing(agents);
  const waiting = standing.reduce((sum, one) => sum + one.pending, 0);
  const agent = view.query.getAll('agent');
  const tab = (value: 'pending' | 'history', text: string) =>
    html`<a href="${link(view, ['webhooks'], { state: value, agent, source })}"${value === state ? html` aria-current="true"` : ''}>${text}</a>`;
  const place = { state, agent, source, days: state === 'history' ? days : undefined };
  return {
    title: state === 'pending' ? 'Pending webhooks' : 'Webhooks of the past',
    at: 'webhooks',
    body: html`<h1>Webhooks</h1>
<div class="split" role="group">${tab('pending', `Pending (${formatCount(waiting)})`)} ${tab('history', 'History')}
${
  state === 'history'
    ? html`<span class="quiet">of</span> ${Object.entries(spans)
        .toSorted(([a], [b]) => Number(a) - Number(b))
        .map(
          ([value, text]) =>
            html`<a href="${link(view, ['webhooks'], { ...place, days: value })}"${value === days ? html` aria-current="true"` : ''}>${text}</a> `,
        )}`
    : ''
}
${agent.length > 0 || source !== undefined ? html`<span class="quiet">only ${[...agent, ...(source === undefined ? [] : [source])].join(', ')}</span> <a href="${link(view, ['webhooks'], { state })}">All</a>` : ''}</div>
<section class="card">
${damaged.size > 0 ? html`<p role="alert">Damaged in the store, and not shown: ${[...damaged].join(', ')}. <code>nexus backfill --verify</code> names what is damaged.</p>` : ''}${
  items.length === 0
    ? nothing(view, state, page)
    : html`<div class="scroll"><table class="list"><thead><tr><th scope="col">Received</th><th scope="col">Source</th><th scope="col" class="wide">Agent</th>${state === 'history' ? html`<th scope="col">Became</th>` : ''}<th scope="col" class="n wide">Size</th><th scope="col" class="wide">Content</th></tr></thead><tbody>${items.map((item) => rowOf(view, item))}</tbody></table></div>
<nav class="pages" aria-label="Pages of the list"><span>${formatCount(first + 1)}–${formatCount(first + items.length)} of ${formatItems(found, 'webhook')}${found > kept.length ? `; the ${state === 'history' ? 'latest' : 'first'} ${formatCount(kept.length)} can be paged through` : ''}</span>
${page > 1 ? html`<a rel="prev" href="${link(view, ['webhooks'], { ...place, page: page - 1 })}">Previous</a>` : ''}
${first + items.length < kept.length ? html`<a rel="next" href="${link(view, ['webhooks'], { ...place, page: page + 1 })}">Next</a>` : ''}</nav>`
}
</section>`,
  };
}

function trim(items: ListedItem[], state: 'pending' | 'history'): void {
  items.sort((one, other) => {
    const order =
      one.receivedAt < other.receivedAt
        ? -1
        : one.receivedAt > other.receivedAt
          ? 1
          : one.id < other.id
            ? -1
            : 1;
    return state === 'history' ? -order : order;
  });
  items.length = Math.min(items.length, mostKept);
}

function nothing(view: View, state: 'pending' | 'history', page: number): Html {
  if (page > 1)
    return empty(
      'The list ends before this page.',
      html`<a href="${link(view, ['webhooks'], { state })}">To its beginning</a>`,
    );
  return state === 'pending'
    ? empty(
        'Nothing is pending.',
        html`Hosts have fetched all that came. <code>nexus webhooks url AGENT SOURCE</code> makes the URL to enter at a sender.`,
      )
    : empty(
        'Nothing was delivered in this time.',
        html`History is kept for 30 days after an item has left pending.`,
      );
}

function rowOf(view: View, item: ListedItem): Html {
  const { id, agent, source, receivedAt, bytes, contentType, state, acknowledgedAt, host, replayOf } = item;
  const later =
    state === 'pending'
      ? ''
      : html`<td class="cut">${state}${host === undefined ? '' : ` to ${host}`}${acknowledgedAt === undefined ? '' : html` <span class="quiet">${formatAge(new Date(acknowledgedAt), view.now)}</span>`}</td>`;
  return html`<tr><th scope="row"><a href="${link(view, ['webhooks', id])}">${time(receivedAt, view.timeZone)}</a><span class="slim quiet"><br>${agent}</span></th><td class="cut">${source}${replayOf === undefined ? '' : html` <span class="quiet">replay</span>`}</td><td class="wide">${agent}</td>${later}<td class="n wide">${formatBytes(bytes)}</td><td class="cut wide">${contentType === '' ? html`<span class="none">not said</span>` : contentType}</td></tr>
`;
}
