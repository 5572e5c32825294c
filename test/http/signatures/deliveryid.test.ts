import type { IncomingHttpHeaders } from 'node:http';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { deliveryIdOf } from '../../../src/http/deliveryid.ts';
import { type Source, type Verification, verifications } from '../../../src/sources.ts';
import { source } from './senders.ts';

interface Came {
  headers?: IncomingHttpHeaders;
  body?: string;
  contentType?: string;
}

function idOf(source: Source | undefined, name: string, came: Came): string | undefined {
  const { headers = {}, body = '', contentType = 'application/json' } = came;
  return deliveryIdOf(source, name, headers, Buffer.from(body), contentType);
}

const standard = { 'webhook-id': 'msg_1', 'webhook-signature': 'v1,c2ln' };

/** What each sender sends with a delivery, and the id in it; none for those who send none. */
const known: Record<string, { came: Came; id: string }> = {
  github: { came: { headers: { 'x-github-delivery': '72d3162e-cc78' } }, id: '72d3162e-cc78' },
  stripe: { came: { body: '{"id":"evt_1","data":{"object":{"id":"ch_1"}}}' }, id: 'evt_1' },
  slack: { came: { body: '{"type":"event_callback","event_id":"Ev08MFMKH6"}' }, id: 'Ev08MFMKH6' },
  standard: { came: { headers: standard }, id: 'msg_1' },
  gitlab: { came: { headers: { 'idempotency-key': 'f5e5f430' } }, id: 'f5e5f430' },
  shopify: { came: { headers: { 'x-shopify-webhook-id': 'b54557e4' } }, id: 'b54557e4' },
  linear: { came: { headers: { 'linear-delivery': '234d1a4e' } }, id: '234d1a4e' },
  telegram: { came: { body: '{"update_id":10000,"message":{}}' }, id: '10000' },
  twilio: { came: { headers: { 'i-twilio-idempotency-token': 'c3f9' } }, id: 'c3f9' },
};
function knownOf(verify: Verification): { came: Came; id: string } {
  const found = Object.entries(known).find(([sender]) => sender === verify);
  if (found === undefined) throw new Error('Not in the table.');
  return found[1];
}

const without: Verification[] = ['meta', 'hmac', 'secret', 'key', 'none'];

test('every way to verify has an id of its own or is known to have none', () => {
  expect([...Object.keys(known), ...without].toSorted()).toEqual([...verifications].toSorted());
});

describe.each(verifications.filter((verify) => verify in known))('%s', (verify) => {
  const { came, id } = knownOf(verify);

  test('its id is found, whatever the source is called', () => {
    expect(idOf(source(verify), 'whatever', came)).toBe(id);
  });

  test.each(['key', 'none', 'secret'] as const)(
    'its id is found by its name where it proves itself by %s',
    (by) => {
      expect(idOf(source(by), verify, came)).toBe(id);
      expect(idOf(source(by), 'whatever', came)).toBeUndefined();
    },
  );

  test('its id is found by its name where nothing is configured', () => {
    expect(idOf(undefined, verify, came)).toBe(id);
    expect(idOf(undefined, 'whatever', came)).toBeUndefined();
  });

  test('a delivery without one has none', () => {
    for (const body of [
      '',
      '{}',
      '[]',
      'null',
      '"text"',
      'no JSON',
      '{"id":{},"event_id":[],"update_id":null}',
    ])
      expect(idOf(source(verify), verify, { body })).toBeUndefined();
  });
});

test.each(without)('%s has no id', (verify) => {
  const all = Object.values(known).map(({ came }) => came.headers);
  const came = { headers: Object.assign({}, ...all), body: '{"id":"1","event_id":"1","update_id":1}' };
  const configured = verify === 'hmac' ? source(verify, { hmac: { header: 'X' } }) : source(verify);
  expect(idOf(configured, 'putio', came)).toBeUndefined();
});

test('a source of no prototype’s name has no id', () => {
  for (const name of ['toString', '__proto__', 'constructor', ''])
    expect(idOf(undefined, name, { body: '{"id":"1"}' })).toBeUndefined();
});

test('ids that several deliveries share, or that differ at each try, are none', () => {
  const gitlab = { 'x-gitlab-event-uuid': 'shared', 'x-gitlab-webhook-uuid': 'another each time' };
  expect(idOf(source('gitlab'), 'gitlab', { headers: gitlab })).toBeUndefined();
  expect(idOf(source('shopify'), 'shopify', { headers: { 'x-shopify-event-id': 'shared' } })).toBeUndefined();
});

