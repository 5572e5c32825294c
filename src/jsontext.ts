/** Longer texts are not made into values: as values, a sender's bytes take up to a hundred times their room. */
const longestParsed = 1024 * 1024;

/** Whether a text is JSON, by the rules of `JSON.parse` and at the cost of its own bytes, however long or deep it is. */
export function isJson(text: string, longest = longestParsed): boolean {
  if (text.length > longest) return holdsOneValue(text);
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

/** Whether a text is too long for `JSON.parse` where only some of it is wanted. */
export function isLongJson(text: string): boolean {
  return text.length > longestParsed;
}

const inArray = 0;
const inObject = 1;

function holdsOneValue(text: string): boolean {
  const outer = levels();
  for (let at = afterSpace(text, 0); ; ) {
    const code = text.charCodeAt(at);
    if (code === 0x7b || code === 0x5b) {
      const first = afterSpace(text, at + 1);
      // The closing one is two characters after the opening one.
      if (text.charCodeAt(first) === code + 2) at = first + 1;
      else {
        outer.enter(code === 0x7b ? inObject : inArray);
        at = code === 0x7b ? afterName(text, first) : first;
        if (at === -1) return false;
        continue;
      }
    } else at = afterScalar(text, at);
    if (at === -1) return false;
    for (;;) {
      at = afterSpace(text, at);
      const within = outer.now();
      if (within === undefined) return at === text.length;
      const next = text.charCodeAt(at);
      if (next === 0x2c) {
        at = afterSpace(text, at + 1);
        if (within === inObject) at = afterName(text, at);
        if (at === -1) return false;
        break;
      }
      if (next !== (within === inObject ? 0x7d : 0x5d)) return false;
      outer.leave();
      at += 1;
    }
  }
}

/** What encloses a place, a byte a level. */
function levels() {
  let kinds = new Uint8Array(64);
  let depth = 0;
  return {
    now: () => (depth === 0 ? undefined : kinds[depth - 1]),
    leave: () => void (depth -= 1),
    enter(kind: number): void {
      if (depth === kinds.length) {
        const more = new Uint8Array(2 * depth);
        more.set(kinds);
        kinds = more;
      }
      kinds[depth++] = kind;
    },
  };
}

function afterSpace(text: string, from: number): number {
  for (let at = from; ; at++) {
    const code = text.charCodeAt(at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at;
  }
}

/** Where the value of a field begins, whose name begins at `at`; -1 where there is none. */
function afterName(text: string, at: number): number {
  const end = afterString(text, at);
  if (end === -1) return -1;
  const colon = afterSpace(text, end);
  return text.charCodeAt(colon) === 0x3a ? afterSpace(text, colon + 1) : -1;
}

function afterScalar(text: string, at: number): number {
  switch (text[at] ?? '') {
    case '"':
      return afterString(text, at);
    case 't':
      return text.startsWith('true', at) ? at + 4 : -1;
    case 'f':
      return text.startsWith('false', at) ? at + 5 : -1;
    case 'n':
      return text.startsWith('null', at) ? at + 4 : -1;
    default:
      return afterNumber(text, at);
  }
}

function afterString(text: string, start: number): number {
  if (text.charCodeAt(start) !== 0x22) return -1;
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) return at + 1;
    if (code < 0x20) return -1;
    if (code !== 0x5c) continue;
    at += 1;
    const escaped = text[at] ?? '';
    if (escaped === 'u') {
      for (const end = at + 4; at < end; ) if (!isHexDigit(text.charCodeAt(++at))) return -1;
    } else if (escaped === '' || !'"\\/bfnrt'.includes(escaped)) return -1;
  }
  return -1;
}

function isHexDigit(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || ((code | 0x20) >= 0x61 && (code | 0x20) <= 0x66);
}

function afterNumber(text: string, start: number): number {
  const first = text.charCodeAt(start) === 0x2d ? start + 1 : start;
  let at = text.charCodeAt(first) === 0x30 ? first + 1 : afterDigits(text, first);
  if (at === -1) return -1;
  if (text.charCodeAt(at) === 0x2e) at = afterDigits(text, at + 1);
  if (at === -1 || (text[at] !== 'e' && text[at] !== 'E')) return at;
  const sign = text[at + 1] === '+' || text[at + 1] === '-';
  return afterDigits(text, at + (sign ? 2 : 1));
}

/** -1 where there is no digit. */
function afterDigits(text: string, start: number): number {
  let at = start;
  for (; ; at++) {
    const code = text.charCodeAt(at);
    if (!(code >= 0x30 && code <= 0x39)) return at === start ? -1 : at;
  }
}
