import { describe, expect, test } from 'vitest';
import { verifySender } from '../../../src/http/signatures/verify.ts';
import { hmac, type Sent, signed, source } from './senders.ts';

// Meta, Stripe, Shopify, Linear and Telegram publish how they sign, but no whole example with its secret; their
// libraries are asked instead, where they have one (libraries.test.ts).

// GitHub's documentation, "Validating webhook deliveries", "Testing the webhook payload validation".
test('github: "Hello, World!"', () => {
  const headers = {
    'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
  };
  const request = signed({ headers }, Buffer.from('Hello, World!'));
  expect(() => verifySender(source('github'), ["It's a Secret to Everybody"], request)).not.toThrow();
});

// Slack's documentation, "Verifying requests from Slack".
test('slack: a slash command', () => {
  const body = [
    'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V',
    'channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=',
    'response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN',
    'trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c',
  ].join('&');
  const headers = {
    'x-slack-request-timestamp': '1531420618',
    'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
  };
  const request = signed({ headers }, Buffer.from(body), new Date(1531420618 * 1000));
  expect(() => verifySender(source('slack'), ['8f742231b10e8888abcd99yyyzzz85a5'], request)).not.toThrow();
});

// The tests of the Standard Webhooks and Svix libraries, "sign function works".
describe.each(['webhook', 'svix'])('standard: the message of the libraries’ own tests, as %s', (prefix) => {
  const headers = {
    [`${prefix}-id`]: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    [`${prefix}-timestamp`]: '1614265330',
    [`${prefix}-signature`]: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  const request = signed({ headers }, Buffer.from('{"test": 2432232314}'), new Date(1614265330 * 1000));

  test.each(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'])(
    'with %s',
    (secret) => {
      expect(() => verifySender(source('standard'), [secret], request)).not.toThrow();
    },
  );

  test('and a list in which it is not the first', () => {
    const list = {
      ...headers,
      [`${prefix}-signature`]: `v1,bm9ldHUK v2,xyz ${headers[`${prefix}-signature`]}`,
    };
    const more = { ...request, headers: list };
    expect(() =>
      verifySender(source('standard'), ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'], more),
    ).not.toThrow();
  });
});

// Twilio's documentation, "Webhooks security", and the tests of twilio-python, -php, -go and -csharp.
describe('twilio', () => {
  const url = 'https://mycompany.com/myapp.php?foo=1&bar=2';
  const fields = {
    CallSid: 'CA1234567890ABCDE',
    Caller: '+14158675309',
    Digits: '1234',
    From: '+14158675309',
    To: '+18005551212',
  };
  const body = '{"property": "value", "boolean": true}';
  const hash = '0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620';

  function outcome(sent: Sent, text: string): () => void {
    return () => verifySender(source('twilio'), ['12345'], signed(sent, Buffer.from(text)));
  }

  function form(url: string, signature: string, fields: [string, string][]): () => void {
    const headers = {
      'content-type': 'application/x-www-form-urlencoded',
      'x-twilio-signature': signature,
    };
    return outcome({ url, headers }, new URLSearchParams(fields).toString());
  }

  test.each([
    ['as it is', url, 'RSOYDt4T1cUTdK1PDd93/VVr8B8='],
    ['with a port that was not signed', url.replace('.com', '.com:1234'), 'RSOYDt4T1cUTdK1PDd93/VVr8B8='],
    ['signed with port 443', url, 'kvajT1Ptam85bY51eRf/AJRuM3w='],
    ['signed with port 80', url.replace('https', 'http'), '0ZXoZLH/DfblKGATFgpif+LLRf4='],
  ])('a form, its URL %s', (_, url, signature) => {
    expect(form(url, signature, Object.entries(fields))).not.toThrow();
  });

  test('a form in which a name comes more than once, and one begins as another', () => {
    const fields: [string, string][] = [
      ['Sid', 'CA123'],
      ['SidAccount', 'AC123'],
      ['Digits', '5678'],
      ['Digits', '1234'],
      ['Digits', '1234'],
    ];
    expect(form(url, 'IK+Dwps556ElfBT0I3Rgjkr1wJU=', fields)).not.toThrow();
  });

  test.each([
    [`${url}&bodySHA256=${hash}`, 'a9nBmqA0ju/hNViExpshrM61xv4='],
    [`https://mycompany.com/myapp.php?bodySHA256=${hash}`, 'y77kIzt2vzLz71DgmJGsen2scGs='],
  ])('a JSON body at %s', (url, signature) => {
    const headers = { 'content-type': 'application/json', 'x-twilio-signature': signature };
    expect(outcome({ url, headers }, body)).not.toThrow();
    expect(outcome({ url, headers }, body.replace('true', 'false'))).toThrow('not for this request');
  });

  test('the signature of a form is not one of a JSON body', () => {
    const headers = {
      'content-type': 'application/json',
      'x-twilio-signature': 'RSOYDt4T1cUTdK1PDd93/VVr8B8=',
    };
    expect(outcome({ url, headers }, body)).toThrow('not for this request');
  });
});

// RFC 4231, test case 2, and RFC 2202, test case 2: the HMACs that everything here stands on.
test.each([
  ['sha1', 'hex', 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79'],
  ['sha256', 'hex', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'],
  ['sha256', 'base64', 'W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM='],
] as const)('hmac: RFC 4231 and RFC 2202, %s in %s', (algorithm, encoding, signature) => {
  const body = Buffer.from('what do ya want for nothing?');
  const about = source('hmac', { hmac: { header: 'X-Signature', algorithm, encoding } });
  const request = signed({ headers: { 'x-signature': signature } }, body);
  expect(() => verifySender(about, ['Jefe'], request)).not.toThrow();
  expect(hmac(algorithm, 'Jefe', encoding, body)).toBe(signature);
});
