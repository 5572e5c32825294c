import { messageOf, NexusError } from './errors.ts';
import { visible } from './format.ts';

/** How much is logged: entries of the level that is set, and of those before it. */
export const levels = ['error', 'warn', 'info', 'debug'] as const;
export type Level = (typeof levels)[number];

/** `text`: sentences for people, and under journald a priority and `key=value`; `json`: one object a line. */
export const formats = ['text', 'json'] as const;
export type Format = (typeof formats)[number];

export interface LogSettings {
  level?: Level | undefined;
  format?: Format | undefined;
}

/** What of these says something; what is wrong with the rest is for the configuration to tell. */
export function logIn(level: unknown, format: unknown): LogSettings {
  return { level: levels.find((one) => one === level), format: formats.find((one) => one === format) };
}

/**
 * What an entry can be about: few names, the same everywhere, and what README says of them. Never a secret, a payload
 * or text of a transcript; of what a stranger sends only what is configured.
 */
export const factNames = {
  job: 'the command that runs',
  agent: 'by its id in OpenClaw; in the log of `serve` by its id in Nexus',
  item: 'the place of a transcript, the id of a webhook item, of a message, of an agent as a whole',
  source: 'of a webhook',
  ok: 'whether a run went well',
  code: 'what went wrong, in one word: `unavailable`, `forbidden`, `internal` (a bug) …',
  reason: 'the same in a sentence, where the message is another',
  next: 'what to do about it',
  stored: 'transcripts that got bytes',
  delivered: 'webhook items put into the inbox',
  already: 'transcripts or items that were there before',
  skipped: 'transcripts that were not to be shipped',
  moved: 'files moved to `archive/`',
  told: 'messages that an agent was told',
  untold: 'messages that were not taken',
  failed: 'transcripts, items or problems',
  setAside: 'items that are tried no more until `nexus retry`',
  bytes: 'stored; of a request its body, of a GET the body of the answer',
  ms: 'how long it took; of a request that is tried again the pause before',
  attempt: 'which try comes now',
  subject: 'of an alert: `job/upload`, `unit/nexus-serve.service`',
  event:
    'of an alert `failed`, `recovered` or, of spending, `warning`; of a heartbeat `start`, `well`, `fail` or `log`',
  channel: 'of an alert, as `nexus alerts list` names it',
  request: 'the same on all entries of one request',
  method: 'of a request',
  route: "of a request, without its names and query: they could be a sender's secret",
  status: 'of the answer; without one the caller was gone before it',
  key: "the name of the caller's key",
  stack: 'of a bug; under journald in lines of its own that begin with spaces',
} as const;

export type Facts = {
  [name in Exclude<keyof typeof factNames, 'stack'>]?: string | number | boolean | undefined;
} & { stack?: string | undefined };

/** One sentence and what it is about. */
export type Say = (text: string, facts?: Facts) => void;

export interface Entry {
  level: Level;
  message: string;
  facts?: Facts;
  /** The line for people, where it is not the message. */
  shown?: string;
}

/** As journald reads them from the beginning of a line. */
export const priorities: Record<Level, string> = { error: '<3>', warn: '<4>', info: '<6>', debug: '<7>' };

/** journald breaks lines at 48 KiB, and what comes after would be an entry of its own, without a priority. */
const longestValue = 4000;

/**
 * An entry for the journal, without its newline: `<4>message="…" job=upload agent=main`. The sentence is a field as
 * the others are, and the first: a reader finds it at the same place in each line, `journalctl -g` and `grep` find
 * `item=main.0mwt6` in it, and what takes logfmt (lnav, Loki's `| logfmt`) takes the whole line. The level is its
 * priority, so that `journalctl -p warning` works. A stack follows in lines of the same priority that begin with
 * spaces, which no entry does.
 */
