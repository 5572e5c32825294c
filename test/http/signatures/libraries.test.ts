import { parse, stringify } from 'node:querystring';
import '@shopify/shopify-api/adapters/node';
import { LinearWebhookClient } from '@linear/sdk/webhooks';
import * as github from '@octokit/webhooks-methods';
import { ApiVersion, LogSeverity, shopifyApi } from '@shopify/shopify-api';
import { isValidSlackRequest } from '@slack/bolt/dist/receivers/verify-request.js';
import * as fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { Stripe } from 'stripe';
import * as twilio from 'twilio/lib/webhooks/webhooks.js';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { verifySender } from '../../../src/http/signatures/verify.ts';
import type { Source } from '../../../src/sources.ts';
import { hmac, now, type Sent, secondsAt, signed, source } from './senders.ts';

// Two of the libraries have no clock but the machine's.
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now }));
afterEach(() => void vi.useRealTimers());

function letsIn(source: Source, secret: string, sent: Sent, body: string | Buffer): boolean {
  try {
    verifySender(source, [secret], signed(sent, Buffer.from(body)));
    return true;
  } catch {
    return false;
  }
}

function works(work: () => unknown): boolean {
  try {
    return work() !== false;
  } catch {
    return false;
  }
}

// Whole characters: the libraries take text, and half a surrogate pair has no bytes.
const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 60 });
const body = fc.oneof(text, fc.json());
const secret = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 40 });
/** Seconds ago. What is signed in the future some libraries let in, and Nexus does not. */
const age = fc.oneof(fc.integer({ min: -300, max: 300 }), fc.integer({ min: -300, max: 4000 }));
const tampering = fc.constantFrom('none', 'none', 'body', 'secret', 'cut', 'longer', 'last', 'first');
type Tampering = 'none' | 'body' | 'secret' | 'cut' | 'longer' | 'last' | 'first';

/** A signature as somebody may have changed it. */
function changed(signature: string, how: Tampering): string {
  const other = (character = ''): string => (character === '1' ? '2' : '1');
  switch (how) {
    case 'cut':
      return signature.slice(0, -1);
    case 'longer':
      return `${signature}1`;
    case 'last':
      return signature.slice(0, -1) + other(signature.at(-1));
    case 'first':
      return other(signature[0]) + signature.slice(1);
    case 'none':
    case 'body':
    case 'secret':
      break;
  }
  return signature;
}

function ago(seconds: number): Date {
  return new Date(now.getTime() - seconds * 1000);
}

const attempt = { body, secret, age, tampering };

function received(attempt: { body: string; secret: string; tampering: Tampering }) {
  return {
    body: attempt.tampering === 'body' ? `${attempt.body}x` : attempt.body,
    secret: attempt.tampering === 'secret' ? `${attempt.secret}x` : attempt.secret,
  };
}

test('github and meta let in what @octokit/webhooks-methods does, and nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(fc.record(attempt), async (one) => {
      const signature = changed(await github.sign(one.secret, one.body), one.tampering);
      const { body, secret } = received(one);
      const theirs = await github.verify(secret, body, signature);
      const headers = { 'x-hub-signature-256': signature };
      expect(letsIn(source('github'), secret, { headers }, body)).toBe(theirs);
      expect(letsIn(source('meta'), secret, { headers }, body)).toBe(theirs);
    }),
  );
});

test('stripe lets in what stripe does, and nothing else', () => {
  const { webhooks } = new Stripe('sk_test_1');
  fc.assert(
    fc.property(fc.record(attempt), fc.constantFrom('v1', 'v1', 'v0'), (one, scheme) => {
      const timestamp = Number(secondsAt(ago(one.age)));
      const payload = one.body;
      const header = changed(
        webhooks.generateTestHeaderString({ payload, secret: one.secret, timestamp, scheme }),
        // Its time, put first, is altered in the next test.
        one.tampering === 'first' ? 'last' : one.tampering,
      );
      const { body, secret } = received(one);
      // Their secret must not be blank; ours is never empty.
      const theirs =
        secret.trim() === ''
          ? letsIn(source('stripe'), secret, { headers: { 'stripe-signature': header } }, body)
          : works(() =>
              webhooks.signature?.verifyHeader(body, header, secret, 300, undefined, now.getTime()),
            );
      expect(letsIn(source('stripe'), secret, { headers: { 'stripe-signature': header } }, body)).toBe(
        theirs,
      );
    }),
  );
});

