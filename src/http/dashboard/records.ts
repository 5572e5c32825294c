import { nestedDeeper } from '../../exactjson.ts';
import { formatBytes, formatCount } from '../../format.ts';
import { type Call, callOf, isObject, type Json, oddities, type Oddity } from '../../usagerecord.ts';
import { dollars, short } from './figures.ts';
import { html, type Html } from './html.ts';
import type { Line } from './lines.ts';

/** The most characters of one text that are shown. */
const mostText = 20_000;
/** JSON of no more characters is shown on one line. */
const oneLine = 100;
/** The most of what a record holds beside its text. */
const mostOther = 6_000;
const mostParts = 200;
const mostLevels = 200;

/** One line of a transcript for people. Whatever it holds is shown as text, and what is left out is said. */
export function showRecord(line: Line, time: (iso: string) => Html): Html {
  const record = line.text === undefined ? undefined : parse(line.text);
  if (record === undefined) return frame('odd', 'Not readable', undefined, line, html`${unreadable(line)}`);
  const at = typeof record['timestamp'] === 'string' ? time(record['timestamp']) : undefined;
  const type = textOf(record['type']) ?? 'no type';
  const { message } = record;
  if (type === 'message' && isObject(message)) return showMessage(record, message, at, line);
  switch (type) {
    case 'session':
      return frame('small', 'Session', at, line, facts(record, ['id', 'version', 'cwd', 'parentSession']));
    case 'model_change':
      return frame('small', 'Model', at, line, facts(record, ['provider', 'modelId']));
    case 'thinking_level_change':
      return frame('small', 'Thinking level', at, line, facts(record, ['thinkingLevel']));
    case 'compaction':
    case 'branch_summary':
      return frame(
        'small',
        type === 'compaction' ? 'Compaction' : 'Branch summary',
        at,
        line,
        html`${text(record['summary'])}${other(without(record, ['summary']))}`,
      );
    case 'custom_message':
      return frame(
        'note',
        `Custom message ${textOf(record['customType']) ?? ''}`,
        at,
        line,
        html`${content(record['content'])}${other(without(record, ['content', 'customType']))}`,
      );
    case 'custom':
      return frame(
        'small',
        `Custom ${textOf(record['customType']) ?? ''}`,
        at,
        line,
        other(without(record, ['customType'])),
      );
    case 'label':
    case 'session_info':
    case 'reset':
    case 'leaf':
      return frame('small', type, at, line, other(record));
    default:
      return frame('odd', `Unknown record: ${type}`, at, line, other(record));
  }
}

const roles: Record<string, [kind: string, title: string]> = {
  user: ['user', 'User'],
  assistant: ['assistant', 'Assistant'],
  toolResult: ['tool', 'Tool result'],
  custom: ['note', 'Custom'],
  system: ['note', 'System'],
};

function showMessage(record: Json, message: Json, at: Html | undefined, line: Line): Html {
  const role = textOf(message['role']) ?? 'no role';
  const [kind, title] = roles[role] ?? ['odd', `Unknown role: ${role}`];
  const name = role === 'toolResult' ? ` of ${textOf(message['toolName']) ?? 'an unnamed tool'}` : '';
  const failed = message['isError'] === true ? html`<span class="warned">failed</span>` : '';
  const body = html`${failed}${content(message['content'])}${costOf(record, message)}`;
  return frame(message['isError'] === true ? `${kind} failed` : kind, `${title}${name}`, at, line, body);
}

/** Tokens and recorded cost of a call, as the ledger reads them. */
function costOf(record: Json, message: Json): Html {
  if (message['role'] !== 'assistant') return html``;
  const odd: Oddity[] = [];
  const call: Call | undefined = callOf(record, (one) => odd.push(one));
  const stop = textOf(message['stopReason']);
  const failure = textOf(message['errorMessage']);
  const notes = [...new Set(odd)].map((one) => html` <span class="warned">${oddities[one]}</span>`);
  if (call === undefined)
    return html`<p class="call">${textOf(message['model']) ?? ''}${stop === undefined ? '' : ` · ${stop}`} · not counted as a call${notes}</p>${failure === undefined ? '' : html`<p class="warned">${cut(failure, mostOther)}</p>`}`;
  const counts: [string, number][] = [
    ['input', call.input],
    ['output', call.output],
    ['cache read', call.cacheRead],
    ['cache write', call.cacheWrite],
  ];
  return html`<p class="call"><span class="model">${call.provider === '' ? '' : `${call.provider}/`}${call.model === '' ? 'unknown' : call.model}</span>${counts
    .filter(([, count]) => count > 0)
    .map(
      ([name, count]) => html` · <span title="${formatCount(count)}">${short(count)}</span> ${name}`,
    )} · <b>${call.cost === undefined ? 'no cost recorded' : dollars(call.cost / 1e9)}</b>${stop === undefined || stop === 'stop' || stop === 'toolUse' ? '' : ` · ${stop}`}${notes}</p>${failure === undefined ? '' : html`<p class="warned">${cut(failure, mostOther)}</p>`}`;
}

