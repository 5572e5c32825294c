import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type Config, loadConfig, openclawEnvironment } from '../config.ts';
import { configPath, type Environment, readSettings, type Settings } from '../configfile.ts';
import type { Surroundings } from '../context.ts';
import { diskError, isAbsent } from '../diskerrors.ts';
import { failedWith, NexusError } from '../errors.ts';
import { locate, type State } from '../openclaw/locate.ts';
import { notifyConfig } from '../openclaw/notifyconfig.ts';
import { type Account, asAccount, findAccount } from '../systemd/account.ts';
import type { Mode } from '../systemd/systemctl.ts';
import { plainWord, type Role } from '../systemd/units.ts';

/** Who runs a part of Nexus, and what that user's configuration says. */
export interface Site {
  account: Account;
  /** The environment of its units, as far as Nexus and OpenClaw look at it. */
  env: Environment;
  configPath: string;
  config: Config;
  /** What the configuration file says. */
  settings: Settings;
}

/** A host's site with the OpenClaw that it looks after. */
export interface HostSite extends Site {
  state: State;
  /** By `openclaw agent`, which writes into OpenClaw's state, agents are told of their mail, or an agent of alerts. */
  byCommandLine: { mail: boolean; alerts: boolean };
  /** `config.endpoint` is this machine's own, and the configuration file does not say so yet. */
  newEndpoint?: boolean;
}

/** The user of the endpoint where root installs it, and its home. */
export const endpointUser = 'nexus';
export const endpointHome = '/var/lib/nexus';

/** What units get of the environment of `nexus install`: the endpoint's, and the jobs' besides. */
const carriedToEndpoint = ['NEXUS_DATA_DIR', 'NEXUS_STORE', 'NEXUS_STORE_ACCOUNT'] as const;
const carriedToJobs = [
  ...carriedToEndpoint,
  'OPENCLAW_STATE_DIR',
  'CLAWDBOT_STATE_DIR',
  'OPENCLAW_HOME',
  'OPENCLAW_PROFILE',
  'OPENCLAW_CONFIG_PATH',
  'CLAWDBOT_CONFIG_PATH',
  'OPENCLAW_WORKSPACE_DIR',
  'NEXUS_ENDPOINT',
  'NEXUS_HOST_NAME',
] as const;

/** A unit's environment can be read by anybody. */
const secret = ['NEXUS_API_KEY', 'NEXUS_STORE_CONNECTION_STRING', 'NEXUS_KEYS', 'NEXUS_PUTIO_TOKEN'] as const;

/**
 * The owner of OpenClaw's state directory, and that user's configuration. Root finds the state directory by what it
 * is told (OPENCLAW_STATE_DIR, the configuration), else in the home of the user who called sudo, and in its own.
 */
export async function hostSite(given: Surroundings, mode: Mode): Promise<HostSite> {
  const { env } = given;
  refuseSecrets(env);
  const said = saidConfig(given);
  const state = await findState(given, said);
  const { uid } = await stat(state.stateDir);
  const own = process.geteuid?.() ?? uid;
  if (mode === 'user' && uid !== own)
    throw new NexusError('forbidden', `${state.stateDir} belongs to uid ${uid}, and this is uid ${own}.`, {
      hint: 'Install as its owner, or run `nexus install --system` as root.',
    });
  const account = await accountOf(uid, env, mode);
  const site = await siteOf(given.env, account, said, carriedToJobs);
  // With that user's own names: `~` in openclaw.json means their home.
  return await asAccount(account, async () => {
    const found = await locate(openclawEnvironment(site.config, locating(site, state)));
    return { ...site, state: found, byCommandLine: commandLineOf(site, found) };
  });
}

function commandLineOf({ config, env }: Site, state: State): HostSite['byCommandLine'] {
  const own = openclawEnvironment(config, env);
  const { by, hooksUrl, hooksToken } = config.notify;
  const isToldSo = (agent: string, said: typeof by) =>
    notifyConfig({
      state,
      agent,
      env: own,
      by: said,
      hooksUrl,
      hooksToken: hooksToken === undefined ? undefined : 'some',
      inbox: '',
      secretVariables: [],
    }).way.by === 'cli';
  const ways = state.agents
    .filter(({ id }) => config.agents[id]?.skip !== true)
    .map(({ id }) => ({ id, said: config.agents[id]?.notify ?? by }));
  const told = config.alerts.channels.flatMap((channel) => (channel.kind === 'agent' ? [channel.agent] : []));
  return {
    mail: ways.some(({ id, said }) => isToldSo(id, said)),
    // As in channels/agent.ts: one that is not told of mail is told of alerts all the same.
    alerts: ways.some(({ id, said }) => told.includes(id) && isToldSo(id, said === 'none' ? 'auto' : said)),
  };
}

/** The user `nexus` in its own home; with a user's own systemd, that user. */
export async function endpointSite(given: Surroundings, mode: Mode, alone: boolean): Promise<Site> {
  refuseSecrets(given.env);
  const account =
    mode === 'user'
      ? await accountOf(process.geteuid?.() ?? 0, given.env, mode)
      : ((await findAccount(endpointUser, given.env)) ?? {
          name: endpointUser,
          // Not made yet: what belongs to it is made after it.
          uid: -1,
          gid: -1,
          groups: [],
          home: endpointHome,
        });
  // Beside jobs of another user what is said is theirs.
  const shared = alone || mode === 'user';
  return await siteOf(
    given.env,
    account,
    shared ? saidConfig(given) : undefined,
    shared ? carriedToEndpoint : [],
  );
}

