import { formatAge, formatBytes, formatCount, formatDuration, formatItems } from '../../format.ts';
import type { MailboxStanding } from '../../mailbox.ts';
import type { Standing } from '../../usage.ts';
import { quarterMs } from '../../usagecount.ts';
import { dayLabel, daysIn } from '../../usagedays.ts';
import type { Coverage } from '../../usagecoverage.ts';
import type { Sums } from '../../usagequery.ts';
import { oddities } from '../../usagerecord.ts';
import type { SessionUsage } from '../../usagesessions.ts';
import { chart, tokens } from './chart.ts';
import { type Change, change, cost, dollars } from './figures.ts';
import type { HostsStanding } from './hosts.ts';
import { html, type Html } from './html.ts';
import { empty, type Page } from './layout.ts';
import { labelOf } from './sessions.ts';
import { agentsIn, choice, link, maySee, type View } from './view.ts';

const chartDays = 30;

interface Tile {
  title: string;
  sums: Sums;
  before: Sums;
  /** What it is compared with. */
  than: string;
  from: string;
}

/** What is spent, what it rests on, and whether hosts and mail keep up. */
export async function overviewPage(view: View): Promise<Page> {
  const { usage, now, timeZone, webhooks } = view;
  const by = choice(view, 'by', ['agent', 'model']);
  const agents = agentsIn(view);
  const agent = agents === undefined ? {} : { agent: agents };
  const days = stretchesOf(now, timeZone);
  const period = { tz: timeZone, ...agent };

  const tiles = await Promise.all(
    days.map(async ({ title, than, from, before }): Promise<Tile> => {
      const [current, earlier] = await Promise.all([
        usage.query({ from, ...period }),
        usage.query({ ...before, ...period }),
      ]);
      return { title, than, from, sums: current.totals, before: earlier.totals };
    }),
  );
  const labels = lastDays(now, timeZone, chartDays);
  const daily = await usage.query({ by: ['day', by], from: labels[0] ?? '', ...period });
  const [month] = tiles.slice(-1);
  const top = await usage.sessions({ last: '7d', limit: 5, ...period });
  const hosts = await part(view, view.hosts.standing(agents), (found) => hostTable(found, now));
  const mail = await part(view, webhooks.standing(agents), (found) =>
    mailTable(
      view,
      found.filter((one) => maySee(view, one.agent)),
      now,
    ),
  );

  const nothing = daily.totals.calls === 0 && daily.coverage.transcripts === 0;
  const split = (value: 'agent' | 'model', text: string) =>
    html`<a href="${link(view, [], { by: value, agent: view.query.getAll('agent') })}"${value === by ? html` aria-current="true"` : ''}>${text}</a>`;
  return {
    title: 'Overview',
    at: 'overview',
    standing: daily,
    body: html`<h1 class="away">Overview</h1>
${nothing ? nothingYet(daily) : ''}
<section class="tiles" aria-label="Spending">${tiles.map((tile) => tileOf(view, tile))}</section>
<section class="card charts">
<div class="split" role="group" aria-label="Split by">By ${split('agent', 'agent')} ${split('model', 'model')}</div>
<div class="two">
${chart({ title: `Spend by day, last ${chartDays} days`, measure: 'cost', across: 'day', split: by, rows: daily.rows, labels })}
${chart({ title: `Tokens by day, last ${chartDays} days`, measure: 'tokens', across: 'day', split: by, rows: daily.rows, labels })}
</div>
</section>
<div class="two">
<section class="card"><h2>What the last 30 days rest on</h2>${month === undefined ? '' : coverage(month.sums)}${odd(view, daily.coverage.oddities)}</section>
<section class="card"><h2>Costliest sessions of 7 days</h2>${costliest(view, top.sessions)}</section>
<section class="card"><h2>Hosts</h2>${hosts}</section>
<section class="card"><h2>Pending webhooks</h2>${mail}</section>
</div>`,
  };
}

/** A part that stands for itself: where the store does not give it, why stands in its place. */
async function part<T>(view: View, work: Promise<T>, show: (found: T) => Html): Promise<Html> {
  let found: T;
  try {
    found = await work;
  } catch (error) {
    return html`<p class="warned">This cannot be shown: ${view.failed(error)}</p>`;
  }
  return show(found);
}

