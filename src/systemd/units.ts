import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { NexusError } from '../errors.ts';
import type { Mode } from './systemctl.ts';

/** `host`: the jobs beside OpenClaw. `endpoint`: `nexus serve`. */
export type Role = 'host' | 'endpoint' | 'both';

/** Which role a unit file is of, in the order in which they are written; those of either look after the others. */
const units: Record<string, 'host' | 'endpoint' | 'either'> = {
  'nexus-serve.service': 'endpoint',
  'nexus-upload.service': 'host',
  'nexus-upload.timer': 'host',
  'nexus-pull-webhooks.service': 'host',
  'nexus-pull-webhooks.timer': 'host',
  'nexus-status.service': 'either',
  'nexus-status.timer': 'either',
  'nexus-backfill.service': 'host',
  'nexus-alert@.service': 'either',
};

/** The unit files of a role, in the order in which they are written. */
export function unitsOf(role: Role): string[] {
  return Object.keys(units).filter(
    (unit) => role === 'both' || units[unit] === role || units[unit] === 'either',
  );
}

/** The roles that such unit files belong to. */
export function rolesOf(there: Iterable<string>): { host: boolean; endpoint: boolean } {
  const found = new Set([...there].map((unit) => units[unit]));
  return { host: found.has('host'), endpoint: found.has('endpoint') };
}

/** A value of a template; a list repeats the line that names it, and an empty one leaves it out. */
export type Values = Record<string, string | readonly string[]>;

/** The text of a unit, filled in. */
export function renderUnit(unit: string, mode: Mode, values: Values): string {
  const lines = template(unit).flatMap((line) =>
    line === '#include hardening' ? ['', ...template('hardening.conf')] : [line],
  );
  return `${lines
    .flatMap((line) => forMode(line, mode))
    .flatMap((line) => filled(line, values))
    .join('\n')}\n`;
}

function forMode(line: string, mode: Mode): string[] {
  const [, only, rest] = /^(system|user): (.*)$/.exec(line) ?? [];
  if (only === undefined || rest === undefined) return [line];
  return only === mode ? [rest] : [];
}

function filled(line: string, values: Values): string[] {
  const name = /@([a-zA-Z]+)@/.exec(line)?.[1];
  if (name === undefined) return [line];
  const value = values[name];
  if (value === undefined) throw new Error(`A template names ${name}, which has no value.`);
  return (typeof value === 'string' ? [value] : value).map((one) => line.replace(`@${name}@`, () => one));
}

function template(name: string): string[] {
  return readFileSync(path.join(templates(), name), 'utf8').trimEnd().split('\n');
}

/** `systemd/` of the package, which is beside `dist/` and beside `src/`. */
function templates(): string {
  for (let at = import.meta.dirname; at !== path.dirname(at); at = path.dirname(at)) {
    const directory = path.join(at, 'systemd');
    if (holdsTemplates(directory)) return directory;
  }
  throw new NexusError('unavailable', 'The unit files of this package are missing.', {
    hint: 'Install Nexus again.',
  });
}

function holdsTemplates(directory: string): boolean {
  try {
    return readdirSync(directory).includes('hardening.conf');
  } catch (error) {
    if (error instanceof Error && 'code' in error) return false;
    throw error;
  }
}

/** A word of a unit file, whatever is in it. */
export function word(value: string): string {
  refuseControl(value);
  const escaped = value.replaceAll('%', '%%');
  return /^[\w@%+=:,./~-]+$/.test(escaped)
    ? escaped
    : `"${escaped.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** What a word of a unit file says. */
export function plainWord(text: string): string {
  const bare = text.startsWith('"') ? text.slice(1, -1).replace(/\\(.)/gs, '$1') : text;
  return bare.replaceAll('%%', '%');
}

/** A word of a command line, where `$` is special too. */
export function commandWord(value: string): string {
  return word(value).replaceAll('$', '$$$$');
}

/** A path of BindPaths= and its like, where `:` is special outside of quotes; `-` lets it be missing. */
export function pathWord(file: string): string {
  const quoted = word(`-${file}`);
  return quoted.includes(':') && !quoted.startsWith('"') ? `"${quoted}"` : quoted;
}

/** The last part of `LoadCredential=`, which is no word: spaces and quotes are its own, and only `%` is special. */
export function restOfLine(value: string): string {
  refuseControl(value);
  return value.replaceAll('%', '%%');
}

function refuseControl(value: string): void {
  if (/\p{Cc}/u.test(value))
    throw new NexusError('config', `${JSON.stringify(value)} cannot stand in a unit file.`);
}
