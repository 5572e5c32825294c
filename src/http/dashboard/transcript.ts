import { checkAgentId } from '../../agents.ts';
import { NexusError } from '../../errors.ts';
import { formatBytes, formatCount, formatDuration, formatItems } from '../../format.ts';
import type { Card } from '../../nexus.ts';
import { checkTranscript, sessionOf } from '../../transcripts.ts';
import { oddities, isOddity } from '../../usagerecord.ts';
import type { SessionUsage } from '../../usagesessions.ts';
import { tokens } from './chart.ts';
import { cost } from './figures.ts';
import { html, type Html } from './html.ts';
import { empty, type Page } from './layout.ts';
import { type LinePage, linesOfPage } from './lines.ts';
import { showRecord } from './records.ts';
import { labelOf, time } from './sessions.ts';
import { link, type View, whole } from './view.ts';

/** Far more than a page of real records has: of shorter lines a page could have so many that no browser shows them. */
const mostRecords = 2000;

/** One transcript to read: what it was, what it has cost, and its records, a page at a time. */
export async function transcriptPage(view: View): Promise<Page> {
  const { sessions, usage, params } = view;
  const [agent, transcript] = [checkAgentId(params['agentId'] ?? ''), params['transcript'] ?? ''];
  view.caller.require(['read'], agent);
  checkTranscript(transcript);
  const card = await sessions.stat(agent, transcript);
  if (card === undefined)
    throw new NexusError('not_found', `Nothing is stored as ${agent}/${transcript}.`, {
      hint: 'Look for it among the sessions.',
    });
  const name = `${agent}/${sessionOf(transcript)}`;
  const answer = await usage.sessions({
    session: [name],
    agent: [agent],
    uncalled: true,
    tz: view.timeZone,
    limit: 1,
  });
  const session = answer.sessions[0];
  const models =
    session === undefined ? [] : (await usage.query({ by: ['model'], session: [name], agent: [agent] })).rows;
  const items = await usage.items(name);
  const page = await linesOfPage(sessions, agent, transcript, card.length, whole(view, 'page', 1));
  return {
    title: session === undefined ? transcript : labelOf(session),
    at: 'sessions',
    standing: answer,
    body: html`<p class="crumbs"><a href="${link(view, ['sessions'])}">Sessions</a> / <a href="${link(view, ['sessions'], { agent })}">${agent}</a></p>
<h1 class="title">${session === undefined ? (card.sessionKey ?? transcript) : labelOf(session)}</h1>
<section class="card">${about(view, card, session, items)}
${models.length === 0 ? '' : html`<div class="scroll"><table class="plain"><thead><tr><th scope="col">Model</th><th scope="col" class="n">Calls</th><th scope="col" class="n">Tokens</th><th scope="col" class="n">Cost</th></tr></thead><tbody>${models.map((row) => html`<tr><th scope="row">${row.model}</th><td class="n">${formatCount(row.calls)}</td><td class="n">${tokens(row.total)}</td><td class="n">${cost(row)}</td></tr>`)}</tbody></table></div>`}
${session === undefined ? '' : strange(session)}</section>
<section class="replay" aria-label="Records">
${pager(view, card, page)}
${page.within ? html`<p class="empty">All of this part lies within one record that begins on an earlier page.</p>` : ''}
${card.length === 0 ? empty('Nothing of this transcript is stored yet.', html`It appears with the next upload.`) : ''}
${page.lines.slice(0, mostRecords).map((line) => showRecord(line, (iso) => time(iso, view.timeZone)))}
${page.lines.length > mostRecords ? html`<p class="left">${formatCount(page.lines.length - mostRecords)} more lines of this page are too many to be shown.</p>` : ''}
${page.pages > 1 ? pager(view, card, page) : ''}
</section>`,
  };
}

function about(view: View, card: Card, session: SessionUsage | undefined, items: readonly string[]): Html {
  const { start, end } = session ?? {};
  const facts: [string, Html | undefined][] = [
    ['Cost', session === undefined ? undefined : html`<b>${cost(session)}</b>`],
    [
      'Tokens',
      session === undefined
        ? undefined
        : html`${tokens(session.total)} in ${formatItems(session.calls, 'call')}`,
    ],
    ['Began', start === undefined ? undefined : time(start, view.timeZone)],
    [
      'Duration',
      start === undefined || end === undefined
        ? undefined
        : html`${formatDuration(Date.parse(end) - Date.parse(start))}`,
    ],
    ['Key', card.sessionKey === undefined ? undefined : html`<code>${card.sessionKey}</code>`],
    ['Trigger', session?.trigger === undefined ? undefined : html`${session.trigger}`],
    [
      'Cron job',
      session?.job === undefined
        ? undefined
        : html`<a href="${link(view, ['usage'], { by: 'session', job: session.job, last: 'all' })}">${session.job}</a>`,
    ],
    [
      'Webhooks',
      items.length === 0
        ? undefined
        : html`${items.map((id) => html`<a href="${link(view, ['webhooks', id])}">${id}</a> `)}`,
    ],
    ['Host', card.host === undefined ? undefined : html`${card.host}`],
    [
      'Transcript',
      html`<code>${card.agent}/${card.transcript}</code>, ${formatBytes(card.length)}, ${card.complete ? 'complete' : 'may grow'}`,
    ],
    [
      'Stored',
      html`${time(card.storedAt, view.timeZone)}, last changed ${time(card.updatedAt, view.timeZone)}`,
    ],
    ['SHA-256', card.digest === undefined ? undefined : html`<code class="digest">${card.digest}</code>`],
  ];
  const histories = session?.transcripts ?? [];
  return html`<dl class="facts">${facts.map(([name, value]) => (value === undefined ? '' : html`<div><dt>${name}</dt><dd>${value}</dd></div>`))}</dl>
${histories.length < 2 ? '' : html`<p>Histories of this session: ${histories.map(({ transcript, bytes }) => html`<a href="${link(view, ['sessions', card.agent, transcript])}"${transcript === card.transcript ? html` aria-current="true"` : ''}>${transcript}</a> (${formatBytes(bytes)}) `)}. Calls that several of them hold count once.</p>`}`;
}

function strange(session: SessionUsage): Html {
  const kinds = Object.entries(session.oddities);
  return kinds.length === 0
    ? html``
    : html`<ul class="plain warned">${kinds.map(([kind, count]) => html`<li>${formatCount(count)} × ${isOddity(kind) ? oddities[kind] : kind}</li>`)}</ul>`;
}

function pager(view: View, { agent, transcript, length }: Card, { page, pages, next }: LinePage): Html {
  if (pages === 1) return html`<p class="quiet pages">All of it, ${formatBytes(length)}.</p>`;
  const to = (number: number, text: string, rel?: string) =>
    html`<a${rel === undefined ? '' : html` rel="${rel}"`} href="${link(view, ['sessions', agent, transcript], { page: number })}">${text}</a>`;
  return html`<nav class="pages" aria-label="Pages of the transcript"><span>Page ${formatCount(page)} of ${formatCount(pages)}, ${formatBytes(length)}</span>
${page > 1 ? html`${to(1, 'First')} ${to(page - 1, 'Previous', 'prev')}` : ''} ${next === undefined ? '' : to(next, 'Next', 'next')} ${page < pages ? to(pages, 'Last') : ''}
<form method="get" class="jump"><label>Page <input type="number" name="page" min="1" max="${pages}" value="${page}"></label><button>Go</button></form></nav>`;
}