function nothingYet(standing: Standing): Html {
  return html`<section class="card">${empty(
    'The archive holds no transcripts yet.',
    html`On the machine where OpenClaw runs, <code>nexus backfill</code> archives all of its history; with <code>NEXUS_ENDPOINT</code> and a key of scope <code>upload</code> it ships to this endpoint.`,
    standing,
  )}</section>`;
}

/** Today, 7 and 30 days, and for each the same stretch before, up to the same time of day. */
function stretchesOf(now: Date, timeZone: string) {
  const days = daysIn(timeZone);
  const local = now.getTime() + days.offset(now.getTime());
  const today = Math.floor(local / 86_400_000);
  const time = new Date(Math.floor(local / quarterMs) * quarterMs).toISOString().slice(11, 16);
  const stretches: [title: string, count: number, than: string][] = [
    ['Today', 1, 'yesterday by this time'],
    ['7 days', 7, 'the 7 days before'],
    ['30 days', 30, 'the 30 days before'],
  ];
  return stretches.map(([title, count, than]) => {
    const start = dayLabel(today - 2 * count + 1);
    const end = `${dayLabel(today - count)}T${time}`;
    const began = new Date(days.begin(start)).toISOString();
    // In the first quarter of an hour there is nothing yet to compare with; an empty stretch is no request.
    const until = new Date(Math.max(days.begin(end), Date.parse(began) + quarterMs)).toISOString();
    return { title, than, from: dayLabel(today - count + 1), before: { from: began, to: until } };
  });
}

/** Labels of the last days, today's last. */
function lastDays(now: Date, timeZone: string, count: number): string[] {
  const today = Math.floor((now.getTime() + daysIn(timeZone).offset(now.getTime())) / 86_400_000);
  return Array.from({ length: count }, (_, nth) => dayLabel(today - count + 1 + nth));
}

function tileOf(view: View, { title, sums, before, than, from }: Tile): Html {
  const changed: Change = change(sums.cost, before.cost);
  const agent = view.query.getAll('agent');
  return html`<a class="tile" href="${link(view, ['usage'], { by: 'day', from, agent })}">
<span class="what">${title}</span>
<strong class="n">${cost(sums, 2)}</strong>
<span class="change ${changed.way === 'more' ? 'up' : changed.way === 'less' ? 'down' : ''}">${changed.way === 'more' ? '▲ ' : changed.way === 'less' ? '▼ ' : ''}${changed.text} <span class="quiet">${changed.way === 'same' && changed.text !== 'as before' ? '' : `vs ${than}`}</span></span>
<span class="quiet">${tokens(sums.total)} tokens · ${formatItems(sums.calls, 'call')}${sums.costCoverage.unpriced === 0 ? '' : ` · ${formatCount(sums.costCoverage.unpriced)} unpriced`}</span>
</a>`;
}

function coverage({ calls, cost: known, costRecorded, costEstimated, costCoverage }: Sums): Html {
  if (calls === 0) return empty('No model was called in this time.', html`Sums begin when hosts upload.`);
  const parts: [name: string, text: string, count: number, amount: string][] = [
    ['recorded', 'recorded by OpenClaw', costCoverage.recorded, dollars(costRecorded)],
    ['estimated', 'estimated from prices', costCoverage.estimated, dollars(costEstimated)],
    ['unpriced', 'no price known', costCoverage.unpriced, 'not in the sum'],
  ];
  let at = 0;
  const bars = parts.map(([name, , count]) => {
    const width = (count / calls) * 100;
    at += width;
    return html`<rect class="${name}" x="${(at - width).toFixed(2)}" width="${width.toFixed(2)}" height="8" />`;
  });
  return html`<svg class="coverage" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">${bars}</svg>
<table class="plain"><tbody>${parts.map(
    ([name, text, count, amount]) =>
      html`<tr><th scope="row"><span class="key ${name}"></span>${text}</th><td class="n">${formatItems(count, 'call')}</td><td class="n">${count === 0 ? html`<span class="none">–</span>` : amount}</td></tr>`,
  )}<tr class="sum"><th scope="row">together</th><td class="n">${formatItems(calls, 'call')}</td><td class="n">${known === null ? 'unpriced' : dollars(known)}</td></tr></tbody></table>
${costCoverage.unpriced === 0 ? '' : html`<p class="quiet">The setting <code>prices</code> gives models a price: see README.</p>`}`;
}

