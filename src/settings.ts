import { isSettings, type Settings } from './configfile.ts';

/** What lies at a path of keys, own properties only. */
export function valueAt(settings: unknown, path: readonly string[]): unknown {
  let value = settings;
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    const own: { value?: unknown } | undefined = Object.getOwnPropertyDescriptor(value, key);
    value = own?.value;
  }
  return value;
}

/** The settings with one of them changed, or without it; objects that become empty go with it. */
export function withValue(
  settings: Settings,
  [key = '', ...rest]: readonly string[],
  value: unknown,
): Settings {
  const others = Object.entries(settings).filter(([name]) => name !== key);
  const below = valueAt(settings, [key]);
  const changed = rest.length === 0 ? value : withValue(isSettings(below) ? below : {}, rest, value);
  const gone = changed === undefined || (value === undefined && isSettings(changed) && isEmpty(changed));
  return Object.fromEntries<unknown>(gone ? others : [...others, [key, changed]]);
}

function isEmpty(settings: Settings): boolean {
  return Object.keys(settings).length === 0;
}

/**
 * The keys of a dotted name. A dot of a key's own (an agent's id, a source like `put.io`) is written `\\.`; without
 * that, keys that are there are known with their dots, the longest first.
 */
export function keysIn(settings: unknown, name: string): string[] {
  const parts = name.split(/(?<!\\)\./).map((part) => part.replaceAll('\\.', '.'));
  const keys: string[] = [];
  let below = settings;
  for (let first = 0; first < parts.length; ) {
    let count = parts.length - first;
    while (count > 1 && valueAt(below, [parts.slice(first, first + count).join('.')]) === undefined) count--;
    const key = parts.slice(first, first + count).join('.');
    keys.push(key);
    below = valueAt(below, [key]);
    first += count;
  }
  return keys;
}
