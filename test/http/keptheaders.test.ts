import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { keptHeaders, maxKeptHeaders } from '../../src/http/keptheaders.ts';

const kept = [
  'user-agent',
  'content-encoding',
  'x-github-event',
  'x-github-delivery',
  'x-github-hook-id',
  'x-github-hook-installation-target-id',
  'x-gitlab-event',
  'x-gitlab-event-uuid',
  'x-gitlab-webhook-uuid',
  'x-shopify-topic',
  'x-shopify-webhook-id',
  'x-shopify-shop-domain',
  'webhook-id',
  'webhook-timestamp',
  'svix-id',
  'linear-event',
  'linear-delivery',
  'idempotency-key',
  'x-idempotency-key',
  'i-twilio-idempotency-token',
  'x-event-key',
  'x-slack-request-timestamp',
  'x-slack-retry-num',
  'x-request-id',
  'stripe-version',
];

const credentials = [
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'x-hub-signature',
  'x-hub-signature-256',
  'stripe-signature',
  'x-slack-signature',
  'webhook-signature',
  'svix-signature',
  'linear-signature',
  'x-twilio-signature',
  'x-gitlab-token',
  'x-telegram-bot-api-secret-token',
  'x-shopify-hmac-sha256',
  'shopify-hmac-sha256',
  'x-webhook-secret',
  'x-functions-key',
  'x-api-key',
  'api-key',
  'apikey',
  'aeg-sas-key',
  'aeg-sas-token',
  'ocp-apim-subscription-key',
  'x-goog-channel-token',
  'x-amz-security-token',
  'x-auth-request-user',
  'x-password',
  'x-pass',
  'x-otp',
  'apikey1',
  'x-shared-key-id',
  'x-ms-key-1',
  'paypal-transmission-sig',
  'x-trello-webhook',
  'x-csrf-token',
  'x-session-id',
  'dpop',
];

const onTheWay = [
  'host',
  'connection',
  'content-length',
  'content-type',
  'transfer-encoding',
  'accept',
  'accept-encoding',
  'via',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-real-ip',
  'cf-connecting-ip',
  'cf-ray',
  'cdn-loop',
  'x-azure-ref',
  'x-arr-log-id',
  'x-original-url',
  'traceparent',
  'tracestate',
  'sec-fetch-site',
  'origin',
  'expect',
];

test.each(kept)('%s says who sent it, and is kept', (name) => {
  expect(keptHeaders({ [name]: 'v' })).toEqual({ [name]: 'v' });
});

test.each([...credentials, ...onTheWay])('%s is not kept', (name) => {
  expect(keptHeaders({ [name]: 'v' })).toEqual({});
});

test('what the configuration names is not kept', () => {
  expect(keptHeaders({ 'x-proof': 'v', 'x-topic': 'v' }, ['x-proof'])).toEqual({ 'x-topic': 'v' });
});

test('what is repeated is joined', () => {
  expect(keptHeaders({ 'x-topic': ['a', 'b'] })).toEqual({ 'x-topic': 'a, b' });
});

test('a header called like a part of every object is one like the others', () => {
  const headers: Record<string, string> = Object.fromEntries([['__proto__', 'v']]);
  expect(JSON.stringify(keptHeaders(headers))).toBe('{"__proto__":"v"}');
});

test('however much is sent, what is kept fits, and is what was sent', () => {
  const name = fc.stringMatching(/^x-[a-z]{1,8}$/);
  const value = fc.string({ maxLength: 6000, unit: fc.constantFrom('"', '\\', 'a', '\u00e9', '\t') });
  fc.assert(
    fc.property(fc.dictionary(name, value, { maxKeys: 30 }), (headers) => {
      const result = keptHeaders(headers);
      expect(JSON.stringify(result).length).toBeLessThanOrEqual(maxKeptHeaders);
      for (const [field, text] of Object.entries(result)) expect(text).toBe(headers[field]);
    }),
    { numRuns: 50 },
  );
});

test('one that is too long leaves room for the others', () => {
  const headers = { 'x-long': 'x'.repeat(maxKeptHeaders), 'x-topic': 'v' };
  expect(keptHeaders(headers)).toEqual({ 'x-topic': 'v' });
});
