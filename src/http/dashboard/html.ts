import { visible } from '../../format.ts';

/** Markup that may be sent as it is. Made by `html` alone. */
export class Html {
  readonly #markup: string;

  constructor(markup: string) {
    this.#markup = markup;
  }

  toString(): string {
    return this.#markup;
  }
}

/** What can stand in a template: markup as it is, anything else as text. `undefined`, `null` and `false` are nothing. */
export type Part = Html | string | number | undefined | null | false | readonly Part[];

/**
 * Markup of a template whose values are escaped, whatever they are and wherever they stand; in an attribute they must
 * stand between quotes. Text shows what would hide or turn it, as the terminal's output does.
 */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  return new Html(strings.reduce((made, string, nth) => made + markupOf(parts[nth - 1]) + string));
}

function markupOf(part: Part): string {
  if (part === undefined || part === null || part === false) return '';
  if (part instanceof Html) return part.toString();
  if (typeof part === 'string' || typeof part === 'number') return escaped(String(part));
  return part.map(markupOf).join('');
}

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '`': '&#96;',
};

function escaped(text: string): string {
  return shown(text).replace(/[&<>"'`]/g, (character) => entities[character] ?? '');
}

/** Lines and tabs stay; what controls a terminal or turns the direction of text is written out. */
function shown(text: string): string {
  if (/^[\n\t\u0020-\u007e]*$/.test(text)) return text;
  return text
    .replaceAll('\r\n', '\n')
    .split('\n')
    .map((line) => line.split('\t').map(visible).join('\t'))
    .join('\n');
}
