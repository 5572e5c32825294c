import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { NexusError } from '../../errors.ts';

/** A file that pages name. Its own name holds its content's hash, so that it can be kept for ever. */
export interface Asset {
  name: string;
  type: string;
  body: Buffer;
  gzipped: Buffer;
}

export interface Assets {
  style: Asset;
  script: Asset;
  icon: Asset;
  /** By name; `undefined` for what is not, or no longer, there. */
  named: (name: string) => Asset | undefined;
}

/** What `npm run build` has made for browsers. `unavailable` where it is missing. */
export function readAssets(): Assets {
  const directory = placeOfAssets();
  const style = assetOf(directory, 'dashboard', '.css', 'text/css; charset=utf-8');
  const script = assetOf(directory, 'dashboard', '.js', 'text/javascript; charset=utf-8');
  const icon = assetOf(directory, 'icon', '.svg', 'image/svg+xml');
  const all = [style, script, icon];
  return { style, script, icon, named: (name) => all.find((asset) => asset.name === name) };
}

function assetOf(directory: string, name: string, extension: string, type: string): Asset {
  const body = readFileSync(path.join(directory, name + extension));
  const hash = createHash('sha256').update(body).digest('base64url').slice(0, 12);
  return { name: `${name}-${hash}${extension}`, type, body, gzipped: gzipSync(body) };
}

/** `dist/dashboard/` of the package, from `dist/` as well as from `src/`. */
function placeOfAssets(): string {
  for (let at = import.meta.dirname; at !== path.dirname(at); at = path.dirname(at)) {
    const directory = path.join(at, 'dist', 'dashboard');
    if (existsSync(path.join(directory, 'dashboard.js'))) return directory;
  }
  throw new NexusError('unavailable', 'The files of the dashboard are missing from this package.', {
    hint: 'Run `npm run build`, or install Nexus again.',
  });
}
