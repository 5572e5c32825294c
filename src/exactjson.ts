/**
 * JSON put together and taken apart as text: what a sender wrote stays as it was written, numbers that JavaScript
 * cannot hold too, and costs no more than its bytes.
 */

/**
 * `JSON.stringify(fields)` with one field more, the last, whose value is the JSON text as it is. `RangeError` for what
 * is longer than a string can be.
 */
export function withField(fields: object, name: string, text: string, indent = 0): string {
  const rest = JSON.stringify(fields, undefined, indent);
  const pretty = indent > 0;
  const begin = rest === '{}' ? '{' : `${rest.slice(0, pretty ? -2 : -1)},`;
  const field = `${JSON.stringify(name)}:${pretty ? ' ' : ''}${text}`;
  return pretty ? `${begin}\n${' '.repeat(indent)}${field}\n}` : `${begin}${field}}`;
}

/** Where a value is in a text. */
export interface Place {
  start: number;
  end: number;
}

/**
 * The fields of the object that begins at `at`, in their order. Only what holds the fields together is looked at: the
 * values may be anything that is balanced. `SyntaxError` where there is no object.
 */
export function* fieldsIn(text: string, at: number): Generator<Place & { name: string }, number> {
  for (let next = afterOpening(text, at, '{', '}'); ; ) {
    if (next === undefined) return afterSpace(text, afterSpace(text, at) + 1) + 1;
    const nameEnd = endOfString(text, next);
    const name: unknown = JSON.parse(text.slice(next, nameEnd));
    const colon = afterSpace(text, nameEnd);
    if (text[colon] !== ':') throw unexpected(text, colon);
    const start = afterSpace(text, colon + 1);
    const end = endOfValue(text, start);
    yield { name: String(name), start, end };
    const after = afterSpace(text, end);
    if (text[after] === '}') return after + 1;
    if (text[after] !== ',') throw unexpected(text, after);
    next = afterSpace(text, after + 1);
  }
}

/** The same of the elements of an array. */
export function* elementsIn(text: string, at: number): Generator<Place, number> {
  for (let start = afterOpening(text, at, '[', ']'); ; ) {
    if (start === undefined) return afterSpace(text, afterSpace(text, at) + 1) + 1;
    const end = endOfValue(text, start);
    yield { start, end };
    const after = afterSpace(text, end);
    if (text[after] === ']') return after + 1;
    if (text[after] !== ',') throw unexpected(text, after);
    start = afterSpace(text, after + 1);
  }
}

/** Where the first one begins; `undefined` when there is none. */
function afterOpening(text: string, at: number, opening: string, closing: string): number | undefined {
  const start = afterSpace(text, at);
  if (text[start] !== opening) throw unexpected(text, start);
  const first = afterSpace(text, start + 1);
  return text[first] === closing ? undefined : first;
}

function afterSpace(text: string, from: number): number {
  let at = from;
  for (; ; at++) {
    const code = text.charCodeAt(at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at;
  }
}

function endOfValue(text: string, start: number): number {
  const first = text[start];
  if (first === '"') return endOfString(text, start);
  if (first === '{' || first === '[') {
    let depth = 0;
    for (let at = start; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === 0x22) at = endOfString(text, at) - 1;
      else if (code === 0x5b || code === 0x7b) depth++;
      else if ((code === 0x5d || code === 0x7d) && --depth === 0) return at + 1;
    }
    throw unexpected(text, text.length);
  }
  let end = start;
  while (/[-+.0-9A-Za-z]/.test(text[end] ?? '')) end++;
  if (end === start) throw unexpected(text, start);
  return end;
}

/** After the quote that ends the string which begins at `start`. */
function endOfString(text: string, start: number): number {
  if (text[start] !== '"') throw unexpected(text, start);
  for (let at = start + 1; ; at++) {
    const quote = text.indexOf('"', at);
    if (quote === -1) throw unexpected(text, text.length);
    let escapes = quote;
    while (text.charCodeAt(escapes - 1) === 0x5c) escapes--;
    if ((quote - escapes) % 2 === 0) return quote + 1;
    at = quote;
  }
}

/** True when something in a JSON text is deeper than so many levels. */
export function nestedDeeper(text: string, levels: number): boolean {
  if (text.length <= 2 * levels) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) at = endOfString(text, at) - 1;
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > levels) return true;
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
  return false;
}

function unexpected(text: string, at: number): SyntaxError {
  return new SyntaxError(`Unexpected ${at < text.length ? JSON.stringify(text[at]) : 'end'} at ${at}`);
}
