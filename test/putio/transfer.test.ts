import { expect, test } from 'vitest';
import { deliveryIn, deliveryOf, formOf, isPutio, transferIn, transferOf } from '../../src/transfer.ts';

const form = 'application/x-www-form-urlencoded';

test('a flattened callback becomes numbers, booleans and times, and its text stays text', () => {
  expect(
    transferOf({
      id: '4711',
      file_id: '12',
      name: 'True',
      status: 'COMPLETED',
      size: '734003200',
      percent_done: '100',
      current_ratio: '0.5',
      is_private: 'False',
      created_torrent: 'True',
      save_parent_id: '0',
      created_at: '2026-11-23T10:00:00',
      finished_at: '2026-11-23 10:05:07.123456',
    }),
  ).toEqual({
    id: 4711,
    fileId: 12,
    name: 'True',
    status: 'COMPLETED',
    size: 734_003_200,
    percentDone: 100,
    currentRatio: 0.5,
    isPrivate: false,
    createdTorrent: true,
    saveParentId: 0,
    createdAt: '2026-11-23T10:00:00Z',
    finishedAt: '2026-11-23T10:05:07Z',
  });
});

test('what is not what its field should be is left out, and the secret in the callback URL with it', () => {
  expect(
    transferOf({
      id: '99999999999999999999',
      size: 'big',
      is_private: 'maybe',
      finished_at: 'yesterday',
      created_at: '2026-13-45T10:00:00',
      name: ['a', 'b'],
      callback_url: 'https://nexus.example.net/api/webhook/a?secret=s',
      __proto__x: '1',
    }),
  ).toEqual({});
});

test.each([
  ['2026-11-23T10:05:07', '2026-11-23T10:05:07Z'],
  ['2026-11-23T10:05:07Z', '2026-11-23T10:05:07Z'],
  ['2026-11-23T12:05:07+02:00', '2026-11-23T10:05:07Z'],
  ['2026-11-23 12:05:07+0200', '2026-11-23T10:05:07Z'],
  ['2026-11-23T10:05:07.999', '2026-11-23T10:05:07Z'],
])('the time %s is %s, however it is written', (written, read) => {
  expect(transferOf({ finished_at: written })).toEqual({ finishedAt: read });
});

test('a payload that tells of no transfer has none', () => {
  expect(transferIn('"text"')).toBeUndefined();
  expect(transferIn('{}')).toBeUndefined();
  expect(transferIn('{"status":"OK"}')).toBeUndefined();
  expect(transferIn('{"id":"7"}')).toEqual({ id: 7 });
});

test('the form of an API transfer reads as its callback does', () => {
  const api = { id: 7, is_private: true, error_message: null, links: [1], callback_url: 'x', name: 'a&b' };
  expect(formOf(api)).toBe('id=7&is_private=True&name=a%26b');
  expect(transferOf(Object.fromEntries(new URLSearchParams(formOf(api))))).toEqual(transferOf(api));
});

test('a delivery is a transfer and when it finished', () => {
  expect(deliveryOf({ id: 7, finishedAt: '2026-11-23T10:05:07Z' })).toBe('7 2026-11-23T10:05:07Z');
  expect(deliveryOf({ id: 7, status: 'COMPLETED' })).toBe('7');
  expect(deliveryOf({ id: 7 })).toBe('7');
  expect(deliveryOf({ id: 7, status: 'ERROR' })).toBeUndefined();
  expect(deliveryOf({ id: 7, status: 'DOWNLOADING' })).toBeUndefined();
  expect(deliveryOf({ finishedAt: '2026-11-23T10:05:07Z' })).toBeUndefined();
});

test('the id of a delivery is in its form, or in JSON, and nowhere where a field comes twice', () => {
  const finished = 'finished_at=2026-11-23T10:05:07';
  expect(deliveryIn(form, Buffer.from(`id=7&${finished}`))).toBe('7 2026-11-23T10:05:07Z');
  expect(deliveryIn(`${form}; charset=utf-8`, Buffer.from(`id=7&id=8&${finished}`))).toBeUndefined();
  expect(deliveryIn('application/json', Buffer.from('{"id":7,"status":"COMPLETED"}'))).toBe('7');
  expect(deliveryIn('application/json', Buffer.from('{"id":'))).toBeUndefined();
  expect(deliveryIn('', Buffer.alloc(0))).toBeUndefined();
});

test.each([
  ['putio', true],
  ['put.io', true],
  ['putio-films', true],
  ['putiorr', false],
  ['github', false],
])('the source %s is put.io: %s', (source, is) => {
  expect(isPutio(source)).toBe(is);
});