test('slack lets in what @slack/bolt does, and nothing else', () => {
  fc.assert(
    fc.property(fc.record(attempt), (one) => {
      const time = secondsAt(ago(one.age));
      const signature = hmac('sha256', one.secret, 'hex', `v0:${time}:`, one.body);
      const headers = {
        'x-slack-request-timestamp': time,
        'x-slack-signature': `v0=${changed(signature, one.tampering)}`,
      };
      const { body, secret } = received(one);
      const theirs = isValidSlackRequest({
        signingSecret: secret,
        body,
        headers: {
          'x-slack-signature': headers['x-slack-signature'],
          'x-slack-request-timestamp': Number(time),
        },
        nowMilliseconds: now.getTime(),
      });
      expect(letsIn(source('slack'), secret, { headers }, body)).toBe(theirs);
    }),
  );
});

describe.each(['standard', 'gitlab'] as const)('%s', (verify) => {
  test('lets in what standardwebhooks does, and nothing else', () => {
    const key = fc.uint8Array({ minLength: 1, maxLength: 40 });
    const bothAges = fc.integer({ min: -400, max: 400 });
    const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/);
    const marked = verify === 'gitlab' ? fc.constant(true) : fc.boolean();
    fc.assert(
      fc.property(fc.record({ ...attempt, age: bothAges, id, key, marked }), (one) => {
        const secretOf = (bytes: Uint8Array): string =>
          (one.marked ? 'whsec_' : '') + Buffer.from(bytes).toString('base64');
        const at = ago(one.age);
        const right = secretOf(one.key);
        const secret = one.tampering === 'secret' ? secretOf(Uint8Array.of(...one.key, 1)) : right;
        const { body } = received(one);
        const signature = new Webhook(right).sign(one.id, at, one.body);
        const headers = {
          'webhook-id': one.id,
          'webhook-timestamp': secondsAt(at),
          'webhook-signature': changed(signature, one.tampering),
        };
        const theirs = works(() => void new Webhook(secret).verify(body, headers, { jsonParse: false }));
        expect(letsIn(source(verify), secret, { headers }, body)).toBe(theirs);
      }),
    );
  });
});

test('shopify lets in what @shopify/shopify-api does, and nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(fc.record(attempt), async (one) => {
      const { body, secret } = received(one);
      const signature = changed(hmac('sha256', one.secret, 'base64', one.body), one.tampering);
      const about = {
        'X-Shopify-Topic': 'orders/create',
        'X-Shopify-Shop-Domain': 'a.myshopify.com',
        'X-Shopify-API-Version': '2026-07',
        'X-Shopify-Webhook-Id': '1',
      };
      const shopify = shopifyApi({
        apiKey: 'key',
        apiSecretKey: secret,
        apiVersion: ApiVersion.July26,
        hostName: 'nexus.example',
        isEmbeddedApp: false,
        scopes: [],
        logger: { level: LogSeverity.Error },
      });
      const answer = await shopify.webhooks.validate({
        rawBody: body,
        rawRequest: { method: 'POST', url: '/', headers: { ...about, 'X-Shopify-Hmac-Sha256': signature } },
      });
      const headers = { 'x-shopify-hmac-sha256': signature };
      expect(letsIn(source('shopify'), secret, { headers }, body)).toBe(answer.valid);
    }),
  );
});

