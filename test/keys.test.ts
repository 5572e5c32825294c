import { expect, test } from 'vitest';
import { allows, findKey, hashKey, type Key, keySchema, makeKey } from '../src/keys.ts';

const keyOf = (text: string, more: Partial<Key> = {}): Key => ({
  name: 'box',
  hash: hashKey(text),
  agents: '*',
  scopes: ['upload'],
  ...more,
});

test('a key is nxk_ and 256 bits that a header and a URL can carry', () => {
  expect(makeKey()).toMatch(/^nxk_[A-Za-z0-9_-]{43}$/);
  expect(new Set(Array.from({ length: 100 }, makeKey)).size).toBe(100);
});

test('a key is found by its text, among others', () => {
  const [one, two] = [makeKey(), makeKey()];
  const keys = [keyOf(one, { name: 'one' }), keyOf(two, { name: 'two' })];
  expect(findKey(keys, one)?.name).toBe('one');
  expect(findKey(keys, two)?.name).toBe('two');
});

test('a hash is no key', () => {
  const key = keyOf(makeKey());
  expect(findKey([key], key.hash)).toBeUndefined();
});

test.each(['', 'nxk_', 'x'.repeat(100_000)])('%# is not found', (text) => {
  expect(findKey([keyOf(makeKey())], text)).toBeUndefined();
});

test('a key is good for its scopes only', () => {
  const key = keyOf('x', { scopes: ['upload', 'read'] });
  expect([allows(key, 'upload'), allows(key, 'read'), allows(key, 'pull'), allows(key, 'webhook')]).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

test('a key is good for its agents only', () => {
  const key = keyOf('x', { agents: ['main'] });
  expect(allows(key, 'upload', 'main')).toBe(true);
  expect(allows(key, 'upload', 'mai')).toBe(false);
  expect(allows(keyOf('x'), 'upload', 'whoever')).toBe(true);
});

test('the schema takes what keys add writes', () => {
  expect(keySchema.parse(keyOf(makeKey()))).toMatchObject({ name: 'box', agents: '*' });
});

test.each([
  ['a hash that is none', { hash: 'nxk_plain' }],
  ['an agent that is none', { agents: ['../x'] }],
  ['no agents', { agents: [] }],
  ['an unknown scope', { scopes: ['everything'] }],
  ['no scopes', { scopes: [] }],
  ['a name that breaks a log line', { name: 'a\nb' }],
  ['a field that is not known', { secret: 'x' }],
])('the schema refuses %s', (_, more) => {
  expect(keySchema.safeParse({ ...keyOf('x'), ...more }).success).toBe(false);
});