function content(value: unknown): Html {
  if (value === undefined || value === null) return html``;
  if (typeof value === 'string') return text(value);
  if (!Array.isArray(value)) return other(value);
  const parts: unknown[] = value;
  return html`${parts.slice(0, mostParts).map(part)}${parts.length > mostParts ? html`<p class="left">${formatCount(parts.length - mostParts)} more parts are not shown.</p>` : ''}`;
}

function part(value: unknown): Html {
  if (!isObject(value)) return other(value);
  switch (value['type']) {
    case 'text':
      return text(value['text']);
    case 'thinking':
      return html`<details class="thinking"><summary>Thinking</summary>${text(value['thinking'])}</details>`;
    case 'toolCall':
    case 'tool_call':
    case 'tool_use':
      return toolCall(value);
    case 'image':
      return image(value);
    default:
      return html`<p class="left">Part of an unknown kind: ${textOf(value['type']) ?? 'none'}</p>${other(value)}`;
  }
}

function toolCall(value: Json): Html {
  const given = value['arguments'] ?? value['input'];
  const name = textOf(value['name']) ?? 'an unnamed tool';
  // Since 2026.9 most tools go through one; which it is stands in the arguments.
  const real = name === 'tool_call' && isObject(given) ? textOf(given['id']) : undefined;
  return html`<div class="toolcall"><p><span class="toolname">${real ?? name}</span>${real === undefined ? '' : html` <span class="quiet">by tool_call</span>`}</p>${other(given)}</div>`;
}

/** Its kind and size: an image in a transcript may be anything, and none is shown. */
function image(value: Json): Html {
  const source = isObject(value['source']) ? value['source'] : value;
  const data = textOf(source['data']) ?? textOf(value['data']) ?? '';
  const kind = textOf(source['mimeType']) ?? textOf(source['media_type']) ?? 'unknown type';
  return html`<p class="left">Image, ${cut(kind, 80)}, ${formatBytes(Math.floor((data.length * 3) / 4))}: not shown.</p>`;
}

function text(value: unknown): Html {
  const said = textOf(value);
  if (said === undefined) return value === undefined ? html`` : other(value);
  return said === '' ? html`` : html`<pre class="text" dir="auto">${cut(said, mostText)}</pre>`;
}

/** Anything else as JSON, with long texts in it cut. */
function other(value: unknown): Html {
  if (value === undefined || (isObject(value) && Object.keys(value).length === 0)) return html``;
  const brief = (_: string, inner: unknown): unknown =>
    typeof inner === 'string' && inner.length > mostOther ? cut(inner, mostOther / 4) : inner;
  const plain = JSON.stringify(value, brief) ?? '';
  const written = plain.length <= oneLine ? plain : JSON.stringify(value, brief, 1);
  return html`<pre class="json">${cut(written, mostOther)}</pre>`;
}

function facts(record: Json, names: readonly string[]): Html {
  const known = names.flatMap((name) => {
    const value = record[name];
    return value === undefined || value === null
      ? []
      : [[name, typeof value === 'string' ? value : JSON.stringify(value)]];
  });
  return html`<p class="facts">${known.map(([name, value]) => html`<span><span class="quiet">${name}</span> ${cut(value ?? '', 1000)}</span> `)}</p>`;
}

/** The record's own fields that are shown elsewhere left out. */
function without(record: Json, names: readonly string[]): Json {
  const hidden = new Set(['type', 'id', 'parentId', 'timestamp', ...names]);
  return Object.fromEntries(Object.entries(record).filter(([name]) => !hidden.has(name)));
}

function frame(kind: string, title: string, at: Html | undefined, line: Line, body: Html): Html {
  const size = line.length >= 65_536 ? html` · ${formatBytes(line.length)}` : '';
  return html`<article class="record ${kind}" id="at-${line.at}"><header><h3>${cut(title, 120)}</h3><span class="quiet">${at ?? ''}${size} <a class="anchor" href="#at-${line.at}" title="Begins at byte ${line.at}">#</a></span></header>${body}</article>
`;
}

function unreadable(line: Line): Html {
  const why =
    line.text === undefined
      ? 'This line is too long to be shown whole'
      : 'This line is no JSON object that can be shown';
  return html`<p class="left">${why}: ${formatBytes(line.length)}${line.length > line.start.length ? ', its beginning is' : ''}</p><pre class="json">${cut(line.start, mostOther / 3)}</pre>`;
}

function cut(said: string, most: number): string {
  if (said.length <= most) return said;
  // Not between the halves of one character.
  const end = /[\ud800-\udbff]/.test(said.charAt(most - 1)) ? most - 1 : most;
  return `${said.slice(0, end)}\n… cut here; ${formatBytes(Buffer.byteLength(said))} in all`;
}

/** `undefined` also for what is nested deeper than can be written again. */
function parse(line: string): Json | undefined {
  try {
    if (nestedDeeper(line, mostLevels)) return undefined;
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
