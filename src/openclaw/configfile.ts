import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import JSON5 from 'json5';
import { messageOf } from '../errors.ts';
import { codeOf, ownerOf } from './unreadable.ts';

export type Json = Record<string, unknown>;

const deepest = 10;
const longest = 2 * 1024 * 1024;

/**
 * openclaw.json as OpenClaw reads it: JSON5, `$include` (a path or several, relative to the including file, merged
 * in order, the including file's own keys last), `${NAME}` from the environment. Whatever is wrong there becomes a
 * warning and counts as absent: a broken configuration must not stop archiving.
 */
export function readConfig(
  path: string,
  env: Record<string, string | undefined>,
): { config: Json; warnings: string[] } {
  const warnings: string[] = [];
  const root = load(path, [], warnings);
  const config = substitute(root, env);
  return { config: isObject(config) ? config : {}, warnings };
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function load(path: string, chain: readonly string[], warnings: string[]): unknown {
  if (chain.includes(path)) {
    warnings.push(`${path} includes itself (${[...chain, path].join(' → ')}); it was left out there.`);
    return {};
  }
  if (chain.length > deepest) {
    warnings.push(`${path} is included more than ${deepest} levels deep; it was left out.`);
    return {};
  }
  const parsed = parse(path, warnings);
  return parsed === undefined ? {} : include(parsed, path, [...chain, path], warnings);
}

function parse(path: string, warnings: string[]): unknown {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) throw new Error('it is not a regular file');
    if (stat.size > longest) throw new Error(`it is larger than ${longest} bytes`);
    return parseText(readFileSync(path, 'utf8'));
  } catch (error) {
    const denied = codeOf(error) === 'EACCES' ? ` (${ownerOf(path)})` : '';
    const reason = messageOf(error);
    warnings.push(`${path} cannot be used: ${reason}${denied}. Agents are found by their directories.`);
    return undefined;
  }
}

/** What OpenClaw writes itself is JSON, which Node reads in a fraction of the time; what it is not, JSON5 says. */
function parseText(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return JSON5.parse<unknown>(text);
  }
}

function include(value: unknown, path: string, chain: readonly string[], warnings: string[]): unknown {
  if (Array.isArray(value)) return value.map((item) => include(item, path, chain, warnings));
  if (!isObject(value)) return value;
  const own: Json = {};
  for (const [key, inner] of Object.entries(value))
    if (key !== '$include' && key !== '__proto__') own[key] = include(inner, path, chain, warnings);
  if (!('$include' in value)) return own;
  const named: unknown[] = Array.isArray(value['$include']) ? value['$include'] : [value['$include']];
  let merged: unknown = {};
  for (const name of named) {
    if (typeof name !== 'string' || name === '' || name.includes('\0')) {
      warnings.push(`${path} has an $include that is no path; it was left out.`);
      continue;
    }
    merged = merge(merged, load(resolve(dirname(path), name), chain, warnings));
  }
  return Object.keys(own).length === 0 ? merged : merge(merged, own);
}

/** Objects merge, lists are joined, otherwise the later one wins: OpenClaw's rule. */
function merge(first: unknown, second: unknown): unknown {
  if (Array.isArray(first) && Array.isArray(second)) return [first, second].flat();
  if (!isObject(first) || !isObject(second)) return second;
  const merged: Json = { ...first };
  for (const [key, value] of Object.entries(second))
    merged[key] = key in merged ? merge(merged[key], value) : value;
  return merged;
}

function substitute(value: unknown, env: Record<string, string | undefined>): unknown {
  if (typeof value === 'string')
    return value.replace(/(\$?)\$\{([A-Z_][A-Z0-9_]*)\}/g, (all, escaped: string, name: string) =>
      escaped === '' ? (env[name] ?? all) : all.slice(1),
    );
  if (Array.isArray(value)) return value.map((item) => substitute(item, env));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, substitute(inner, env)]));
}
