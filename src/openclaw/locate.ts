import { readdirSync, type Stats, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { agentIdPattern } from '../agents.ts';
import { NexusError } from '../errors.ts';
import type { ModelPrice } from '../prices.ts';
import { isObject, type Json, readConfig } from './configfile.ts';
import { type Retention, retentionOf } from './retention.ts';
import { pricesOf } from './modelprices.ts';
import { codeOf, readError, unreadable } from './unreadable.ts';

/** Where one agent's data lies. None of these paths need exist. */
export interface AgentHome {
  /** OpenClaw's id. */
  id: string;
  /** Where its transcripts are written: beside the file that `session.store` names. */
  sessionsDir: string;
  /** Further places that may hold some: the usual one where the configuration moved it, and that of old releases. */
  otherSessionsDirs: string[];
  /** Files that say which sessions are active. */
  indexes: string[];
  agentDir: string;
  /** Databases that may hold its rows, the usual one first. */
  databases: string[];
  /** Where `doctor` put the files it took into the database. */
  importArchiveDir: string;
  workspace: string;
  /** Several agents write to one sessions directory, so that only session keys tell whose a transcript is. */
  shared: boolean;
  /** Paths come from the configuration rather than from a directory under `agents/`. */
  configured: { sessions: boolean; database: boolean };
}

/** An OpenClaw installation as its configuration and its directories show it. */
export interface State {
  stateDir: string;
  configPath: string | undefined;
  /** What is wrong with the configuration, agents that are refused included. Nothing in it stops archiving. */
  warnings: string[];
  /** In the order of their ids, which OpenClaw allows to be looser than `agentIdPattern`. */
  agents: AgentHome[];
  /** Which agent owns what no session key tells apart. */
  defaultAgent: string;
  retention: Retention;
  /** What its configuration says that models cost. */
  prices: ModelPrice[];
}

type Env = Record<string, string | undefined>;

const legacyDirs = ['.clawdbot', '.moldbot', '.moltbot'];
const configNames = ['openclaw.json', 'clawdbot.json', 'moltbot.json', 'moldbot.json'];

/**
 * Finds OpenClaw's state by its own rules. `config` when there is no state directory. A configuration that is
 * malformed or unreadable only leaves warnings: the agents that have a directory are found all the same.
 */
export async function locate(env: Env): Promise<State> {
  const home = homeOf(env);
  const stateDir = stateDirOf(env, home);
  const named = first(env, 'OPENCLAW_CONFIG_PATH', 'CLAWDBOT_CONFIG_PATH');
  const configPath =
    named === undefined
      ? configNames.map((name) => join(stateDir, name)).find((path) => isThere(path))
      : expand(named, home);
  const { config, warnings } =
    configPath === undefined ? { config: {}, warnings: [] } : readConfig(configPath, env);

  const roster = rosterOf(config, warnings);
  const directories = agentDirectories(stateDir, warnings);
  const ids = new Set([...roster.map((entry) => entry.id), ...directories]);
  if (roster.length === 0) ids.add('main');
  const marked = roster.find((entry) => entry.json['default'] === true)?.id;
  const defaultAgent = marked ?? (ids.has('main') ? 'main' : (roster[0]?.id ?? 'main'));

  const agents = [...ids].sort().map((id) =>
    homeOfAgent({
      id,
      entry: roster.find((entry) => entry.id === id)?.json ?? {},
      config,
      env,
      home,
      stateDir,
      defaultAgent,
    }),
  );
  for (const agent of agents)
    for (const path of [agent.sessionsDir, agent.agentDir, agent.workspace])
      if (/\$\{[A-Z_][A-Z0-9_]*\}/.test(path))
        warnings.push(`${path} of agent ${agent.id} names an environment variable that is not set here.`);
  if (agents.some((agent) => agent.shared))
    warnings.push(
      `session.store has no {agentId}: transcripts that no session key claims are archived under ${defaultAgent}.`,
    );
  return {
    stateDir,
    configPath,
    warnings,
    agents,
    defaultAgent,
    retention: retentionOf(config),
    prices: pricesOf(config),
  };
}

function homeOf(env: Env): string {
  const system = env['HOME']?.trim() || homedir();
  const named = env['OPENCLAW_HOME']?.trim();
  return named ? expand(named, system) : system;
}

function stateDirOf(env: Env, home: string): string {
  const named = first(env, 'OPENCLAW_STATE_DIR', 'CLAWDBOT_STATE_DIR');
  const profile = env['OPENCLAW_PROFILE']?.trim() ?? '';
  if (named === undefined && profile !== '' && !agentIdPattern.test(profile))
    throw new NexusError('config', `OPENCLAW_PROFILE ${JSON.stringify(profile)} is not a profile's name.`);
  const suffix = profile === '' || profile.toLowerCase() === 'default' ? '' : `-${profile}`;
  const usual = join(home, `.openclaw${suffix}`);
  const candidates = named !== undefined ? [expand(named, home)] : [usual];
  if (named === undefined && suffix === '') candidates.push(...legacyDirs.map((name) => join(home, name)));
  const found = candidates.find((path) => isThere(path));
  if (found === undefined)
    throw new NexusError(
      'config',
      `No OpenClaw state directory at ${named === undefined ? usual : candidates[0]}.`,
      {
        hint: 'Set OPENCLAW_STATE_DIR to the directory that holds agents/ and openclaw.json, and run as its owner or as root.',
      },
    );
  const stat = attempt(found);
  if (!stat.isDirectory())
    throw new NexusError('config', `${found} is not a directory.`, {
      hint: 'Set OPENCLAW_STATE_DIR to the directory that holds agents/ and openclaw.json.',
    });
  return found;
}

function attempt(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw readError(path, error);
  }
}

