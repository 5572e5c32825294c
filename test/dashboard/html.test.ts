import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { change, cost, dollars, short } from '../../src/http/dashboard/figures.ts';
import { html } from '../../src/http/dashboard/html.ts';
import type { Sums } from '../../src/usagequery.ts';

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'", '#96': '`' };

function read(markup: string): string {
  return markup.replace(/&(amp|lt|gt|quot|#39|#96);/g, (_, name: string) => entities[name] ?? '');
}

describe('a template', () => {
  test('lets no text out of its place, in an element or in an attribute, and says it whole', () => {
    const hostile = fc.constantFrom(
      '<script>',
      '"',
      "'",
      '`',
      '&',
      '</pre>',
      '-->',
      ' onload=',
      'a',
      'ä',
      '\n',
    );
    fc.assert(
      fc.property(
        fc.array(hostile).map((parts) => parts.join('')),
        (text) => {
          const markup = html`<p title="${text}">${text}</p>`.toString();
          const [, title = '', body = ''] = /^<p title="([^"<>'`]*)">([^"<>'`]*)<\/p>$/.exec(markup) ?? [];
          expect([read(title), read(body)]).toEqual([text, text]);
        },
      ),
    );
  });

  test('leaves markup of other templates as it is, joins lists, and takes nothing for nothing', () => {
    expect(html`${[html`<b>1</b>`, '<', 2]}${undefined}${null}${false}${0}`.toString()).toBe(
      '<b>1</b>&lt;20',
    );
  });

  test('writes out what controls a terminal, hides or turns text, and keeps lines and tabs', () => {
    expect(html`${'a\u001b[31mred\u202egnp.exe\u0000\r\nb\tc\ufeff'}`.toString()).toBe(
      'a\\u{1b}[31mred\\u{202e}gnp.exe\\u{0}\nb\tc\\u{feff}',
    );
  });
});

describe('figures', () => {
  const sums = (facts: Partial<Sums>): Sums => ({
    calls: 1,
    input: 1,
    output: 0,
    cacheRead: 0,
    cacheWrite: 0,
    total: 1,
    cost: 1,
    costRecorded: 1,
    costEstimated: 0,
    costCoverage: { recorded: 1, estimated: 0, unpriced: 0 },
    ...facts,
  });

  test('dollars have cents, and hundredths of them below a dollar; something is never nothing', () => {
    expect([0, 1234.5, 0.0123, 0.00001, -2].map((one) => dollars(one))).toEqual([
      '$0.00',
      '$1,234.50',
      '$0.0123',
      '< $0.0001',
      '-$2.00',
    ]);
  });

  test('a cost that nobody knows is unpriced and not $0', () => {
    const unknown = sums({ cost: null, costCoverage: { recorded: 0, estimated: 0, unpriced: 1 } });
    expect(cost(unknown).toString()).toContain('>unpriced<');
    expect(cost(unknown).toString()).not.toContain('$');
  });

  test('a cost says what is estimated in it and what is left out', () => {
    expect(
      cost(sums({ calls: 2, costCoverage: { recorded: 1, estimated: 1, unpriced: 0 } })).toString(),
    ).toContain('≈ $1.00');
    const partly = cost(
      sums({ calls: 3, costCoverage: { recorded: 1, estimated: 0, unpriced: 2 } }),
    ).toString();
    expect(partly).toContain('≥ $1.00');
    expect(partly).toContain('2 unpriced, not in this sum');
    expect(cost(sums({})).toString()).toBe('$1.00');
  });

  test('a change is a share of what was before, and none where nothing was', () => {
    expect(change(150, 100)).toEqual({ text: '+50 %', way: 'more' });
    expect(change(99, 100)).toEqual({ text: '−1.0 %', way: 'less' });
    expect(change(5000, 100)).toEqual({ text: '× 50', way: 'more' });
    expect(change(5, 0)).toEqual({ text: 'nothing before', way: 'same' });
    expect(change(null, 3)).toEqual({ text: 'no comparison', way: 'same' });
  });

  test('large counts are short', () => {
    expect([9999, 12_345, 999_999, 1_500_000].map(short)).toEqual(['9,999', '12.3 k', '1.0 M', '1.5 M']);
  });
});
