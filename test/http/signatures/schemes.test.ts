import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { sourceSchema } from '../../../src/sources.ts';
import { hmac, now, refusal, secondsAt, signed, source } from './senders.ts';

test('hexadecimal digits may be of either case', () => {
  const body = Buffer.from('{}');
  const digest = hmac('sha256', 's', 'hex', body);
  const upper = `sha256=${digest.toUpperCase()}`;
  expect(
    refusal(source('github'), ['s'], signed({ headers: { 'x-hub-signature-256': upper } }, body)),
  ).toBeUndefined();
});

test("GitHub's older signature of SHA-1 proves nothing", () => {
  const body = Buffer.from('{}');
  const headers = { 'x-hub-signature': `sha1=${hmac('sha1', 's', 'hex', body)}` };
  expect(refusal(source('github'), ['s'], signed({ headers }, body))).toContain('x-hub-signature-256');
  expect(
    refusal(
      source('github'),
      ['s'],
      signed({ headers: { 'x-hub-signature-256': headers['x-hub-signature'] } }, body),
    ),
  ).toBeTypeOf('string');
});

describe('stripe', () => {
  const body = Buffer.from('{"id":"evt_1"}');
  const time = secondsAt(now);
  const good = hmac('sha256', 'whsec_1', 'hex', `${time}.`, body);
  const bad = hmac('sha256', 'whsec_2', 'hex', `${time}.`, body);

  function outcome(header: string): string | undefined {
    return refusal(source('stripe'), ['whsec_1'], signed({ headers: { 'stripe-signature': header } }, body));
  }

  test('one good v1 among several is enough, in any place', () => {
    expect(outcome(`t=${time},v1=${bad},v1=${good}`)).toBeUndefined();
    expect(outcome(`v1=${good},t=${time},v1=zz`)).toBeUndefined();
  });

  test('v0 proves nothing', () => {
    expect(outcome(`t=${time},v0=${good}`)).toBeTypeOf('string');
    expect(outcome(`t=${time},v1=${bad},v0=${good}`)).toBeTypeOf('string');
  });

  test('two times are refused, as is one that is not written as a number is', () => {
    expect(outcome(`t=${time},t=${time},v1=${good}`)).toBeTypeOf('string');
    for (const other of [`0${time}`, `+${time}`, `${time}.0`, '1e9', ''])
      expect(outcome(`t=${other},v1=${good}`)).toBeTypeOf('string');
  });
});

describe('standard', () => {
  const body = Buffer.from('{"a":1}');
  const time = secondsAt(now);
  const key = Buffer.from('a key of some bytes!');
  const good = hmac('sha256', key, 'base64', `msg_1.${time}.`, body);
  const bad = hmac('sha256', 'another', 'base64', `msg_1.${time}.`, body);
  const headers = { 'webhook-id': 'msg_1', 'webhook-timestamp': time };

  function outcome(
    signature: string,
    secret = `whsec_${key.toString('base64')}`,
    more = {},
  ): string | undefined {
    const sent = { headers: { ...headers, 'webhook-signature': signature, ...more } };
    return refusal(source('standard'), [secret], signed(sent, body));
  }

  test('one good v1 in the list is enough, and other versions prove nothing', () => {
    expect(outcome(`v1,${bad} v1a,${good} v1,${good}`)).toBeUndefined();
    expect(outcome(`v1a,${good} v2,${good}`)).toBeTypeOf('string');
  });

  test('a secret is base64 without its prefix too, and itself the key when it is no base64', () => {
    expect(outcome(`v1,${good}`, key.toString('base64'))).toBeUndefined();
    const raw = 'polar_whs_secret';
    expect(outcome(`v1,${hmac('sha256', raw, 'base64', `msg_1.${time}.`, body)}`, raw)).toBeUndefined();
    expect(outcome(`v1,${hmac('sha256', raw, 'base64', `msg_1.${time}.`, body)}`, `whsec_${raw}`)).toBeTypeOf(
      'string',
    );
  });

  test('base64 that is written in another way is refused', () => {
    for (const other of [
      good.replace('=', ''),
      `${good}=`,
      good.replace(/.=$/, (end) => (end === 'A=' ? 'B=' : 'A=')),
    ])
      expect(outcome(`v1,${other}`), other).toBeTypeOf('string');
  });

  test("an id that could take the time's place is refused", () => {
    const id = `msg_1.${time}`;
    const signature = hmac('sha256', key, 'base64', `${id}.${time}.`, body);
    expect(outcome(`v1,${signature}`, undefined, { 'webhook-id': id })).toContain('webhook-id');
    const dotted = hmac('sha256', key, 'base64', `msg.a.${time}.`, body);
    expect(outcome(`v1,${dotted}`, undefined, { 'webhook-id': 'msg.a' })).toBeUndefined();
  });

  test('the headers of Svix do not stand in for missing ones of Standard Webhooks', () => {
    const sent = {
      headers: { 'svix-id': 'msg_1', 'webhook-timestamp': time, 'svix-signature': `v1,${good}` },
    };
    expect(refusal(source('standard'), [key.toString('base64')], signed(sent, body))).toBeTypeOf('string');
  });
});

