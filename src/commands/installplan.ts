import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Config } from '../config.ts';
import { isSettings, type Settings } from '../configfile.ts';
import { isLoopback } from '../http/loopback.ts';
import type { Mode } from '../systemd/systemctl.ts';
import {
  commandWord,
  pathWord,
  renderUnit,
  restOfLine,
  type Role,
  unitsOf,
  type Values,
  word,
} from '../systemd/units.ts';
import { endpointHome, type HostSite, type Site } from './installsite.ts';
import { type Program, realOf } from './installprogram.ts';

/** What `nexus install` is about to do on this machine. */
export interface Plan {
  mode: Mode;
  role: Role;
  host: HostSite | undefined;
  endpoint: Site | undefined;
  program: Program;
  /** Unit files by path, in the order in which they are written. */
  files: { unit: string; path: string; text: string }[];
  /** Directories that must be there for the units to write to, and whose they are. */
  directories: { path: string; site: Site; parent: boolean }[];
}

/** How far a unit reaches. */
type Network = 'none' | 'local' | 'any';

/** Settings of which a unit resolves secrets. */
const secretsOf: Record<string, readonly string[]> = {
  // It sends alerts of its own: of what is spent.
  serve: ['store', 'serve', 'mailboxes', 'apiKey', 'alerts'],
  upload: ['store', 'apiKey', 'heartbeats', 'alerts'],
  'pull-webhooks': ['store', 'apiKey', 'notify', 'agents', 'putio', 'heartbeats', 'alerts'],
  status: ['store', 'apiKey', 'notify', 'agents', 'heartbeats', 'alerts'],
  backfill: ['store', 'apiKey', 'heartbeats', 'alerts'],
  'alert@': ['store', 'apiKey', 'notify', 'agents', 'heartbeats', 'alerts'],
};

/** Settings that say who is told: a job does its work whether or not they can be. */
const told = new Set(['heartbeats', 'alerts']);

export function planOf(
  mode: Mode,
  role: Role,
  sites: { host: HostSite | undefined; endpoint: Site | undefined },
  program: Program,
  unitDirectory: string,
): Plan {
  const { host, endpoint } = sites;
  const files = unitsOf(role).map((unit) => {
    const [kind = ''] = unit.replace(/^nexus-/, '').split('.');
    const site = kind === 'serve' ? endpoint : (host ?? endpoint);
    if (site === undefined) throw new Error(`${unit} has nobody to run it.`);
    const values = valuesOf(kind, mode, site, site === host ? host : undefined, program);
    return { unit, path: path.join(unitDirectory, unit), text: renderUnit(unit, mode, values) };
  });
  const directories = [host, endpoint].flatMap((site) =>
    site === undefined
      ? []
      : [path.dirname(site.configPath), site.config.dataDir].map((directory) => ({
          path: directory,
          site,
          parent: true,
        })),
  );
  // Made one by one where the workspace is there, so that only they need be open to the unit.
  const inboxes =
    host === undefined ? [] : inboxesOf(host).map((inbox) => ({ path: inbox, site: host, parent: false }));
  return { mode, role, host, endpoint, program, files, directories: [...directories, ...inboxes] };
}

