import { setTimeout as pause } from 'node:timers/promises';
import type { Notice } from '../alerts.ts';
import { NexusError } from '../errors.ts';
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
          hint: hints[response.status] ?? 'Look at the URL of this channel in `alerts.channels`.',
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

const hints: Record<number, string> = {
  401: 'Look at the token of this channel in `alerts.channels`.',
  403: 'Look at the token of this channel in `alerts.channels`.',
  404: 'The receiver does not know this URL any more; make a new one there.',
};

/** Node's fetch refuses a URL with a user in it, and says the URL in its error. */
export function addressOf(text: string): { address: URL; headers: Record<string, string> } {
  const address = URL.parse(text);
  if (address === null || !/^https?:$/.test(address.protocol))
    throw new NexusError('config', 'The secret that names a URL holds no http or https URL.');
  const { username, password } = address;
  if (username === '' && password === '') return { address, headers: {} };
  address.username = '';
  address.password = '';
  const basic = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString(
    'base64',
  );
  return { address, headers: { authorization: `Basic ${basic}` } };
}

export function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : 'network error';
}

const json = { 'content-type': 'application/json' };

interface Request {
  headers: Record<string, string>;
  body: string;
}

function requestOf(format: Webhook['format'], notice: Notice, id: string): Request {
  const { event, title } = notice;
  const body = bodyOf(notice);
  const requests: Record<Webhook['format'], () => Request> = {
    json: () => ({
      headers: { ...json, 'idempotency-key': keyOf(id) },
      body: JSON.stringify(objectOf(notice, id)),
    }),
    slack: () => {
      const text = cut(`${signs[event]} *${escaped(title)}*\n${escaped(body)}`, 3000);
      return { headers: json, body: JSON.stringify({ text }) };
    },
    discord: () => {
      const content = cut(`${marks[event]} **${title}**\n${body}`, 2000);
      return { headers: json, body: JSON.stringify({ content, allowed_mentions: { parse: [] } }) };
    },
    ntfy: () => ({
      headers: {
        'content-type': 'text/plain; charset=utf-8',
        title: headerText(cut(title, 200)),
        priority: event === 'failed' ? 'high' : 'default',
        tags: tags[event],
      },
      // Above 4096 bytes ntfy makes an attachment of it.
      body: cut(body || textOf(notice), 1300),
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

/** A header carries ASCII; ntfy reads other text as RFC 2047 writes it. */
export function headerText(text: string): string {
  const line = text.replace(/[\r\n]+/g, ' ');
  return /^[\x20-\x7e]*$/.test(line) ? line : `=?UTF-8?B?${Buffer.from(line).toString('base64')}?=`;
}

function keyOf(id: string): string {
  return id.replace(/[^\x21-\x7e]/g, '_');
}
