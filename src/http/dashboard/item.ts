import { NexusError } from '../../errors.ts';
import { nestedDeeper } from '../../exactjson.ts';
import { formatBytes, formatItems } from '../../format.ts';
import { positionOf, type ShownItem } from '../../mailbox.ts';
import { cost } from './figures.ts';
import { html, type Html } from './html.ts';
import type { Page } from './layout.ts';
import { time } from './sessions.ts';
import { link, maySee, type View } from './view.ts';

const mostPayload = 64 * 1024;

/** One webhook: where it came from, what it says, and what handling it has cost. */
export async function itemPage(view: View): Promise<Page> {
  const id = view.params['id'] ?? '';
  const position = positionOf(id);
  if (position !== undefined) view.caller.require(['read'], position.agent);
  const item = position === undefined ? undefined : await view.webhooks.show(id);
  if (item === undefined)
    throw new NexusError('not_found', 'There is no such webhook.', {
      hint: 'History is kept for 30 days after an item has left pending.',
    });
  const spent = await view.usage.costOf(id);
  const { agent, source, receivedAt, contentType, bytes, state, delivery, acknowledgedAt, host, replayOf } =
    item;
  const theirs = (spent?.sessions ?? []).filter((name) => maySee(view, name.split('/')[0] ?? ''));
  const facts: [string, Html | undefined][] = [
    [
      'State',
      html`${state}${host === undefined ? '' : ` to ${host}`}${acknowledgedAt === undefined ? '' : html`, ${time(acknowledgedAt, view.timeZone)}`}`,
    ],
    ['Received', time(receivedAt, view.timeZone)],
    ['Agent', html`<a href="${link(view, ['webhooks'], { agent })}">${agent}</a>`],
    ['Source', html`${source}`],
    ["Sender's id", delivery === undefined ? undefined : html`<code>${delivery}</code>`],
    [
      'Replay of',
      replayOf === undefined
        ? undefined
        : html`<a href="${link(view, ['webhooks', replayOf])}">${replayOf}</a>`,
    ],
    ['Content', html`${contentType === '' ? 'type not said' : contentType}, ${formatBytes(bytes)}`],
    ['Id', html`<code>${id}</code>`],
    [
      'Handling it',
      spent === undefined || theirs.length === 0
        ? html`<span class="quiet">no session is known that it began</span>`
        : html`<b>${cost(spent.sums)}</b>${spent.items > 1 ? ` together with ${formatItems(spent.items - 1, 'other webhook')}` : ''}: ${theirs.map(
            (name) => {
              const [owner = '', ...rest] = name.split('/');
              return html`<a href="${link(view, ['sessions', owner, rest.join('/')])}">${name}</a> `;
            },
          )}`,
    ],
  ];
  const headers = Object.entries(item.headers);
  return {
    title: `Webhook from ${source}`,
    at: 'webhooks',
    body: html`<p class="crumbs"><a href="${link(view, ['webhooks'])}">Webhooks</a> / <a href="${link(view, ['webhooks'], { agent })}">${agent}</a></p>
<h1 class="title">From ${source}</h1>
<section class="card"><dl class="facts">${facts.map(([name, value]) => (value === undefined ? '' : html`<div><dt>${name}</dt><dd>${value}</dd></div>`))}</dl></section>
${headers.length === 0 ? '' : html`<section class="card"><h2>Headers</h2><table class="plain"><tbody>${headers.map(([name, value]) => html`<tr><th scope="row" class="cut">${name}</th><td class="cut">${value}</td></tr>`)}</tbody></table></section>`}
<section class="card"><h2>Payload</h2>${payload(item)}</section>`,
  };
}

function payload({ payloadText, encoding }: ShownItem): Html {
  if (encoding === 'base64')
    return html`<p class="left">Neither text nor a form: ${formatBytes(Math.floor((payloadText.length * 3) / 4))}, not shown.</p>`;
  const shown = payloadText.length <= mostPayload ? readable(payloadText) : payloadText.slice(0, mostPayload);
  return html`<pre class="json" dir="auto">${shown}</pre>${payloadText.length > mostPayload ? html`<p class="left">Cut here; ${formatBytes(Buffer.byteLength(payloadText))} in all.</p>` : ''}`;
}

const mostLevels = 100;

/** JSON with its lines; as it was sent where a number is one that JavaScript would change, or it is nested too deep. */
function readable(text: string): string {
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  if (/\d{16}|\d[eE]|\.\d{15}/.test(bare) || nestedDeeper(text, mostLevels)) return text;
  const value: unknown = JSON.parse(text);
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}