function valuesOf(
  kind: string,
  mode: Mode,
  site: Site,
  host: HostSite | undefined,
  program: Program,
): Values {
  const { openclaw } = program;
  const runsOpenclaw = openclaw !== undefined && host !== undefined && runsCommandLine(kind, host);
  // Releases before 2026.8 work on the message themselves where there is no gateway, and call the model's provider.
  const network = runsOpenclaw ? 'any' : networkOf(kind, site.config);
  const writes = kind === 'serve' || host === undefined ? [] : writesOf(kind, host);
  if (runsOpenclaw) writes.push(host.state.stateDir, ...outsideState(host));
  const { textfile } = site.config.metrics;
  const measured =
    textfile === undefined || kind === 'serve' || kind === 'alert@' ? [] : [path.dirname(textfile)];
  const own = [site.config.dataDir, ...writes, ...measured].flatMap(bothNames);
  const read = [
    ...(host === undefined ? [] : [host.state.stateDir, ...outsideState(host)]),
    path.dirname(site.configPath),
    ...[program.node, program.script]
      .flatMap((file) => [file, realOf(file) ?? file])
      .map((file) => path.dirname(file)),
    program.root,
    ...(runsOpenclaw ? packageOf(openclaw) : []),
  ].flatMap(bothNames);
  const state = site.account.home === endpointHome && mode === 'system';
  const environment = [
    ...Object.entries(site.env).filter(([name]) => name !== 'HOME'),
    // OpenClaw needs the Node that Nexus needs, and the one in /usr/bin may be older.
    ...(runsOpenclaw
      ? [
          [
            'PATH',
            [...new Set([openclaw, program.node].map((file) => path.dirname(file))), ...usualPath].join(':'),
          ] as const,
        ]
      : []),
  ].map(([name, value]) => word(`${name}=${value ?? ''}`));
  const command = [program.node, program.script, '--config', site.configPath];
  return {
    documentation: pathToFileURL(path.join(program.root, 'README.md')).href.replaceAll('%', '%%'),
    version: program.version,
    nexus: command.map(commandWord).join(' '),
    user: word(site.account.name),
    state: state ? [path.basename(endpointHome)] : [],
    // Each unit sets it anew, and the usual one is for all to read.
    stateMode: state ? ['0700'] : [],
    environment: [...environment, ...(kind === 'serve' ? [] : ['NODE_COMPILE_CACHE=%C/nexus'])],
    credentials: credentialsOf(kind, site.settings).map(
      (name) => `${name}:${restOfLine(credentialFile(mode, site, name))}`,
    ),
    // An empty line: nothing at all is no value to systemd 252.
    fallbacks: dispensableOf(kind, site.settings).map((name) => `${name}:\\n`),
    target: mode === 'system' ? 'multi-user.target' : 'default.target',
    // What ProtectHome= and PrivateTmp= hide is shown again, read-only; the rest can be read anyway.
    read: distinct(read.filter((one) => isHidden(one) && !own.includes(one))).map(pathWord),
    write: distinct(state ? own.filter((one) => !isWithin(one, endpointHome)) : own).map(pathWord),
    protect: runsOpenclaw ? [] : distinct(protectedOf(kind, site, host, state)).map(pathWord),
    privateNetwork: network === 'none' ? ['yes'] : [],
    deny: network === 'local' ? ['any'] : [],
    allow: network === 'local' ? ['localhost'] : [],
    families: network === 'none' && mode === 'system' ? 'AF_UNIX' : 'AF_UNIX AF_INET AF_INET6',
  };
}

const usualPath = ['/usr/local/bin', '/usr/bin', '/bin'];

/** The unit tells agents by `openclaw agent`. */
function runsCommandLine(kind: string, { byCommandLine }: HostSite): boolean {
  return kind !== 'serve' && (byCommandLine.alerts || (kind === 'pull-webhooks' && byCommandLine.mail));
}

/** What a job writes outside of its data directory. */
export function writesOf(kind: string, host: Pick<HostSite, 'config' | 'state'>): string[] {
  const { agents } = host.state;
  switch (kind) {
    case 'upload':
    case 'backfill':
      return [
        ...(host.config.afterUpload === 'archive'
          ? agents.flatMap(({ sessionsDir, otherSessionsDirs }) => [sessionsDir, ...otherSessionsDirs])
          : []),
        ...databaseDirectories(host),
      ];
    case 'pull-webhooks':
      // It looks into transcripts for an agent's answer.
      return [...inboxesOf(host), ...databaseDirectories(host)];
    case 'status':
      return databaseDirectories(host);
    default:
      return [];
  }
}

/** SQLite makes `-shm` beside a database whose gateway was killed, and cannot read what is in its `-wal` without. */
function databaseDirectories({ state }: Pick<HostSite, 'state'>): string[] {
  return state.agents.flatMap(({ databases }) => databases.map((file) => path.dirname(file)));
}

/** What stays read-only within what may be written. */
function protectedOf(kind: string, site: Site, host: HostSite | undefined, state: boolean): string[] {
  const config = state ? [path.dirname(site.configPath)] : [];
  if (kind === 'serve' || kind === 'alert@' || host === undefined) return config;
  return [...config, ...host.state.agents.flatMap(({ databases }) => databases.flatMap(bothNames))];
}

