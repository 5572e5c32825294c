import { lstatSync, realpathSync } from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import { readEntries } from './entries.ts';
import { emptyListing, type FileContext, listImportArchive, listSessionsDir } from './files.ts';
import type { AgentHome, State } from './locate.ts';
import { inContainer } from './locks.ts';
import { type ColdRow, listRows } from './rows.ts';
import { agentOfKey } from './sessionkey.ts';
import type { Listing, ListRequest } from './source.ts';
import { codeOf, unreadable } from './unreadable.ts';

/**
 * All that one look at an agent finds, in its files and in its databases. Never throws for what cannot be read:
 * that is named in `unreadable`, and the other sources are listed all the same. Opens no transcript, but for the
 * header of an imported or cold file whose name does not tell its session (with `everything` only).
 */
export async function listAgent(state: State, agent: AgentHome, request: ListRequest): Promise<Listing> {
  const listing = emptyListing();
  const cold = new Map<string, Map<string, ColdRow>>();
  for (const path of distinct(agent.databases)) {
    try {
      if (isOutside(path, agent, state, agent.configured)) {
        listing.skipped.push({ item: path, reason: "a link out of the agent's directory" });
        continue;
      }
      const rows = listRows(agent.id, path, request, state.retention);
      if (rows === undefined) continue;
      listing.places.push(...rows.places);
      if (rows.cold.size > 0) cold.set(real(artifactDirectory(path)), rows.cold);
    } catch (error) {
      listing.unreadable.push(unreadable(agent.id, path, error));
    }
  }

  const entries = await readEntries(agent.id, agent.indexes);
  listing.unreadable.push(...entries.unreadable);
  // What the database knows of a session holds for its files too.
  for (const { sessionId, about } of listing.places)
    if (about.sessionKey !== undefined && !entries.keys.has(sessionId))
      entries.keys.set(sessionId, about.sessionKey);
  const directories = distinct([agent.sessionsDir, ...agent.otherSessionsDirs, ...cold.keys()]);
  const own = new Set(directories.map(real));
  const base: Omit<FileContext, 'cold'> = {
    agent: agent.id,
    entries,
    request,
    retention: state.retention,
    // A container's paths in the entries: its pids are not ours.
    samePids: !inContainer() && [...entries.directories].every((directory) => own.has(real(directory))),
  };
  for (const directory of directories) {
    const sharing = agent.shared && directory === agent.sessionsDir;
    add(
      listing,
      await guarded(directory, agent, state, () =>
        listSessionsDir(directory, {
          ...base,
          cold: cold.get(real(directory)) ?? new Map<string, ColdRow>(),
          owns: sharing ? ownership(state, agent, entries.keys) : undefined,
        }),
      ),
    );
  }
  if (request.everything) {
    const archives = directories.map((directory) =>
      join(dirname(directory), basename(agent.importArchiveDir)),
    );
    for (const path of distinct([agent.importArchiveDir, ...archives])) {
      const sharing = agent.shared && path === agent.importArchiveDir;
      const owns = sharing ? ownership(state, agent, entries.keys) : undefined;
      const context = { ...base, cold: new Map<string, ColdRow>(), owns };
      add(listing, await guarded(path, agent, state, () => listImportArchive(path, dirname(path), context)));
    }
  }
  return listing;
}

/** In a shared directory: by the agent in the session key, and without one the default agent's. */
function ownership(
  state: State,
  agent: AgentHome,
  keys: Map<string, string>,
): (sessionId: string) => boolean {
  return (sessionId) => {
    const key = keys.get(sessionId);
    const owner = key === undefined ? undefined : agentOfKey(key);
    const known = owner !== undefined && state.agents.some((other) => other.id === owner);
    return (known ? owner : state.defaultAgent) === agent.id;
  };
}

/** Where a database's cold and published archives lie: OpenClaw's rule. */
function artifactDirectory(database: string): string {
  const directory = dirname(database);
  return basename(directory) === 'agent' ? join(dirname(directory), 'sessions') : directory;
}

async function guarded(
  path: string,
  agent: AgentHome,
  state: State,
  list: () => Promise<Listing>,
): Promise<Listing> {
  const listing = emptyListing();
  try {
    if (!isOutside(path, agent, state, agent.configured)) return await list();
    listing.skipped.push({ item: path, reason: "a link out of the agent's directory" });
  } catch (error) {
    listing.unreadable.push(unreadable(agent.id, path, error));
  }
  return listing;
}

/**
 * True for a path below the agent's usual directory that really lies elsewhere: the agent itself could have made
 * such a link. Places that the configuration names are its owner's choice.
 */
function isOutside(
  path: string,
  agent: AgentHome,
  state: State,
  configured: AgentHome['configured'],
): boolean {
  const home = join(state.stateDir, 'agents', agent.id);
  if (!path.startsWith(home + sep)) return false;
  if (configured.sessions && path === agent.sessionsDir) return false;
  if (configured.database && dirname(path) === agent.agentDir) return false;
  try {
    const at = realpathSync(path);
    const around = realpathSync(home);
    return at !== around && !at.startsWith(around + sep);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR')
      return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
    throw error;
  }
}

function add(listing: Listing, more: Listing): void {
  for (const place of more.places) listing.places.push(place);
  listing.skipped.push(...more.skipped);
  listing.unreadable.push(...more.unreadable);
}

/** Without those that are the same place by another path. */
function distinct(paths: readonly string[]): string[] {
  const seen = new Map<string, string>();
  for (const path of paths) if (!seen.has(real(path))) seen.set(real(path), path);
  return [...seen.values()];
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (codeOf(error) !== undefined) return path;
    throw error;
  }
}
