import { expect, test } from 'vitest';
import { joined, type Proved, reportOf } from './report.ts';

function proved(name: string, more: Partial<Proved> = {}): Proved {
  const machine = {
    node: 'v24',
    sqlite: '3',
    system: 'Linux',
    cpu: 'a',
    cpus: 2,
    memoryGiB: 4,
    commit: 'abc',
  };
  const rest = { promise: 'It holds.', began: '2026-01-02T03:04:05.000Z', seconds: 90, seed: 7, machine };
  return { name, counts: [], broken: [], left: [], ...rest, ...more };
}

test('a part that is run alone takes the place of its last run, and the others stay', () => {
  const before = [proved('kill'), proved('load', { seed: 1 })];
  const parts = joined(before, [proved('load', { seed: 2 }), proved('rot')], ['kill', 'rot', 'load']);
  expect(parts.map(({ name, seed }) => [name, seed])).toEqual([
    ['kill', 7],
    ['rot', 7],
    ['load', 2],
  ]);
});

test('a report says of each part whether it held, and how to see it again', () => {
  const broken = [{ what: 'Something was lost.', again: 'npm run prove' }];
  const report = reportOf({ parts: [proved('kill'), proved('rot', { broken })], caught: [] });
  expect(report).toContain('**1 of the promises below did not hold.**');
  expect(report).toContain(
    '| kill | yes | 1.5 | 2026-01-02 03:04 | abc | `npm run prove -- kill --minutes 2 --seed 7` |',
  );
  expect(report).toContain('| rot | **no** |');
  expect(report).toContain('Something was lost. Again: `npm run prove`');
});