export interface RosterEntry {
  id: string;
  json: Json;
}

/** Agents of the configuration: `agents.entries.<id>` since 2026.8, `agents.list[]` before. */
export function rosterOf(config: Json, warnings: string[]): RosterEntry[] {
  const agents = isObject(config['agents']) ? config['agents'] : {};
  const named: [unknown, unknown][] = [];
  if (isObject(agents['entries'])) named.push(...Object.entries(agents['entries']));
  if (Array.isArray(agents['list']))
    for (const item of agents['list']) if (isObject(item)) named.push([item['id'], item]);
  const roster = new Map<string, RosterEntry>();
  for (const [key, json] of named) {
    const id = directoryOf(key);
    if (id === undefined)
      warnings.push(
        `Agent ${JSON.stringify(key)} of the configuration is refused: its id would leave its directory.`,
      );
    else if (!roster.has(id)) roster.set(id, { id, json: isObject(json) ? json : {} });
  }
  return [...roster.values()];
}

/** The directory that OpenClaw gives to an id: lower case, and "-" for what no file name should have. */
function directoryOf(id: unknown): string | undefined {
  if (
    typeof id !== 'string' ||
    id.includes('/') ||
    id.includes('\\') ||
    id.includes('\0') ||
    /^\.*$/.test(id.trim())
  )
    return undefined;
  const cleaned = id
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 64);
  const kept = agentIdPattern.test(id.trim()) ? id.trim().toLowerCase() : cleaned;
  return kept === '' ? undefined : kept;
}

function agentDirectories(stateDir: string, warnings: string[]): string[] {
  const path = join(stateDir, 'agents');
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter(
        (entry) => !entry.name.startsWith('.') && (entry.isDirectory() || isLinkedDirectory(path, entry)),
      )
      .map((entry) => entry.name);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') warnings.push(unreadable(undefined, path, error).reason);
    return [];
  }
}

// Somebody moved an agent to a larger disk. Links further down are never followed.
function isLinkedDirectory(parent: string, entry: { name: string; isSymbolicLink(): boolean }): boolean {
  return (
    entry.isSymbolicLink() &&
    statSync(join(parent, entry.name), { throwIfNoEntry: false })?.isDirectory() === true
  );
}

