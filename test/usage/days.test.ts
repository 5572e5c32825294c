import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { dayLabel, daysIn, monthLabel, weekLabel } from '../../src/usagedays.ts';

const zones = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'Asia/Kathmandu',
  'Australia/Lord_Howe',
  'Pacific/Apia',
];

test('the stretches of a zone give every quarter of an hour the day that it has there', () => {
  const from = Date.parse('2025-01-01T00:00Z');
  const to = Date.parse('2027-01-01T00:00Z');
  for (const zone of zones) {
    const stretches = daysIn(zone).stretches(from, to);
    const format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: (to - from) / 900_000 - 1 }), (quarter) => {
        const at = from + quarter * 900_000;
        const offset = stretches.findLast((stretch) => stretch.from <= at)?.offset ?? 0;
        expect(dayLabel(Math.floor((at + offset) / 86_400_000))).toBe(format.format(at));
      }),
      { numRuns: 200 },
    );
    for (const stretch of stretches.slice(1)) expect(stretch.from % 900_000).toBe(0);
  }
});

test('a day begins at its midnight, or where the clock skips that, at the first moment after', () => {
  const begin = (zone: string, local: string) => new Date(daysIn(zone).begin(local)).toISOString();
  expect(begin('UTC', '2026-11-23')).toBe('2026-11-23T00:00:00.000Z');
  expect(begin('Europe/Berlin', '2026-03-29')).toBe('2026-03-28T23:00:00.000Z');
  expect(begin('Europe/Berlin', '2026-03-30')).toBe('2026-03-29T22:00:00.000Z');
  expect(begin('Asia/Kathmandu', '2026-11-23T09:00')).toBe('2026-11-23T03:15:00.000Z');
  // Midnight does not exist there on that day: the clock went from 24:00 to 01:00.
  expect(begin('America/Santiago', '2026-09-06')).toBe('2026-09-06T04:00:00.000Z');
  // 02:30 twice: the first.
  expect(begin('Europe/Berlin', '2026-10-25T02:30')).toBe('2026-10-25T00:30:00.000Z');
});

test('weeks are those of ISO 8601', () => {
  const week = (date: string) => weekLabel(Date.parse(`${date}T00:00Z`) / 86_400_000);
  expect(
    ['2026-11-22', '2026-11-23', '2027-01-03', '2027-01-04', '2024-12-30', '2021-01-03'].map(week),
  ).toEqual(['2026-W47', '2026-W48', '2026-W53', '2027-W01', '2025-W01', '2020-W53']);
  expect(monthLabel(Date.parse('2026-11-23T00:00Z') / 86_400_000)).toBe('2026-11');
});

test('an offset off the quarters of an hour is refused', () => {
  for (const offset of ['+05:37', '-0101']) expect(() => daysIn(offset)).toThrow(/off the quarters/);
  expect(daysIn('+05:45').offset(0)).toBe(5.75 * 3_600_000);
});

test('a name that is no time zone is refused', () => {
  expect(() => daysIn('Mars/Olympus')).toThrow('"Mars/Olympus" is no time zone');
});
