import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { listAgent } from '../../src/openclaw/agent.ts';
import { locate, type State } from '../../src/openclaw/locate.ts';
import type { Bytes, Listing, ListRequest, Place } from '../../src/openclaw/source.ts';

const root = join(import.meta.dirname, '..', 'fixtures', 'openclaw');

export const fixtures = [
  'files-2026.2.26',
  'files-2026.7.35',
  'files-2026.7.35-live',
  'sqlite-2026.8.1',
  'sqlite-2026.9.6',
  'sqlite-2026.9.6-live',
  'sqlite-cold-2026.9.6',
  'sqlite-coldfiles-2026.9.6',
  'upgraded-2026.7.35-to-2026.9.6',
] as const;

export type Fixture = (typeof fixtures)[number];

/** After everything in the fixtures happened, by some months. */
export const later = Date.parse('2027-03-01T00:00:00Z');

/** A directory of this test's own, removed after it. */
export function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'nexus-openclaw-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A copy of a fixture, since SQLite may create files beside a database. */
export function copyOf(fixture: Fixture): string {
  const path = join(temporary(), 'state');
  cpSync(join(root, fixture), path, { recursive: true, preserveTimestamps: true });
  return path;
}

export interface Truth {
  agents: string[];
  sessions: Record<string, { agent: string; places: Record<string, { state: string; records: number }> }>;
}

export function truthOf(fixture: Fixture): Truth {
  const truth: Truth = JSON.parse(readFileSync(join(root, fixture, 'truth.json'), 'utf8'));
  return truth;
}

export function locateAt(stateDir: string, env: Record<string, string> = {}): Promise<State> {
  return locate({ HOME: '/nonexistent', OPENCLAW_STATE_DIR: stateDir, ...env });
}

export async function list(
  stateDir: string,
  agent: string,
  request: Partial<ListRequest> = {},
): Promise<Listing> {
  const state = await locateAt(stateDir);
  const home = state.agents.find(({ id }) => id === agent);
  if (home === undefined) throw new Error(`no agent ${agent}`);
  return listAgent(state, home, { everything: true, now: later, settleMs: 600_000, ...request });
}

/** All that an opened place gives, which is then closed. */
export async function drain(bytes: Bytes): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  try {
    for await (const piece of bytes.pieces()) pieces.push(Buffer.from(piece));
    await bytes.unchanged();
  } finally {
    await bytes.close();
  }
  return Buffer.concat(pieces);
}

export async function read(place: Place | undefined): Promise<Buffer> {
  if (place === undefined) throw new Error('no such place');
  return drain(await place.open());
}

/** The one place whose path ends so. */
export function at(listing: Listing, end: string): Place {
  const found = listing.places.filter((place) => place.place.endsWith(end));
  if (found.length !== 1 || found[0] === undefined) throw new Error(`${found.length} places end in ${end}`);
  return found[0];
}
