import { formatCount } from '../../format.ts';
import type { Sums } from '../../usagequery.ts';
import { html, type Html } from './html.ts';

/** `$1,234.50`; below a dollar in hundredths of cents, so that cheap calls are not all nothing, unless cents will do. */
export function dollars(amount: number, fewest = 4): string {
  const digits = Math.abs(amount) >= 1 || amount === 0 || (fewest === 2 && amount >= 0.1) ? 2 : 4;
  const text = Math.abs(amount).toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  if (amount > 0 && Number(text) === 0) return '< $0.0001';
  return `${amount < 0 ? '-' : ''}$${text}`;
}

/** `1,234`, `56.7 k`, `8.9 M`, `1.2 G`: for where there is little room. */
export function short(count: number): string {
  if (count < 10_000) return formatCount(count);
  const units = ['k', 'M', 'G', 'T'];
  let value = count;
  let unit = -1;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value >= 99.5 ? 0 : 1)} ${units[unit]}`;
}

/** A cost with what it leaves out said beside it; never $0 for what nobody knows. */
export function cost({ cost: known, calls, costCoverage }: Sums, fewest = 4): Html {
  if (known === null)
    return html`<span class="unpriced" title="No price is known for any of these calls">unpriced</span>`;
  const estimated = costCoverage.estimated > 0;
  const unpriced = costCoverage.unpriced > 0;
  if (calls === 0 || (!estimated && !unpriced)) return html`${dollars(known, fewest)}`;
  const notes = [
    ...(estimated ? [`${formatCount(costCoverage.estimated)} of ${formatCount(calls)} calls estimated`] : []),
    ...(unpriced ? [`${formatCount(costCoverage.unpriced)} unpriced, not in this sum`] : []),
  ];
  return html`<span title="${notes.join('; ')}">${unpriced ? '≥ ' : '≈ '}${dollars(known, fewest)}</span>`;
}

export interface Change {
  text: string;
  /** More or less spending; `same` also where there is nothing to compare with. */
  way: 'more' | 'less' | 'same';
}

/** How one figure stands to that of the time before. */
export function change(now: number | null, before: number | null): Change {
  if (now === null || before === null) return { text: 'no comparison', way: 'same' };
  if (before === 0) return { text: now === 0 ? 'as before' : 'nothing before', way: 'same' };
  const share = now / before - 1;
  if (Math.abs(share) < 0.0005) return { text: 'as before', way: 'same' };
  const size = Math.abs(share);
  const text =
    size >= 10 ? `× ${(now / before).toFixed(0)}` : `${(size * 100).toFixed(size < 0.1 ? 1 : 0)} %`;
  return size >= 10
    ? { text, way: 'more' }
    : { text: `${share > 0 ? '+' : '−'}${text}`, way: share > 0 ? 'more' : 'less' };
}

/** A bar as wide as its share of the greatest; readable without a script, and without a style of its own. */
export function bar(value: number, greatest: number): Html {
  const width = greatest > 0 ? Math.max(value > 0 ? 0.5 : 0, (value / greatest) * 100).toFixed(1) : '0';
  return html`<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width="${width}" height="8" rx="1" /></svg>`;
}
