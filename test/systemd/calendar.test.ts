import { execa } from 'execa';
import { describe, expect, test } from 'vitest';
import { longestPause, spanMs, stampMs } from '../../src/systemd/calendar.ts';
import { analyzes } from './machine.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

describe('the longest pause between two times of a calendar', () => {
  test.each([
    ['*-*-* *:*:00', minute],
    ['*-*-* *:00/5:00', 5 * minute],
    ['*-*-* *:*:00/2', 2000],
    ['*-*-* *:00/7:00', 7 * minute],
    ['*-*-* 00/6:30:00 Europe/Paris', 6 * hour],
    ['*-*-* 09,12..14/2:30:00', 19 * hour],
    ['Mon..Fri *-*-* 09..17:00:00', 2 * day + 16 * hour],
    ['Sun,Wed..Fri *-*-* 04:00:00', 3 * day],
    ['Fri..Mon *-*-* 04:00:00', 4 * day],
    ['*-*-01 00:00:00', 31 * day],
    ['*-*~01 00:00:00', 31 * day],
    ['*-01-01 00:00:00', 366 * day],
    ['*-02-29 00:00:00', 1461 * day],
  ])('%s', (calendar, pause) => {
    expect(longestPause(calendar)).toBe(pause);
  });

  test.each(['2027-01-01 00:00:00', '', 'daily', '*-*-* *:*:0/0', '*-*-* *:*:00/0.5', 'Foo *-*-* 00:00:00'])(
    'is not told of %j',
    (calendar) => {
      expect(longestPause(calendar)).toBeUndefined();
    },
  );

  test
    .skipIf(!analyzes)
    .each([
      'Mon..Fri *-*-01..07,10 09,12..15/2:30',
      'Sat,Tue *-*~05 8..20/5:0/25:10',
      '*-*-31 23:59:59',
      'weekly',
      'quarterly',
      '*:0/5',
    ])('is what systemd itself makes of %s', async (calendar) => {
    const asked = ['calendar', '--iterations=400', '--base-time=2026-01-01', calendar];
    const { stdout } = await execa('systemd-analyze', asked, { env: { TZ: 'UTC', LC_ALL: 'C' } });
    const times = [...stdout.matchAll(/^ *(?:Next elapse|Iter\. #\d+|Iteration #\d+): (.*)$/gm)].map(
      ([, at]) => stampMs(at) ?? 0,
    );
    const normal = /Normalized form: (.*)/.exec(stdout)?.[1] ?? '';
    const longest = times.reduce((most, at, index) => Math.max(most, at - (times[index - 1] ?? at)), 0);
    expect(times.length).toBeGreaterThan(10);
    expect(longestPause(normal)).toBe(longest);
  });
});

test('spans and times are read as systemd writes them', () => {
  expect(spanMs('1h 30min')).toBe(90 * minute);
  expect(spanMs('6h 23min 51.469001s')).toBeCloseTo(23_031_469.001, 3);
  expect(spanMs('2d 1us')).toBeCloseTo(2 * day, 2);
  expect(spanMs('0')).toBe(0);
  for (const none of ['infinity', '', undefined, 'soon']) expect(spanMs(none)).toBeUndefined();
  expect(stampMs('Mon 2026-11-23 13:37:47 UTC')).toBe(Date.UTC(2026, 10, 23, 13, 37, 47));
  for (const none of ['', 'n/a', undefined, 'Mon 2026-11-23 08:37:48 EST'])
    expect(stampMs(none)).toBeUndefined();
});
