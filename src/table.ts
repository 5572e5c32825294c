import { stripVTControlCharacters } from 'node:util';
import { visible } from './format.ts';

export interface Column {
  title: string;
  /** Numbers are right-aligned without being asked. */
  align?: 'left' | 'right';
}

export type Cell = string | number;

const gap = '  ';
/** No column is cut below this many cells of the terminal. */
const leastWidth = 8;

/** Lines of aligned text, a heading first. With `width`, the widest columns are cut with "…" until it fits. */
export function layOut(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  width?: number,
): string[] {
  const titles = columns.map((column) => column.title);
  const texts = [titles, ...rows.map((row) => columns.map((_, index) => visible(String(row[index] ?? ''))))];
  const right = columns.map((column, index) =>
    column.align === undefined
      ? rows.length > 0 && rows.every((row) => typeof row[index] === 'number')
      : column.align === 'right',
  );
  const widths = columns.map((_, index) => Math.max(...texts.map((row) => widthOf(row[index] ?? ''))));
  if (width !== undefined) shrink(widths, width);
  return texts.map((row) =>
    row
      .map((text, index) => {
        const cut = truncate(text, widths[index] ?? 0);
        const padding = ' '.repeat(Math.max(0, (widths[index] ?? 0) - widthOf(cut)));
        return right[index] ? padding + cut : cut + padding;
      })
      .join(gap)
      .trimEnd(),
  );
}

function shrink(widths: number[], width: number): void {
  let excess = widths.reduce((sum, one) => sum + one, 0) + gap.length * (widths.length - 1) - width;
  while (excess > 0) {
    const widest = widths.indexOf(Math.max(...widths));
    const current = widths[widest] ?? 0;
    if (current <= leastWidth) return;
    widths[widest] = current - 1;
    excess -= 1;
  }
}

const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;
let segmenter: Intl.Segmenter | undefined;

/** Made when the first text needs it: what makes it takes longer than most commands write. */
function graphemes(text: string): Iterable<{ segment: string }> {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return segmenter.segment(text);
}

/** Cells of a terminal that a text takes. */
export function widthOf(text: string): number {
  const plain = stripVTControlCharacters(text);
  if (/^[\u0020-\u007e]*$/.test(plain)) return plain.length;
  let width = 0;
  for (const { segment } of graphemes(plain)) width += wide.test(segment) ? 2 : 1;
  return width;
}

function truncate(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let cut = '';
  let used = 0;
  for (const { segment } of graphemes(text)) {
    used += wide.test(segment) ? 2 : 1;
    if (used > width - 1) break;
    cut += segment;
  }
  return `${cut}…`;
}

/** Text in lines of at most `width` cells, broken between words, the further ones after `indent`; one line without. */
export function wrapped(text: string, width: number | undefined, indent = ''): string[] {
  if (width === undefined) return [text];
  const lines: string[] = [];
  let line = '';
  for (const part of text.split(' ')) {
    const longer = line === '' ? part : `${line} ${part}`;
    if (line.trim() === '' || widthOf(longer) <= width) {
      line = line.trim() === '' ? `${line}${part}` : longer;
      continue;
    }
    lines.push(line);
    line = `${indent}${part}`;
  }
  return [...lines, line];
}
