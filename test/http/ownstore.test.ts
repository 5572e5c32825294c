import type { InjectOptions } from 'fastify';
import { expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { openEndpoint } from './endpoint.ts';

const refused = () => Promise.reject(new NexusError('forbidden', 'The account key is wrong.'));
async function* refusedListing() {
  yield await refused();
}

test.each<[string, InjectOptions]>([
  ['HEAD a transcript', { method: 'HEAD', url: '/api/sessions/main/x' }],
  ['list transcripts', { url: '/api/sessions' }],
  ['receive a webhook', { method: 'POST', url: '/api/webhook/main?source=x', payload: 'x' }],
  ['list items', { url: '/api/webhook/items' }],
  ['fetch what is pending', { url: '/api/webhook/pending' }],
])(
  'to %s of a store that refuses the endpoint’s credentials is 503, not a refusal of the caller',
  async (_, request) => {
    const { app, log } = await openEndpoint({
      over: (sessions) => ({ ...sessions, stat: refused, list: refusedListing }),
      overWebhooks: (webhooks) => ({
        ...webhooks,
        receive: refused,
        pending: refused,
        list: refusedListing,
      }),
    });
    const answer = await app.inject(request);
    expect([answer.statusCode, answer.headers['nexus-error']]).toEqual([503, 'unavailable']);
    expect(answer.body).not.toContain('account key');
    expect(log.join('')).toContain('The account key is wrong.');
  },
);