describe('gitlab', () => {
  const body = Buffer.from('{"object_kind":"push"}');
  const key = Buffer.alloc(32, 7);
  const signing = `whsec_${key.toString('base64')}`;
  const time = secondsAt(now);
  const both = {
    'x-gitlab-token': 'token',
    'webhook-id': 'f5e5f430',
    'webhook-timestamp': time,
    'webhook-signature': `v1,${hmac('sha256', key, 'base64', `f5e5f430.${time}.`, body)}`,
  };

  test('of a request with both, either is enough', () => {
    expect(refusal(source('gitlab'), ['token'], signed({ headers: both }, body))).toBeUndefined();
    expect(refusal(source('gitlab'), [signing], signed({ headers: both }, body))).toBeUndefined();
    expect(refusal(source('gitlab'), ['token', signing], signed({ headers: both }, body))).toBeUndefined();
  });

  test('a signing token that is sent as it is proves nothing', () => {
    const headers = { 'x-gitlab-token': signing };
    expect(refusal(source('gitlab'), [signing], signed({ headers }, body))).toBeTypeOf('string');
  });

  test('a secret token is not the key of a signature', () => {
    const raw = {
      ...both,
      'webhook-signature': `v1,${hmac('sha256', 'token', 'base64', `f5e5f430.${time}.`, body)}`,
    };
    const { 'x-gitlab-token': _, ...headers } = raw;
    expect(refusal(source('gitlab'), ['token'], signed({ headers }, body))).toBeTypeOf('string');
  });
});

test('linear refuses a body without its time, or with one that is no number', () => {
  for (const text of [
    '{}',
    `{"webhookTimestamp":"${now.getTime()}"}`,
    'null',
    '[]',
    '',
    'no JSON',
    '{"webhookTimestamp":1e999}',
  ]) {
    const body = Buffer.from(text);
    const headers = { 'linear-signature': hmac('sha256', 's', 'hex', body) };
    expect(refusal(source('linear'), ['s'], signed({ headers }, body)), text).toBeTypeOf('string');
  }
});

describe('secret', () => {
  const body = Buffer.alloc(0);

  test('with the header the query is ignored', () => {
    const headers = { 'x-webhook-secret': 'wrong' };
    expect(refusal(source('secret'), ['s'], signed({ headers, query: { secret: 's' } }, body))).toBeTypeOf(
      'string',
    );
    const empty = { headers: { 'x-webhook-secret': '' }, query: { secret: 's' } };
    expect(refusal(source('secret'), ['s'], signed(empty, body))).toBeTypeOf('string');
  });

  test('a wrong, empty or repeated secret in the query is refused', () => {
    for (const secret of ['wrong', '', 'S', 's ', ['s', 's'], ['s'], undefined, { s: 's' }])
      expect(refusal(source('secret'), ['s'], signed({ headers: {}, query: { secret } }, body))).toBeTypeOf(
        'string',
      );
  });

  test('a secret beyond ASCII is let in from the header, which Node reads byte by byte, and from the query', () => {
    const headers = { 'x-webhook-secret': Buffer.from('geheim-ß-鍵').toString('latin1') };
    expect(refusal(source('secret'), ['geheim-ß-鍵'], signed({ headers }, body))).toBeUndefined();
    const query = { secret: 'geheim-ß-鍵' };
    expect(refusal(source('secret'), ['geheim-ß-鍵'], signed({ headers: {}, query }, body))).toBeUndefined();
  });
});