function homeOfAgent(facts: {
  id: string;
  entry: Json;
  config: Json;
  env: Env;
  home: string;
  stateDir: string;
  defaultAgent: string;
}): AgentHome {
  const { id, entry, config, env, home, stateDir } = facts;
  const session = isObject(config['session']) ? config['session'] : {};
  const usual = join(stateDir, 'agents', id);
  const template = text(session['store']);
  const store =
    template === undefined
      ? join(usual, 'sessions', 'sessions.json')
      : expand(template.replaceAll('{agentId}', id), home);
  const sessionsDir = dirname(store);
  const usualSessions = join(usual, 'sessions');
  const agentDir = expandOr(text(entry['agentDir']), home, join(usual, 'agent'));
  const shared = template !== undefined && !template.includes('{agentId}');
  const isDefault = id === facts.defaultAgent;

  const others = new Set([usualSessions]);
  // Before agents had directories of their own.
  if (isDefault) others.add(join(stateDir, 'sessions'));
  others.delete(sessionsDir);

  const databases = new Set([
    join(usual, 'agent', 'openclaw-agent.sqlite'),
    join(agentDir, 'openclaw-agent.sqlite'),
  ]);
  if (template !== undefined)
    for (const path of storeDatabases(store, id, shared, isDefault)) databases.add(path);
  return {
    id,
    sessionsDir,
    otherSessionsDirs: [...others],
    indexes: [
      ...new Set([
        store,
        join(sessionsDir, 'sessions.json'),
        ...[...others].map((dir) => join(dir, 'sessions.json')),
      ]),
    ],
    agentDir,
    databases: [...databases],
    importArchiveDir: join(dirname(sessionsDir), 'session-sqlite-import-archive'),
    workspace: workspaceOf(id, entry, config, env, home, stateDir, isDefault),
    shared,
    configured: { sessions: template !== undefined, database: text(entry['agentDir']) !== undefined },
  };
}

/** A moved store has its database beside it; one that agents share has one for each, `<name>.<agent>.sqlite`. */
function storeDatabases(store: string, id: string, shared: boolean, isDefault: boolean): string[] {
  const name = basename(store) === 'sessions.json' ? 'openclaw-agent' : basename(store, extname(store));
  const owned = join(dirname(store), `${name}.${id}.sqlite`);
  const plain = store.endsWith('.sqlite') ? store : join(dirname(store), `${name}.sqlite`);
  return shared && !isDefault ? [owned] : [plain, owned];
}

function workspaceOf(
  id: string,
  entry: Json,
  config: Json,
  env: Env,
  home: string,
  stateDir: string,
  isDefault: boolean,
): string {
  const own = text(entry['workspace']);
  if (own !== undefined) return expand(own, home);
  const agents = isObject(config['agents']) ? config['agents'] : {};
  const defaults = text((isObject(agents['defaults']) ? agents['defaults'] : {})['workspace']);
  // The default agent alone has the workspace itself, unless the configuration says that each owns its own.
  const inherits = isDefault && agents['ownership'] !== 'explicit';
  if (defaults !== undefined) return inherits ? expand(defaults, home) : join(expand(defaults, home), id);
  const fallback = text(env['OPENCLAW_WORKSPACE_DIR']);
  if (inherits || id === 'main')
    return fallback === undefined ? join(stateDir, 'workspace') : expand(fallback, home);
  return join(stateDir, `workspace-${id}`);
}

function first(env: Env, ...names: string[]): string | undefined {
  return names.map((name) => text(env[name])).find((value) => value !== undefined);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.trim() !== '' ? value.trim() : undefined;
}

function expand(path: string, home: string): string {
  if (path === '~' || path.startsWith('~/')) return join(home, path.slice(1));
  return resolve(home, path);
}

function expandOr(path: string | undefined, home: string, otherwise: string): string {
  return path === undefined ? otherwise : expand(path, home);
}

function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // It is there, or below something closed to us: using it says more than passing it over.
    return codeOf(error) === 'EACCES';
  }
}
