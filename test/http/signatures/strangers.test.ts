import { expect, test } from 'vitest';
import { sourceSchema } from '../../../src/sources.ts';
import { hmac, now, refusal, secondsAt, signed, source } from './senders.ts';

// What somebody without any secret can make the endpoint do, in the worst requests that its limits let in.
const secrets = ['one', 'two', 'three', 'four'];
const time = secondsAt(now);
const digest = { hex: '0'.repeat(64), base64: Buffer.alloc(32).toString('base64') };
const sha1 = Buffer.alloc(20).toString('base64');
const longest = Buffer.alloc(25 * 1024 * 1024, '{"a":[');
const twilioUrl = 'https://nexus.example/api/webhook/main?source=twilio';
const form = 'application/x-www-form-urlencoded';
const unsorted = Buffer.from(Array.from({ length: 140_000 }, (_, n) => (n * 7919).toString(36)).join('&'));

function formOf(fields: number, bytes: number): Buffer {
  const names = Array.from({ length: fields }, (_, n) => `${((n * 7919) % fields).toString(36)}=`);
  return Buffer.from(names.join('&').padEnd(bytes, 'x'));
}

test.each([
  ['twilio', 'a form of many names', { 'x-twilio-signature': sha1, 'content-type': form }, unsorted],
  [
    'twilio',
    'the longest form that is read',
    { 'x-twilio-signature': sha1, 'content-type': form },
    formOf(1000, 65_536),
  ],
  [
    'stripe',
    'many signatures',
    { 'stripe-signature': [`t=${time}`, ...Array<string>(220).fill(`v1=${digest.hex}`)].join(',') },
    Buffer.from('{}'),
  ],
  [
    'stripe',
    'a header of commas',
    { 'stripe-signature': `t=${time},v1=${digest.hex}${','.repeat(15_000)}` },
    Buffer.from('{}'),
  ],
  [
    'standard',
    'many signatures',
    {
      'webhook-id': 'm',
      'webhook-timestamp': time,
      'webhook-signature': Array<string>(300).fill(`v1,${digest.base64}`).join(' '),
    },
    Buffer.from('{}'),
  ],
  [
    'standard',
    'an id of digits',
    {
      'webhook-id': `.${'1'.repeat(15_000)}x`,
      'webhook-timestamp': time,
      'webhook-signature': `v1,${digest.base64}`,
    },
    Buffer.from('{}'),
  ],
  ['telegram', 'a long token', { 'x-telegram-bot-api-secret-token': 'x'.repeat(15_000) }, longest],
] as const)('a stranger as %s with %s costs next to nothing', (verify, _, headers, body) => {
  const began = performance.now();
  expect(
    refusal(source(verify), secrets, signed({ headers, url: twilioUrl }, Buffer.from(body))),
  ).toBeDefined();
  expect(performance.now() - began).toBeLessThan(100);
});

test('the hash of a body that Twilio puts into the URL is not made before the URL is known to be Twilio’s', () => {
  const url = `${twilioUrl}&bodySHA256=${digest.hex}`;
  const cost = (signature: string) => {
    const headers = { 'x-twilio-signature': signature };
    const began = performance.now();
    expect(refusal(source('twilio'), secrets, signed({ headers, url }, longest))).toBeDefined();
    return performance.now() - began;
  };
  cost(sha1);
  // The body is read for who knows the secret, and only then.
  expect(cost(sha1)).toBeLessThan(cost(hmac('sha1', 'four', 'base64', url)));
});

test('a form of Twilio has at most 1,000 fields and 64 KiB', () => {
  const outcome = (fields: number, bytes: number) => {
    const body = formOf(fields, bytes);
    const signedFields = [...new URLSearchParams(body.toString())].map(([name, value]) => name + value);
    const headers = {
      'content-type': form,
      'x-twilio-signature': hmac('sha1', 'four', 'base64', twilioUrl, signedFields.sort().join('')),
    };
    return refusal(source('twilio'), secrets, signed({ headers, url: twilioUrl }, body)) === undefined;
  };
  expect([outcome(1000, 65_536), outcome(1001, 0), outcome(10, 65_537)]).toEqual([true, false, false]);
});

test('the body is signed once: twice would cost a stranger’s request twice', () => {
  const about = { verify: 'hmac', secret: 's', hmac: { header: 'X', signed: '{body}.{body}' } };
  expect(sourceSchema.safeParse(about).error?.issues).toHaveLength(1);
});