describe('twilio', () => {
  const url = 'https://nexus.example/api/webhook/main?source=twilio';
  const form = { 'content-type': 'application/x-www-form-urlencoded' };

  test('a body that the signature does not cover is refused', () => {
    const headers = { 'x-twilio-signature': hmac('sha1', 's', 'base64', url) };
    const body = Buffer.from('{"a":1}');
    expect(refusal(source('twilio'), ['s'], signed({ headers, url }, Buffer.alloc(0)))).toBeUndefined();
    for (const type of ['application/json', 'text/plain', undefined]) {
      const sent = { headers: { ...headers, ...(type && { 'content-type': type }) }, url };
      expect(refusal(source('twilio'), ['s'], signed(sent, body)), type).toBeTypeOf('string');
    }
  });

  test('what was signed for another URL than the configured one is refused', () => {
    const headers = { 'x-twilio-signature': hmac('sha1', 's', 'base64', url) };
    const other = source('twilio', { url: 'https://another.example/hook' });
    expect(refusal(other, ['s'], signed({ headers, url }, Buffer.alloc(0)))).toBeTypeOf('string');
    expect(
      refusal(source('twilio', { url }), ['s'], signed({ headers, url: '' }, Buffer.alloc(0))),
    ).toBeUndefined();
  });

  test('two hashes of the body are refused', () => {
    const body = Buffer.from('{"a":1}');
    const hash = createHash('sha256').update(body).digest('hex');
    const twice = `${url}&bodySHA256=${hash}&bodySHA256=${hash}`;
    const headers = { 'x-twilio-signature': hmac('sha1', 's', 'base64', twice) };
    expect(refusal(source('twilio'), ['s'], signed({ headers, url: twice }, body))).toBeTypeOf('string');
  });

  test('a form longer than Twilio sends is refused unread', () => {
    const body = Buffer.from(`a=${'x'.repeat(1024 * 1024)}`);
    const signature = hmac('sha1', 's', 'base64', `${url}a${'x'.repeat(1024 * 1024)}`);
    const headers = { ...form, 'x-twilio-signature': signature };
    expect(refusal(source('twilio'), ['s'], signed({ headers, url }, body))).toBeTypeOf('string');
  });

  test('without a URL that can be one, it is refused', () => {
    for (const other of ['', '/api/webhook/main', 'https://', 'https://[', '%']) {
      const headers = { ...form, 'x-twilio-signature': hmac('sha1', 's', 'base64', url) };
      expect(refusal(source('twilio'), ['s'], signed({ headers, url: other }, Buffer.alloc(0)))).toBeTypeOf(
        'string',
      );
    }
  });
});

describe('hmac', () => {
  function complaints(about: object): string[] {
    const parsed = sourceSchema.safeParse({ verify: 'hmac', secret: 's', hmac: { header: 'X', ...about } });
    return parsed.error?.issues.map(({ message }) => message) ?? [];
  }

  test('a time that is not signed is a configuration error, as is a signed one that nobody sends', () => {
    expect(complaints({ timestampHeader: 'X-Time' })).toHaveLength(1);
    expect(complaints({ signed: '{timestamp}.{body}' })).toHaveLength(1);
    expect(complaints({ signed: '{timestamp}.{body}', timestampHeader: 'X-Time' })).toEqual([]);
  });

  test('a time that runs into the body is a configuration error', () => {
    for (const signed of ['{timestamp}{body}', '{body}{timestamp}', '{timestamp}0{body}'])
      expect(complaints({ signed, timestampHeader: 'X-Time' })).toHaveLength(1);
  });

  test('a body that holds the words of the template is signed as it is', () => {
    const about = { header: 'X', signed: '{timestamp}|{body}', timestampHeader: 'X-Time' };
    const body = Buffer.from('$& {timestamp} {body}');
    const time = secondsAt(now);
    const headers = { x: hmac('sha256', 's', 'hex', `${time}|`, body), 'x-time': time };
    expect(refusal(source('hmac', { hmac: about }), ['s'], signed({ headers }, body))).toBeUndefined();
  });

  test('a source that does not say how is refused', () => {
    const { hmac: _, ...incomplete } = source('hmac', { hmac: { header: 'X' } });
    expect(refusal(incomplete, ['s'], signed({ headers: { x: '00' } }, Buffer.alloc(0)))).toBeTypeOf(
      'string',
    );
  });
});
