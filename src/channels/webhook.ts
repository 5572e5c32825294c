import { setTimeout as pause } from 'node:timers/promises';
import type { Notice } from '../alerts.ts';
import { NexusError } from '../errors.ts';
import { addressOf, codeOf } from './address.ts';
import { bodyOf, cut, objectOf, textOf } from './text.ts';

export interface Webhook {
  /** Secret: whoever has it can write there. */
  url: string;
  format: 'json' | 'slack' | 'discord' | 'ntfy';
  token?: string | undefined;
  /** Injected for tests. */
  timeoutMs?: number;
  pauseMs?: number;
}

const tries = 3;
const longestPauseMs = 5_000;

/**
 * Posts a notice, up to three times where a further try may help. Resolves with what the receiver answered. Throws
 * `unavailable` or `invalid` in a sentence that names the receiver's host and never the URL.
 */
export async function postNotice(
  webhook: Webhook,
  notice: Notice,
  id: string,
  signal: AbortSignal,
): Promise<string> {
  const { address, headers } = addressOf(webhook.url);
  if (webhook.token !== undefined && !/^[\x21-\x7e]+$/.test(webhook.token))
    throw new NexusError(
      'config',
      'The token of this channel holds what no header can carry, as a space or a line break.',
    );
  // Without it Discord says 204 of what it then does not keep (discord.com/developers: Execute Webhook).
  if (webhook.format === 'discord') address.searchParams.set('wait', 'true');
  const request = requestOf(webhook.format, notice, id);
  const bearer = webhook.token === undefined ? {} : { authorization: `Bearer ${webhook.token}` };
  for (let attempt = 1; ; attempt++) {
    const last = attempt === tries;
    const timeout = AbortSignal.timeout(webhook.timeoutMs ?? 10_000);
    let waitMs = (webhook.pauseMs ?? 500) * 2 ** attempt;
    try {
      const response = await fetch(address, {
        method: 'POST',
        headers: { 'user-agent': 'nexus', ...headers, ...request.headers, ...bearer },
        body: request.body,
        // Elsewhere than where the secret belongs nothing is sent.
        redirect: 'manual',
        signal: AbortSignal.any([timeout, signal]),
      });
      await response.body?.cancel();
      if (response.ok) return `${address.host} answered ${response.status}`;
      const worthAnother = response.status === 408 || response.status === 429 || response.status >= 500;
      if (!worthAnother || last)
        throw new NexusError('unavailable', `${address.host} answered ${response.status}.`, {
          hint: hints[response.status] ?? (worthAnother ? busy : wrongUrl),
        });
      const after = Number(response.headers.get('retry-after'));
      if (after > 0) waitMs = Math.min(after * 1000, longestPauseMs);
    } catch (error) {
      if (error instanceof NexusError) throw error;
      if (signal.aborted) throw new NexusError('unavailable', `${address.host} was not told in time.`);
      if (last)
        throw new NexusError(
          'unavailable',
          timeout.aborted
            ? `${address.host} did not answer in time.`
            : `${address.host} cannot be reached (${codeOf(error)}).`,
        );
    }
    // Of an abort the next request tells.
    await pause(waitMs, undefined, { signal }).catch(() => undefined);
  }
}

const wrongUrl = 'Look at the URL of this channel in `alerts.channels`.';
const busy = 'The receiver is down or overloaded; the alert is tried again.';
const elsewhere = 'It sends elsewhere, where a secret does not go: write the URL that it names.';
const gone = 'The receiver does not know this URL any more; make a new one there.';
const hints: Record<number, string> = {
  301: elsewhere,
  302: elsewhere,
  303: elsewhere,
  307: elsewhere,
  308: elsewhere,
  401: 'Look at the token of this channel in `alerts.channels`.',
  403: 'Look at the token of this channel in `alerts.channels`.',
  404: gone,
  410: gone,
};

const json = { 'content-type': 'application/json' };

interface Request {
  headers: Record<string, string>;
  body: string;
}

function requestOf(format: Webhook['format'], notice: Notice, id: string): Request {
  const { event, title } = notice;
  // What to do comes last, and is not what is to be cut.
  const body = bodyOf({
    ...notice,
    ...(notice.error === undefined ? {} : { error: cut(notice.error, 600) }),
  });
  const requests: Record<Webhook['format'], () => Request> = {
    json: () => ({
      headers: { ...json, 'idempotency-key': keyOf(id) },
      body: JSON.stringify(objectOf(notice, id)),
    }),
    slack: () => {
      // Cut first: of half an escaped character people see the escape.
      const text = `${signs[event]} *${escaped(cut(oneLine(title), 300))}*\n${escaped(cut(body, 2500))}`;
      return { headers: json, body: JSON.stringify({ text, unfurl_links: false }) };
    },
    discord: () => {
      const said = `${marks[event]} **${plain(cut(oneLine(title), 300))}**\n${plain(body)}`;
      const message = { content: cut(said, 2000), allowed_mentions: { parse: [] }, flags: noEmbeds };
      return { headers: json, body: JSON.stringify(message) };
    },
    ntfy: () => ({
      headers: {
        'content-type': 'text/plain; charset=utf-8',
        title: headerText(cut(title, 200)),
        priority: event === 'failed' ? 'high' : 'default',
        tags: tags[event],
      },
      // Above 4096 bytes ntfy makes an attachment of it.
      body: cut(body === '' ? textOf(notice) : body, 1300),
    }),
  };
  return requests[format]();
}

const signs = {
  failed: ':rotating_light:',
  recovered: ':white_check_mark:',
  warning: ':warning:',
  test: ':wave:',
} as const;
const marks = { failed: '🚨', recovered: '✅', warning: '⚠️', test: '👋' } as const;
const tags = {
  failed: 'rotating_light',
  recovered: 'white_check_mark',
  warning: 'warning',
  test: 'wave',
} as const;

/** As Slack's documentation of text asks for. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** SUPPRESS_EMBEDS of Discord's message flags: a link in an error is not to be fetched and shown. */
const noEmbeds = 4;

/** Names of files and units as they are, not as Markdown: Discord takes `_` and `*` in them for italics. */
function plain(text: string): string {
  return text
    .split(/(`[^`\n]*`|https?:\/\/\S+)/)
    .map((part, n) => (n % 2 === 1 ? part : part.replace(/[\\*_~|]/g, '\\$&')))
    .join('');
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]+/g, ' ');
}

/** A header carries ASCII; ntfy reads other text as RFC 2047 writes it. */
export function headerText(text: string): string {
  const line = oneLine(text);
  return /^[\x20-\x7e]*$/.test(line) ? line : `=?UTF-8?B?${Buffer.from(line).toString('base64')}?=`;
}

/** Another for each id: what a receiver takes for a repeat it does not show. */
function keyOf(id: string): string {
  return encodeURIComponent(id.toWellFormed()).slice(-1000);
}
