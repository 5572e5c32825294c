import { expect, test } from 'vitest';
import { formOf, idsIn, idsOf, isPutio, transferIn, transferOf } from '../../src/transfer.ts';

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

const since = '2026-11-23T09:05:07.000Z';

test('a delivery is a transfer and when it finished, and otherwise the transfer that ended well', () => {
  const timed = { id: 7, finishedAt: '2026-11-23T10:05:07Z' };
  const delivery = '7 2026-11-23T10:05:07Z';
  expect(idsOf(timed)).toEqual({ delivery, otherwise: { delivery: '7', since } });
  expect(idsOf({ ...timed, status: 'ERROR' })).toEqual({ delivery });
  expect(idsOf({ id: 7, status: 'COMPLETED' })).toEqual({ delivery: '7' });
  expect(idsOf({ id: 7 })).toEqual({ delivery: '7' });
  expect(idsOf({ id: 7, status: 'ERROR' })).toBeUndefined();
  expect(idsOf({ id: 7, status: 'DOWNLOADING' })).toBeUndefined();
  expect(idsOf({ finishedAt: '2026-11-23T10:05:07Z' })).toBeUndefined();
});

test('the ids are in the payload, and nowhere where a field comes twice', () => {
  const finished_at = '2026-11-23T10:05:07';
  expect(idsIn(JSON.stringify({ id: '7', finished_at, status: 'ERROR' }))).toEqual({
    delivery: '7 2026-11-23T10:05:07Z',
  });
  expect(idsIn(JSON.stringify({ id: ['7', '8'], finished_at }))).toBeUndefined();
  expect(idsIn('"id=7"')).toBeUndefined();
  expect(idsIn('null')).toBeUndefined();
});

test('no name but its own becomes a known field', () => {
  expect(transferOf({ file__id: '1', _file_id: '2', file_id_: '3', finished__at: '4', fileId: '5' })).toEqual(
    {},
  );
});

test('seconds since 1970 are a time, and a day that is none is not', () => {
  expect(transferOf({ finished_at: 1_763_892_307 })).toEqual({ finishedAt: '2025-11-23T10:05:07Z' });
  expect(transferOf({ finished_at: '2026-02-30T10:00:00' })).toEqual({});
  expect(transferOf({ finished_at: 7 })).toEqual({});
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
