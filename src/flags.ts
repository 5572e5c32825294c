import { InvalidArgumentError } from 'commander';
import type { Settings } from './configfile.ts';

/** The flags of one command, by the names that commander gives them. */
export type Flags = Record<string, unknown>;

/** The flags that are settings, as a layer of the configuration. */
export function pick(...names: string[]): (flags: Flags) => Settings {
  return (flags) => Object.fromEntries(names.map((name) => [name, flags[name]]));
}

export function textIn(flags: Flags, name: string): string | undefined {
  const value = flags[name];
  return typeof value === 'string' ? value : undefined;
}

export function listIn(flags: Flags, name: string): string[] {
  const value = flags[name];
  return Array.isArray(value) ? value.map(String) : [];
}

export function numberIn(flags: Flags, name: string): number | undefined {
  const value = flags[name];
  return typeof value === 'number' ? value : undefined;
}

export function collect(value: string, before: string[] | undefined): string[] {
  return [...new Set([...(before ?? []), value])];
}

export function commas(value: string): string[] {
  const parts = value.split(',').map((part) => part.trim());
  if (parts.includes('')) throw new InvalidArgumentError('Separate names by single commas.');
  return [...new Set(parts)];
}

export function whole(least: number, most: number): (value: string) => number {
  return (value) => {
    const number = /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** ms since 1970 of a time, or of a date's first moment in this machine's time zone. */
export function since(value: string): number {
  return moment(value, 0);
}

/** ms since 1970 of a time, or of the first moment after a date. */
export function until(value: string): number {
  return moment(value, 1);
}

function moment(value: string, daysLater: number): number {
  const [year, month, date] = (/^(\d{4})-(\d{2})-(\d{2})$/.exec(value) ?? []).slice(1).map(Number);
  if (year !== undefined && month !== undefined && date !== undefined) {
    const found = new Date(year, month - 1, date);
    if (found.getMonth() === month - 1 && found.getDate() === date)
      return new Date(year, month - 1, date + daysLater).getTime();
  } else if (/^\d{4}-\d{2}-\d{2}T/.test(value) && !Number.isNaN(Date.parse(value))) return Date.parse(value);
  throw new InvalidArgumentError('Write a date as 2026-10-01 or a time as 2026-10-01T12:00:00Z.');
}
