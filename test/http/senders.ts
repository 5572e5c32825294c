import { createHmac } from 'node:crypto';
import type { InjectOptions } from 'fastify';
import type { Item, Webhooks } from '../../src/mailbox.ts';
import type { Settings } from './nouns.ts';

/** A secret of no meaning. */
export const secret = "It's a Secret to Everybody";

/** One agent, `main`, with these sources. */
export function sources(known: NonNullable<Settings[string]>['sources']): Settings {
  return { main: { sources: known } };
}

/** What a sender posts for `main`. */
export function post(
  source: string,
  payload: string | Buffer = '{}',
  headers: Record<string, string> = {},
): InjectOptions {
  return {
    method: 'POST',
    url: `/api/webhook/main?source=${source}`,
    payload,
    headers: { 'content-type': 'application/json', ...headers },
  };
}

/** What GitHub sends, signed. */
export function fromGitHub(payload: string | Buffer, headers: Record<string, string> = {}): InjectOptions {
  const signature = createHmac('sha256', secret).update(payload).digest('hex');
  return post('github', payload, { 'x-hub-signature-256': `sha256=${signature}`, ...headers });
}

/** What Slack sends, signed now. */
export function fromSlack(payload: string, now = new Date()): InjectOptions {
  const time = String(Math.floor(now.getTime() / 1000));
  const signature = createHmac('sha256', secret).update(`v0:${time}:${payload}`).digest('hex');
  return post('slack', payload, {
    'x-slack-request-timestamp': time,
    'x-slack-signature': `v0=${signature}`,
  });
}

export async function pendingOf(webhooks: Webhooks): Promise<Item[]> {
  return (await webhooks.pending({ agents: '*' })).items;
}
