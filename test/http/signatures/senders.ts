import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { NexusError } from '../../../src/errors.ts';
import { type Signed, verifySender } from '../../../src/http/signatures/verify.ts';
import { type Source, sourceSchema, type Verification } from '../../../src/sources.ts';

export const now = new Date('2026-11-23T10:00:00.250Z');

/** What a sender sends, apart from the body. */
export interface Sent {
  headers: IncomingHttpHeaders;
  query?: Record<string, unknown>;
  url?: string;
}

/** How one sender proves itself, made here from what its vendor's documentation says. */
export interface Sender {
  source: Source;
  secrets: { right: string; wrong: string };
  body: Buffer;
  /** False where only a token is sent: then any body is let in. */
  overBody: boolean;
  /** The seconds that a signed time may be off; absent where none is signed. */
  window?: number;
  sign(secret: string, body: Buffer, at: Date): Sent;
  /** Puts a time into what is signed, where it is in the body. */
  bodyAt?(at: Date): Buffer;
}

export function source(verify: Verification, more: object = {}): Source {
  return sourceSchema.parse({ verify, secret: 'in the configuration', ...more });
}

export function hmac(
  algorithm: string,
  key: string | Buffer,
  encoding: 'hex' | 'base64',
  ...parts: (string | Buffer)[]
): string {
  const all = parts.map((part) => Buffer.from(part));
  return createHmac(algorithm, key).update(Buffer.concat(all)).digest(encoding);
}

export function secondsAt(at: Date): string {
  return String(Math.floor(at.getTime() / 1000));
}

export function signed(sent: Sent, body: Buffer, at: Date = now): Signed {
  return { headers: sent.headers, query: sent.query ?? {}, url: sent.url ?? '', body, now: at };
}

/** Why it was refused; `undefined` when it was let in. Anything else that is thrown fails the test. */
export function refusal(source: Source, secrets: readonly string[], request: Signed): string | undefined {
  try {
    verifySender(source, secrets, request);
    return undefined;
  } catch (error) {
    if (!(error instanceof NexusError) || error.code !== 'unauthorized') throw error;
    return error.message;
  }
}

const text = { right: 'the right secret', wrong: 'the wrong secret' };
const keys = {
  right: `whsec_${Buffer.from('twenty-four bytes of key').toString('base64')}`,
  wrong: `whsec_${Buffer.from('twenty-four other bytes!').toString('base64')}`,
};
const json = Buffer.from('{"id": 1, "name": "Zoë"}');

function standardHeaders(prefix: string, secret: string, body: Buffer, at: Date): IncomingHttpHeaders {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const time = secondsAt(at);
  const signature = hmac('sha256', key, 'base64', `msg_1.${time}.`, body);
  return {
    [`${prefix}-id`]: 'msg_1',
    [`${prefix}-timestamp`]: time,
    [`${prefix}-signature`]: `v1,${signature}`,
  };
}

const twilioUrl = 'https://nexus.example/api/webhook/main?source=twilio';