test('linear lets in what @linear/sdk does, and nothing else', () => {
  const bothAges = fc.integer({ min: -90_000, max: 90_000 });
  const time = fc.oneof(
    bothAges.map((age) => now.getTime() - age),
    fc.constantFrom(undefined, null, 'now', '1'),
  );
  fc.assert(
    fc.property(fc.record({ ...attempt, time, more: fc.jsonValue() }), (one) => {
      const payload = JSON.stringify({ more: one.more, webhookTimestamp: one.time });
      const { body, secret } = received({ ...one, body: payload });
      const signature = changed(hmac('sha256', one.secret, 'hex', payload), one.tampering);
      const client = new LinearWebhookClient(secret);
      const theirs = works(() => client.verify(Buffer.from(body), signature));
      expect(letsIn(source('linear'), secret, { headers: { 'linear-signature': signature } }, body)).toBe(
        theirs,
      );
    }),
  );
});

describe('twilio', () => {
  const host = fc.constantFrom(
    'example.com',
    'user:pass@example.com',
    '[::1]',
    'EXAMPLE.com',
    'münchen.example',
  );
  const port = fc.constantFrom('', ':443', ':80', ':8443');
  const path = fc.constantFrom('', '/', "/it's here", '/a/b;c', '/%7Eme/é');
  const query = fc.constantFrom('', '?', '?a=1&b=2', "?q=it's", '?a=1&a=2', '?x=%20+y', '?z');
  const url = fc
    .tuple(fc.constantFrom('https://', 'http://', 'HTTPS://'), host, port, path, query)
    .map((parts) => parts.join(''));
  const fields = fc.dictionary(
    fc.string({ minLength: 1 }),
    fc.oneof(fc.string(), fc.array(fc.string(), { minLength: 2 })),
  );

  function other(url: string, how: 'same' | 'port' | 'no port' | 'parsed' | 'escaped' | 'longer'): string {
    switch (how) {
      case 'port':
        return url.replace(/^(https?:\/\/[^/?]*)/i, '$1:443');
      case 'no port':
        return url.replace(/:\d+(?=[/?]|$)/, '');
      case 'parsed':
        return new URL(url).toString();
      case 'escaped':
        return new URL(url)
          .toString()
          .replace(/\?(.+)$/, (_, query: string) => `?${stringify(parse(query))}`);
      case 'longer':
        return `${url}x`;
      case 'same':
        break;
    }
    return url;
  }
  const spelling = fc.constantFrom('same', 'port', 'no port', 'parsed', 'escaped', 'longer');

  test('a form is let in when twilio does, and never else, however the URL is written', () => {
    fc.assert(
      fc.property(fc.record({ ...attempt, url, fields, spelling }), (one) => {
        const signature = changed(
          twilio.getExpectedTwilioSignature(one.secret, other(one.url, one.spelling), one.fields),
          one.tampering,
        );
        const { secret } = received(one);
        const entries = Object.entries(one.fields).flatMap(([name, value]) =>
          [value].flat().map((value): [string, string] => [name, value]),
        );
        const body = new URLSearchParams(entries).toString();
        const theirs = twilio.validateRequest(secret, signature, one.url, one.fields);
        const headers = {
          'content-type': 'application/x-www-form-urlencoded',
          'x-twilio-signature': signature,
        };
        expect(letsIn(source('twilio'), secret, { headers, url: one.url }, body)).toBe(theirs);
      }),
      { numRuns: 300 },
    );
  });

  test('a JSON body is let in when twilio does, and never else', () => {
    fc.assert(
      fc.property(fc.record({ ...attempt, url }), (one) => {
        const { body, secret } = received(one);
        const url = new URL(one.url);
        url.searchParams.set('bodySHA256', twilio.getExpectedBodyHash(one.body));
        const called = url.toString();
        const signature = changed(twilio.getExpectedTwilioSignature(one.secret, called, {}), one.tampering);
        const theirs = twilio.validateRequestWithBody(secret, signature, called, body);
        const headers = { 'content-type': 'application/json', 'x-twilio-signature': signature };
        expect(letsIn(source('twilio'), secret, { headers, url: called }, body)).toBe(theirs);
      }),
    );
  });
});
