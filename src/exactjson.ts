declare global {
  interface JSON {
    rawJSON(text: string): object;
    isRawJSON(value: unknown): value is { rawJSON: string };
  }
}

/**
 * Numbers that JavaScript may write in another way than they were written: long ones, exponents, `-0`, zeros at the
 * end of a fraction or many at its beginning. Where none of these is (in a text either), reading is exact as it is.
 */
const maybeInexact = /[0-9][eE][+-]?[0-9]|[0-9.]{16}|\.[0-9]*0(?![0-9])|-0(?![.0-9])|\.00000/;

/**
 * The value of a JSON text, from which `JSON.stringify` writes every number as it was written: one that JavaScript
 * would write in another way is an object of `JSON.rawJSON`. Of a name that comes twice in an object the last counts.
 * Throws as `JSON.parse` does, and `RangeError` for what is nested thousands deep.
 */
export function parseExactJson(text: string): unknown {
  if (!maybeInexact.test(text)) return JSON.parse(text);
  return JSON.parse(text, exact);
}

/** The declared type of a reviver knows nothing of the third parameter. */
function exact(_name: string, value: unknown, ...[context]: { source?: string }[]): unknown {
  const source = context?.source;
  return typeof value === 'number' && source !== undefined && String(value) !== source
    ? JSON.rawJSON(source)
    : value;
}