export function journalLine({ level, message, facts = {} }: Entry): string {
  const { stack, ...others } = facts;
  const fields = Object.entries({ message, ...others }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${logfmtValue(value)}`],
  );
  const lines = [fields.join(' '), ...framesIn(stack).map((line) => `  ${visible(line)}`)];
  return lines.map((line) => priorities[level] + line).join('\n');
}

/** An entry as one object on one line, without its newline. No fact has the name of what comes before it. */
export function jsonEntry({ level, message, facts = {} }: Entry, time: Date): string {
  const cut = Object.fromEntries(
    Object.entries(facts).map(([name, value]) => [
      name,
      typeof value === 'string' ? short(value, name) : value,
    ]),
  );
  return escaped(
    JSON.stringify({ ...cut, time: time.toISOString(), level, message: short(message) }, [
      'time',
      'level',
      'message',
      ...Object.keys(cut),
    ]),
  );
}

/** The lines below the first of a stack. */
export function framesIn(stack: string | undefined): string[] {
  return (stack ?? '').split('\n').filter((line) => /^\s+at |^caused by /.test(line));
}

/** The sentence of a line in the journal; a line that is not ours as it is; `undefined` for one of a stack. */
export function sentenceIn(line: string): string | undefined {
  if (line.startsWith('  ')) return undefined;
  const [, text] = /^message=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)/.exec(line) ?? [];
  if (text === undefined) return line;
  if (!text.startsWith('"')) return text;
  try {
    return String(JSON.parse(text));
  } catch {
    // It only looked like one of ours.
    return line;
  }
}

/** What an entry in the journal says, by name and with its `message`, of either format; nothing of a line of others. */
export function factsIn(line: string): Record<string, string> {
  try {
    const entries: [string, unknown][] = line.startsWith('{')
      ? Object.entries(JSON.parse(line))
      : [...line.matchAll(/([a-zA-Z]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)/gy)].map(
          ([, name = '', text = '']) => [name, text.startsWith('"') ? JSON.parse(text) : text],
        );
    return Object.fromEntries(entries.map(([name, value]) => [name, String(value)]));
  } catch {
    // It only looked like one of ours.
    return {};
  }
}

/** A bug, told: its sentence, and its stack as a fact. */
export function bug(error: unknown): [text: string, facts: Facts & { stack: string }] {
  const stack = stackOf(error);
  const [first = ''] = stack.split('\n', 1);
  return [`internal error: ${first}`, { code: 'internal', stack }];
}

/** What an entry about a failure says of it: `internal` for a bug. */
export function codeIn(error: unknown): string {
  return error instanceof NexusError ? error.code : 'internal';
}

const mostCauses = 3;

/** A stack whose messages quote nothing: JSON's parser and HTTP's headers quote what they were given. */
function stackOf(error: unknown, depth = 0): string {
  if (!(error instanceof Error)) return `thrown: ${typeof error}`;
  const name = error.constructor.name === '' ? 'Error' : error.constructor.name;
  const message = error instanceof NexusError ? error.message : messageOf(error);
  // A message of several lines could look like a line of the stack.
  const frames = (error.stack ?? '').replace(error.message, '').split('\n');
  const code = 'code' in error && typeof error.code === 'string' ? ` (${error.code})` : '';
  return [
    `${name}: ${message.replace(/\s+/g, ' ')}${code}`,
    ...frames.filter((line) => /^\s+at /.test(line)),
    ...(error.cause === undefined || depth >= mostCauses
      ? []
      : [`caused by ${stackOf(error.cause, depth + 1)}`]),
  ].join('\n');
}

function logfmtValue(value: string | number | boolean): string {
  const text = short(String(value));
  // What needs no quotes is what no reader of logfmt takes for anything else.
  return /^[^\s"=\\\p{C}\p{Z}]+$/u.test(text) ? text : escaped(JSON.stringify(text));
}

function short(text: string, name?: string): string {
  const most = name === 'stack' ? 4 * longestValue : longestValue;
  return text.length <= most ? text : `${text.slice(0, most).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** JSON with what could control a terminal written as JSON allows. */
export function escaped(json: string): string {
  return json.replace(
    /[\u007f-\u009f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