function inboxesOf({ config, state }: Pick<HostSite, 'config' | 'state'>): string[] {
  return state.agents
    .filter(({ id }) => config.agents[id]?.skip !== true)
    .map(({ workspace }) => path.join(workspace, 'inbox'));
}

/** What OpenClaw's configuration put elsewhere. */
function outsideState({ state }: HostSite): string[] {
  const places = state.agents.flatMap((agent) => [
    agent.sessionsDir,
    agent.agentDir,
    ...agent.databases.map((file) => path.dirname(file)),
    agent.workspace,
  ]);
  if (state.configPath !== undefined) places.push(path.dirname(state.configPath));
  return places.filter((place) => !isWithin(place, state.stateDir));
}

function networkOf(kind: string, config: Config): Network {
  // It calls services back to check what they sent, and its callers are anywhere.
  if (kind === 'serve') return 'any';
  const { alerts, heartbeats }: Settings = { ...config };
  const channels = listOf(isSettings(alerts) ? alerts['channels'] : undefined);
  const told = channels.some((channel) => isSettings(channel) && channel['kind'] !== 'agent');
  const beats = isSettings(heartbeats) && Object.keys(heartbeats).length > 0;
  const store =
    config.endpoint !== undefined ? reach(config.endpoint) : config.store.kind === 'azure' ? 'any' : 'none';
  if (told || beats || store === 'any') return 'any';
  const tellsAgent = channels.some((channel) => isSettings(channel) && channel['kind'] === 'agent');
  if ((kind === 'upload' || kind === 'backfill') && !tellsAgent) return store;
  if (kind === 'pull-webhooks' && config.putio.token !== undefined && reach(config.putio.apiBase) === 'any')
    return 'any';
  // They may speak to OpenClaw's gateway, on this machine unless it is said to be elsewhere.
  return config.notify.hooksUrl === undefined ? 'local' : reach(config.notify.hooksUrl);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function reach(url: string): Network {
  return isLoopback(new URL(url).hostname) ? 'local' : 'any';
}

/** Names of `{"credential": …}` in the settings that a unit uses. */
function credentialsOf(kind: string, settings: Settings): string[] {
  return credentialsIn((secretsOf[kind] ?? []).map((name) => settings[name]));
}

/** Credentials that a unit does its work without: those of who is told alone, and of who tells, all. */
function dispensableOf(kind: string, settings: Settings): string[] {
  const names = secretsOf[kind] ?? [];
  const needed = kind === 'alert@' ? [] : names.filter((name) => !told.has(name));
  const kept = new Set(credentialsIn(needed.map((name) => settings[name])));
  return credentialsOf(kind, settings).filter((name) => !kept.has(name));
}

function credentialsIn(settings: readonly unknown[]): string[] {
  const names = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    const entries: [string, unknown][] = Object.entries(value);
    const [only] = entries;
    if (entries.length === 1 && only?.[0] === 'credential' && typeof only[1] === 'string') names.add(only[1]);
    for (const [, below] of entries) walk(below);
  };
  for (const value of settings) walk(value);
  return [...names].sort();
}

/** Where the file of a credential is to lie: readable by root alone, or by that user. */
export function credentialFile(mode: Mode, site: Site, name: string): string {
  const directory =
    mode === 'system' ? '/etc/nexus/credentials' : path.join(path.dirname(site.configPath), 'credentials');
  return path.join(directory, name);
}

/** The directory on the PATH and the one that the program itself lies in. */
function packageOf(file: string): string[] {
  const real = realOf(file) ?? file;
  const modules = real.lastIndexOf(`${path.sep}node_modules${path.sep}`);
  return [path.dirname(file), modules === -1 ? path.dirname(real) : real.slice(0, modules + 13)];
}

/** A path as it is called, and as it really is. */
function bothNames(file: string): string[] {
  const real = realOf(file);
  return real === undefined || real === file ? [file] : [file, real];
}

function isHidden(file: string): boolean {
  return ['/home', '/root', '/run/user', '/tmp', '/var/tmp'].some((place) => isWithin(file, place));
}

function isWithin(file: string, directory: string): boolean {
  return file === directory || file.startsWith(`${directory}/`);
}

/** Without what lies in another one of them. */
function distinct(places: string[]): string[] {
  return [...new Set(places)]
    .filter((one) => !places.some((other) => other !== one && isWithin(one, other)))
    .sort();
}
