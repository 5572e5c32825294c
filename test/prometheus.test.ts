import { expect, test } from 'vitest';
import { readExposition } from './prometheus.ts';

const head = '# HELP a_total x\n# TYPE a_total counter\n';
const histogram = '# HELP h x\n# TYPE h histogram\n';

test.each<[string, RegExp, string]>([
  ['no end of the last line', /does not end/, `${head}a_total 1`],
  ['a sample without type', /without help and type/, 'a_total 1\n'],
  ['a family twice', /family twice/, `${head}a_total 1\n${head}`],
  ['a sample twice', /sample twice/, `${head}a_total{b="1",c="2"} 1\na_total{c="2",b="1"} 1\n`],
  ['a sample of another family', /another family/, `${head}b_total 1\n`],
  ['a quote in a label', /No label/, `${head}a_total{b="x"y"} 1\n`],
  ['a line break in a label', /No sample/, `${head}a_total{b="x\ny"} 1\n`],
  ['an escape that is none', /No label/, `${head}a_total{b="\\q"} 1\n`],
  ['a label twice', /label twice/, `${head}a_total{b="1",b="2"} 1\n`],
  ['no number', /No number/, `${head}a_total one\n`],
  ['a counter below 0', /below 0/, `${head}a_total -1\n`],
  ['a counter without _total', /without _total/, '# HELP a x\n# TYPE a counter\na 1\n'],
  [
    'buckets that fall',
    /not cumulative/,
    `${histogram}h_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n`,
  ],
  ['no last bucket', /not \+Inf/, `${histogram}h_bucket{le="1"} 1\nh_sum 1\nh_count 1\n`],
  ['another count', /not \+Inf/, `${histogram}h_bucket{le="+Inf"} 1\nh_sum 1\nh_count 2\n`],
  ['no sum', /lacks its sum/, `${histogram}h_bucket{le="+Inf"} 1\nh_count 1\n`],
])('the reader of expositions refuses %s', (_, why, text) => {
  expect(() => readExposition(text)).toThrow(why);
});

test('it reads what is right', () => {
  const read = readExposition(`${head}a_total{b="x\\"y\\\\z\\n"} 1.5e3\n`);
  expect(read.value('a_total', { b: 'x"y\\z\n' })).toBe(1500);
});