/** One for each way to verify, `key` and `none` apart; several where there are several. */
export const senders: Record<Exclude<Verification, 'key' | 'none'>, Record<string, Sender>> = {
  github: {
    'a signed body': {
      source: source('github'),
      secrets: text,
      body: json,
      overBody: true,
      sign: (secret, body) => ({
        headers: { 'x-hub-signature-256': `sha256=${hmac('sha256', secret, 'hex', body)}` },
      }),
    },
  },
  meta: {
    'a signed body': {
      source: source('meta'),
      secrets: text,
      body: json,
      overBody: true,
      sign: (secret, body) => ({
        headers: { 'x-hub-signature-256': `sha256=${hmac('sha256', secret, 'hex', body)}` },
      }),
    },
  },
  stripe: {
    'a signed time and body': {
      source: source('stripe'),
      secrets: { right: 'whsec_right', wrong: 'whsec_wrong' },
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => {
        const time = secondsAt(at);
        return {
          headers: { 'stripe-signature': `t=${time},v1=${hmac('sha256', secret, 'hex', `${time}.`, body)}` },
        };
      },
    },
  },
  slack: {
    'a signed time and body': {
      source: source('slack'),
      secrets: text,
      body: Buffer.from('token=xyz&text=hello+world'),
      overBody: true,
      window: 300,
      sign: (secret, body, at) => {
        const time = secondsAt(at);
        return {
          headers: {
            'x-slack-request-timestamp': time,
            'x-slack-signature': `v0=${hmac('sha256', secret, 'hex', `v0:${time}:`, body)}`,
          },
        };
      },
    },
  },
  standard: {
    'headers of Standard Webhooks': {
      source: source('standard'),
      secrets: keys,
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => ({ headers: standardHeaders('webhook', secret, body, at) }),
    },
    'headers of Svix': {
      source: source('standard'),
      secrets: keys,
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => ({ headers: standardHeaders('svix', secret, body, at) }),
    },
  },
  gitlab: {
    'a secret token': {
      source: source('gitlab'),
      secrets: text,
      body: json,
      overBody: false,
      sign: (secret) => ({ headers: { 'x-gitlab-token': secret } }),
    },
    'a signing token': {
      source: source('gitlab'),
      secrets: keys,
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => ({ headers: standardHeaders('webhook', secret, body, at) }),
    },
  },
  shopify: {
    'a signed body': {
      source: source('shopify'),
      secrets: text,
      body: json,
      overBody: true,
      sign: (secret, body) => ({
        headers: { 'x-shopify-hmac-sha256': hmac('sha256', secret, 'base64', body) },
      }),
    },
    'a signed body of Events': {
      source: source('shopify'),
      secrets: text,
      body: json,
      overBody: true,
      sign: (secret, body) => ({
        headers: { 'shopify-hmac-sha256': hmac('sha256', secret, 'base64', body) },
      }),
    },
  },
  linear: {
    'a signed body with its time': {
      source: source('linear'),
      secrets: text,
      body: Buffer.from(JSON.stringify({ action: 'create', webhookTimestamp: now.getTime() })),
      overBody: true,
      window: 60,
      sign: (secret, body) => ({ headers: { 'linear-signature': hmac('sha256', secret, 'hex', body) } }),
      bodyAt: (at) => Buffer.from(JSON.stringify({ action: 'create', webhookTimestamp: at.getTime() })),
    },
  },
  telegram: {
    'a secret token': {
      source: source('telegram'),
      secrets: { right: 'right_secret-1', wrong: 'wrong_secret-1' },
      body: json,
      overBody: false,
      sign: (secret) => ({ headers: { 'x-telegram-bot-api-secret-token': secret } }),
    },
  },
  twilio: {
    'a form': {
      source: source('twilio', { url: twilioUrl }),
      secrets: text,
      body: Buffer.from('To=%2B18005551212&From=%2B14158675309&Body=Hello+world'),
      overBody: true,
      sign: (secret, body) => {
        const fields = [...new URLSearchParams(body.toString())].map(([name, value]) => name + value);
        return {
          url: 'http://127.0.0.1:8080/api/webhook/main?source=twilio',
          headers: {
            'content-type': 'application/x-www-form-urlencoded; charset=UTF-8',
            'x-twilio-signature': hmac('sha1', secret, 'base64', twilioUrl, fields.sort().join('')),
          },
        };
      },
    },
    'a JSON body': {
      source: source('twilio', { url: twilioUrl }),
      secrets: text,
      body: json,
      overBody: true,
      sign: (secret, body) => {
        const query = `&bodySHA256=${createHash('sha256').update(body).digest('hex')}`;
        return {
          url: `http://127.0.0.1:8080/api/webhook/main?source=twilio${query}`,
          headers: {
            'content-type': 'application/json',
            'x-twilio-signature': hmac('sha1', secret, 'base64', twilioUrl + query),
          },
        };
      },
    },
  },
  hmac: {
    'a body in SHA-512 and base64': {
      source: source('hmac', {
        hmac: { header: 'X-Signature', algorithm: 'sha512', encoding: 'base64', prefix: 'hmac ' },
      }),
      secrets: text,
      body: Buffer.from([0, 255, 128, 10]),
      overBody: true,
      sign: (secret, body) => ({
        headers: { 'x-signature': `hmac ${hmac('sha512', secret, 'base64', body)}` },
      }),
    },
    'a body and a time in milliseconds': {
      source: source('hmac', {
        hmac: {
          header: 'X-Signature',
          algorithm: 'sha1',
          signed: 'v2|{body}|{timestamp}',
          timestampHeader: 'X-Time',
        },
      }),
      secrets: text,
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => {
        const time = String(at.getTime());
        return {
          headers: { 'x-time': time, 'x-signature': hmac('sha1', secret, 'hex', 'v2|', body, `|${time}`) },
        };
      },
    },
    'a body and a time in seconds': {
      source: source('hmac', {
        hmac: { header: 'X-Signature', signed: '{timestamp}.{body}', timestampHeader: 'X-Time' },
      }),
      secrets: text,
      body: json,
      overBody: true,
      window: 300,
      sign: (secret, body, at) => {
        const time = secondsAt(at);
        return {
          headers: { 'x-time': time, 'x-signature': hmac('sha256', secret, 'hex', `${time}.`, body) },
        };
      },
    },
  },
  secret: {
    'in a header': {
      source: source('secret'),
      secrets: text,
      body: json,
      overBody: false,
      sign: (secret) => ({ headers: { 'x-webhook-secret': secret } }),
    },
    'in the query': {
      source: source('secret'),
      secrets: text,
      body: json,
      overBody: false,
      sign: (secret) => ({ headers: {}, query: { source: 'putio', secret } }),
    },
  },
};