test('of two sets of headers the id is that of the signature that counts', () => {
  const svix = { 'svix-id': 'msg_2', 'svix-signature': 'v1,c2ln' };
  expect(idOf(source('standard'), 'svix', { headers: svix })).toBe('msg_2');
  expect(idOf(source('standard'), 'svix', { headers: { ...svix, ...standard } })).toBe('msg_1');
  expect(idOf(source('standard'), 'svix', { headers: { ...svix, 'webhook-id': 'unsigned' } })).toBe('msg_2');
});

test('of a signed request of GitLab the id is the one that is signed', () => {
  const headers = { ...standard, 'idempotency-key': 'unsigned' };
  expect(idOf(source('gitlab'), 'gitlab', { headers })).toBe('msg_1');
});

test('svix is a name of Standard Webhooks', () => {
  expect(idOf(undefined, 'svix', { headers: { 'svix-id': 'msg_2', 'svix-signature': 'v1,c2ln' } })).toBe(
    'msg_2',
  );
});

test('an empty or a repeated header is no id', () => {
  for (const value of ['', ['a', 'b']])
    expect(idOf(source('github'), 'github', { headers: { 'x-github-delivery': value } })).toBeUndefined();
});

/** Milliseconds. */
function timeOf(work: () => unknown): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

describe('what the configuration says', () => {
  function at(json: string, body: string, contentType = 'application/json'): string | undefined {
    return idOf(source('none', { delivery: { json } }), 'stripe', { body, contentType });
  }

  test('goes before what is known of the sender, and nothing takes its place', () => {
    const configured = source('github', { delivery: { header: 'X-Mine' } });
    expect(idOf(configured, 'github', { headers: { 'x-mine': 'a', 'x-github-delivery': 'b' } })).toBe('a');
    expect(idOf(configured, 'github', { headers: { 'x-github-delivery': 'b' } })).toBeUndefined();
  });

  test('is followed through objects and lists', () => {
    expect(at('a.b.c', '{"a":{"b":{"c":"deep"}}}')).toBe('deep');
    expect(at('a.1.id', '{"a":[{"id":"x"},{"id":"y"}]}')).toBe('y');
    expect(at('a.length', '{"a":[{"id":"x"},{"id":"y"}]}')).toBeUndefined();
    for (const path of ['a.b', 'a.b.c.d', 'a.length', 'a..b', '.', 'toString', '__proto__', 'a.b.c.length'])
      expect(at(path, '{"a":{"b":{"c":"deep"}}}'), path).toBeUndefined();
  });

  test('is the text of a number as it is written', () => {
    for (const number of ['12345678901234567890', '12345678901234567891', '1.0', '-0', '1e400', '0.1'])
      expect(at('a.id', `{"id":1,"a":{"id":${number}}}`)).toBe(number);
  });

  test('is the last of those of one name, and none where the body has more than one value', () => {
    expect(at('id', ' {"id":"1","x":["id",{"id":"3"}],"id":"2"} ')).toBe('2');
    expect(at('i"d', '{"i\\"d":"\\u00e9"}')).toBe('é');
    for (const body of ['{"id":"1"}{"id":"2"}', '{"id":"1"}\n{"id":"2"}', '{"id":"1"', '{"id":1x}'])
      expect(at('id', body), body).toBeUndefined();
  });

  test('is found in a long body in less time than it takes to parse it', () => {
    const body = JSON.stringify({ a: Array.from({ length: 200_000 }, (_, n) => ({ [`n${n}`]: n })), id: 7 });
    const parsing = timeOf(() => JSON.parse(body));
    expect(timeOf(() => expect(at('id', body)).toBe('7'))).toBeLessThan(parsing);
  });

  test('is one field of a form, by its whole name', () => {
    const form = 'application/x-www-form-urlencoded; charset=utf-8';
    expect(at('id', 'status=COMPLETED&id=4711', form)).toBe('4711');
    expect(at('a.id', 'a.id=1', form)).toBe('1');
    for (const body of ['', 'id=', 'id=1&id=2', 'ID=1']) expect(at('id', body, form), body).toBeUndefined();
  });

  test('is never more than text or a number, and nothing is thrown', () => {
    for (const value of ['true', 'null', '{}', '[]', '""'])
      expect(at('id', `{"id":${value}}`)).toBeUndefined();
    fc.assert(
      fc.property(fc.string(), fc.oneof(fc.json(), fc.string()), (path, body) => void at(`a${path}`, body)),
    );
  });
});