async function siteOf(
  given: Environment,
  account: Account,
  said: string | undefined,
  carried: readonly string[],
): Promise<Site> {
  const env = environmentOf(given, account, carried);
  const file = said ?? configPath(env);
  const load = async () => ({
    config: await loadConfig({ env, file, withoutSecrets: true }),
    settings: await readSettings(file),
  });
  const loaded = account.uid < 0 ? await load() : await asAccount(account, load);
  return { account, env, configPath: file, ...loaded };
}

/** The configuration file, where the command line or the environment names one. */
function saidConfig({ env, configPath: file }: Surroundings): string | undefined {
  if (env['NEXUS_CONFIG'] || env['HOME'] === undefined) return file;
  return file === configPath(env) ? undefined : file;
}

async function findState(given: Surroundings, said: string | undefined): Promise<State> {
  const { env } = given;
  const homes: Environment[] = [];
  const caller = env['SUDO_USER'];
  if (process.geteuid?.() === 0 && caller !== undefined && caller !== 'root') {
    const account = await findAccount(caller, env);
    if (account !== undefined) homes.push({ ...env, HOME: account.home, XDG_CONFIG_HOME: undefined });
  }
  homes.push(env);
  let first: unknown;
  for (const candidate of homes)
    try {
      const file = said ?? configPath(candidate);
      const config = await asAccount(await ownerOf(file), () =>
        loadConfig({ env: candidate, file, withoutSecrets: true }),
      );
      return await locate(openclawEnvironment(config, candidate));
    } catch (error) {
      if (!failedWith(error, 'config')) throw error;
      first ??= error;
    }
  if (first instanceof NexusError && first.message.startsWith('No OpenClaw state'))
    throw new NexusError('config', first.message, {
      hint: 'Set OPENCLAW_STATE_DIR to it, or install `--role endpoint` where there is no OpenClaw.',
      cause: first,
    });
  throw first;
}

/** The environment that leads that user to the state that was found. */
function locating({ config, env }: Site, { stateDir }: State): Environment {
  const known = openclawEnvironment(config, env);
  const usual = [env['OPENCLAW_HOME'] ?? env['HOME'] ?? '/'].map((home) => path.join(home, '.openclaw'));
  if (known['OPENCLAW_STATE_DIR'] ?? known['CLAWDBOT_STATE_DIR'] ?? known['OPENCLAW_PROFILE']) return known;
  return usual.includes(stateDir) ? known : { ...known, OPENCLAW_STATE_DIR: stateDir };
}

async function ownerOf(file: string): Promise<{ uid: number; gid: number }> {
  try {
    return await stat(file);
  } catch (error) {
    if (!isAbsent(error)) throw diskError(error, file);
    return { uid: 0, gid: 0 };
  }
}

async function accountOf(uid: number, env: Environment, mode: Mode): Promise<Account> {
  const account = await findAccount(uid, env);
  if (account === undefined)
    throw new NexusError('config', `Uid ${uid} is no user of this machine.`, {
      hint: 'Nexus runs as the owner of the state directory: give it one that has a name.',
    });
  // A user's own systemd has the home of its session.
  const home = mode === 'user' ? env['HOME'] : undefined;
  return home === undefined ? account : { ...account, home };
}

function environmentOf(env: Environment, account: Account, carried: readonly string[]): Environment {
  const kept = carried.map((name) => [name, env[name]] as const);
  const own = process.geteuid?.() === account.uid;
  const xdg = own ? (['XDG_CONFIG_HOME', 'XDG_DATA_HOME'] as const) : [];
  const all = [...kept, ...xdg.map((name) => [name, env[name]] as const)];
  return {
    HOME: account.home,
    ...Object.fromEntries(all.filter(([, value]) => value !== undefined && value !== '')),
  };
}

/**
 * What the units that are there were installed with, for what the environment does not say now: after an upgrade
 * nobody remembers.
 */
export function remembered(given: Surroundings, unitDirectory: string, role: Role): Surroundings {
  // The endpoint's configuration is another than that of jobs of another user.
  const command = role === 'endpoint' ? 'serve' : 'upload';
  const text = textOf(path.join(unitDirectory, `nexus-${command}.service`));
  const known = [...text.matchAll(/^Environment=(.*)$/gm)].map(([, word = '']) =>
    plainWord(word).split(/=(.*)/s),
  );
  const env = { ...given.env };
  // Where `openclaw` was found.
  const found = textOf(path.join(unitDirectory, 'nexus-pull-webhooks.service'));
  const places = /^Environment=("?PATH=.*)$/m.exec(found)?.[1];
  if (places !== undefined)
    env['PATH'] = [env['PATH'] ?? '', plainWord(places).slice('PATH='.length)].join(':');
  for (const [name = '', value] of known)
    if (carriedToJobs.some((one) => one === name)) env[name] = env[name] || value;
  const file = new RegExp(`^ExecStart=.* --config ("(?:[^"\\\\]|\\\\.)*"|\\S+) ${command}$`, 'm').exec(
    text,
  )?.[1];
  const said = saidConfig(given) !== undefined || file === undefined;
  return { ...given, env, configPath: said ? given.configPath : plainWord(file).replaceAll('$$', '$') };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (!isAbsent(error)) throw diskError(error, file);
    return '';
  }
}

function refuseSecrets(env: Environment): void {
  const found = secret.find((name) => env[name] !== undefined && env[name] !== '');
  if (found === undefined) return;
  throw new NexusError('config', `${found} is in this environment, and units would not have it.`, {
    hint: 'Keep it in the configuration file (`nexus config set`), and run this again without it.',
  });
}