/** Records that could not be counted as they are. */
function odd(view: View, found: Coverage['oddities']): Html {
  if (found.length === 0) return html``;
  return html`<h3>Records that are out of order</h3><ul class="plain">${found.map(
    ({ kind, count, example }) =>
      html`<li>${formatCount(count)} × ${oddities[kind]}, as in <a href="${link(view, ['sessions', example.agent, example.transcript])}">${example.agent}/${example.transcript}</a>, line ${example.line}</li>`,
  )}</ul>`;
}

function costliest(view: View, sessions: readonly SessionUsage[]): Html {
  if (sessions.length === 0)
    return empty(
      'No session in the last 7 days.',
      html`<a href="${link(view, ['sessions'])}">All sessions</a>`,
    );
  return html`<table class="plain"><tbody>${sessions.map((session) => {
    const transcript = session.transcripts.at(-1)?.transcript ?? session.session;
    return html`<tr><th scope="row" class="cut"><a href="${link(view, ['sessions', session.agent, transcript])}">${labelOf(session)}</a><br><span class="quiet">${session.agent} · ${session.trigger ?? 'unknown'}</span></th><td class="n">${tokens(session.total)}</td><td class="n">${cost(session)}</td></tr>`;
  })}</tbody></table><p class="more"><a href="${link(view, ['sessions'])}">All sessions</a></p>`;
}

function hostTable(standing: HostsStanding | undefined, now: Date): Html {
  if (standing === undefined)
    return empty('What came from hosts is being added up.', html`Reload in a moment.`);
  const { hosts, damaged } = standing;
  if (damaged > 0)
    return html`${hosts.length === 0 ? '' : hostTable({ hosts, damaged: 0 }, now)}
<p class="warned">${formatItems(damaged, 'transcript')} damaged in the store, not in these figures. <code>nexus backfill --verify</code> names what is damaged.</p>`;
  if (hosts.length === 0)
    return empty(
      'No host has uploaded anything yet.',
      html`<code>nexus install</code> on a host sets up timers that do.`,
    );
  return html`<div class="scroll"><table class="plain"><thead><tr><th scope="col">Host</th><th scope="col">Last upload</th><th scope="col" class="wide" title="From the latest event to its upload">Lag</th><th scope="col" class="n">Transcripts</th><th scope="col" class="n wide">Size</th></tr></thead><tbody>${hosts.map(
    ({ host, transcripts, bytes, uploadedAt, eventAt, active }) => {
      const behind =
        eventAt === undefined ? Number.NaN : Math.max(0, Date.parse(uploadedAt) - Date.parse(eventAt));
      const lag = Number.isNaN(behind)
        ? html`<span class="none">–</span>`
        : html`<span title="Latest event: ${eventAt}">${formatDuration(behind)}</span>`;
      return html`<tr><th scope="row" class="cut">${host}</th><td><time datetime="${uploadedAt}" title="${uploadedAt}">${formatAge(new Date(uploadedAt), now)}</time><span class="slim quiet"><br>lag ${lag}</span></td><td class="wide">${lag}</td><td class="n" title="${formatItems(active, 'active one')}">${formatCount(transcripts)}</td><td class="n wide">${formatBytes(bytes)}</td></tr>`;
    },
  )}</tbody></table></div>`;
}

function mailTable(view: View, mail: readonly MailboxStanding[], now: Date): Html {
  if (mail.length === 0)
    return empty(
      'No mailbox yet.',
      html`<code>nexus webhooks url AGENT SOURCE</code> makes the URL to enter at a sender.`,
    );
  return html`<div class="scroll"><table class="plain"><thead><tr><th scope="col">Agent</th><th scope="col" class="n">Pending</th><th scope="col">Oldest</th><th scope="col">Host</th></tr></thead><tbody>${mail.map(
    ({ agent, pending, bytes, oldestAt, host }) =>
      html`<tr><th scope="row"><a href="${link(view, ['webhooks'], { agent })}">${agent}</a></th><td class="n" title="${formatBytes(bytes)}">${formatCount(pending)}</td><td>${oldestAt === undefined ? html`<span class="none">–</span>` : html`<time datetime="${oldestAt}" title="${oldestAt}">${formatAge(new Date(oldestAt), now)}</time>`}</td><td class="cut">${host ?? html`<span class="none">none yet</span>`}</td></tr>`,
  )}</tbody></table></div>`;
}
