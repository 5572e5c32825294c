/** An entry as a collector would read it. */
export interface Read {
  /** `<4>`'s 4; `undefined` in JSON. */
  priority?: number;
  fields: Record<string, unknown>;
  /** The lines that belong to it. */
  stack: string[];
}

const escapes = /^"(?:[^"\\\p{Cc}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/u;
// A bare value has nothing that any reader takes for an end, a quote or a pair.
const bare = /^[^\s"=\\\p{C}]+/u;

/** Entries under journald. Throws for whatever is not a priority and logfmt, or a line of a stack. */
export function readJournal(text: string): Read[] {
  if (text !== '' && !text.endsWith('\n')) throw new Error('The last line has no end.');
  const entries: Read[] = [];
  for (const line of text.split('\n').slice(0, -1)) {
    const [, priority, rest = ''] = /^<([3-7])>(.+)$/u.exec(line) ?? [];
    if (priority === undefined) throw new Error(`No priority: ${line}`);
    const last = entries.at(-1);
    if (rest.startsWith('  ')) {
      if (last === undefined || last.priority !== Number(priority)) throw new Error(`Of no entry: ${line}`);
      last.stack.push(rest.trim());
    } else entries.push({ priority: Number(priority), fields: readLogfmt(rest), stack: [] });
  }
  return entries;
}

export function readLogfmt(line: string): Record<string, string> {
  const fields: Record<string, string> = {};
  let rest = line;
  for (;;) {
    const [pair, name = ''] = /^([A-Za-z]+)=/.exec(rest) ?? [];
    if (pair === undefined) throw new Error(`No name: ${rest}`);
    if (Object.hasOwn(fields, name)) throw new Error(`Twice: ${name}`);
    rest = rest.slice(pair.length);
    const [value] = (rest.startsWith('"') ? escapes : bare).exec(rest) ?? [];
    if (value === undefined) throw new Error(`No value: ${rest}`);
    fields[name] = value.startsWith('"') ? String(JSON.parse(value)) : value;
    rest = rest.slice(value.length);
    if (rest === '') return fields;
    if (!rest.startsWith(' ')) throw new Error(`No space: ${rest}`);
    rest = rest.slice(1);
  }
}

/** Entries of `--log-format json`, each an object on a line, with its time, level and message first. */
export function readJsonLog(text: string): Read[] {
  if (text !== '' && !text.endsWith('\n')) throw new Error('The last line has no end.');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const fields: Record<string, unknown> = Object.fromEntries(Object.entries(Object(JSON.parse(line))));
      if (!/^time,level,message(,|$)/.test(Object.keys(fields).join()))
        throw new Error(`Not an entry: ${line}`);
      if (Number.isNaN(Date.parse(String(fields['time'])))) throw new Error(`No time: ${line}`);
      if (!['error', 'warn', 'info', 'debug'].includes(String(fields['level'])))
        throw new Error(`No level: ${line}`);
      return { fields, stack: [] };
    });
}
