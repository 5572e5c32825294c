import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Hooks } from './hooks.ts';
import { isObject, type Json, readConfig } from './configfile.ts';
import { type RosterEntry, rosterOf, type State } from './locate.ts';
import type { Sees } from './message.ts';
import type { Way } from './notify.ts';

type Env = Record<string, string | undefined>;

export interface NotifyRequest {
  state: State;
  /** OpenClaw's id. */
  agent: string;
  /** The environment of this process. */
  env: Env;
  by: 'auto' | 'hooks' | 'cli' | 'none';
  /** What the operator says of the hooks, where openclaw.json does not. */
  hooksUrl?: string | undefined;
  hooksToken?: string | undefined;
  /** The agent's inbox on this host. */
  inbox: string;
  /** Variables that OpenClaw's command line is not to see. */
  secretVariables: readonly string[];
}

/** How an agent is told, and what its tools see of its inbox, as openclaw.json is at this moment. */
export function notifyConfig(request: NotifyRequest): { way: Way; sees: Sees } {
  const { state, agent, env } = request;
  const { config } = state.configPath === undefined ? { config: {} } : readConfig(state.configPath, env);
  const roster = rosterOf(config, []);
  return {
    way: wayOf(request, config, roster),
    sees: seenBy(config, roster.find(({ id }) => id === agent)?.json ?? {}, request.inbox),
  };
}

function wayOf(request: NotifyRequest, config: Json, roster: RosterEntry[]): Way {
  const { by, agent, state } = request;
  if (by === 'none') return { by: 'none' };
  // Releases before 2026.8 give what is for an agent that they do not know to their default agent.
  if (roster.length > 0 && agent !== state.defaultAgent && !roster.some(({ id }) => id === agent))
    return {
      by: 'nothing',
      reason: `openclaw.json has no agent ${agent}, so OpenClaw cannot tell it. Add it there, or \`nexus config set agents.${agent}.notify none\`.`,
    };
  if (by === 'cli') return commandLine(request, config);
  const hooks = hooksOf(request, config);
  if (typeof hooks !== 'string') return { by: 'hooks', ...hooks };
  return by === 'auto' ? commandLine(request, config) : { by: 'nothing', reason: hooks };
}

/** OpenClaw's hooks, or in one sentence why they cannot be used. */
function hooksOf(request: NotifyRequest, config: Json): Hooks | string {
  const { agent, hooksUrl, hooksToken, by } = request;
  const hooks = objectAt(config, 'hooks');
  const gateway = objectAt(config, 'gateway');
  if (hooks['enabled'] !== true && hooksUrl === undefined)
    return 'Hooks are off in openclaw.json. Set hooks.enabled and hooks.token there, or notify.hooksUrl and notify.hooksToken here.';
  const allowed = hooks['allowedAgentIds'];
  if (
    hooksUrl === undefined &&
    Array.isArray(allowed) &&
    !allowed.includes('*') &&
    !includesId(allowed, agent)
  )
    return `hooks.allowedAgentIds in openclaw.json leaves out ${agent}. Add it there, or set notify.by to cli.`;
  const token = hooksToken ?? text(hooks['token']);
  if (token === undefined)
    return "There is no token for OpenClaw's hooks. Set hooks.token in openclaw.json, or notify.hooksToken here.";
  if (hooksToken === undefined && /\$\{[A-Z_][A-Z0-9_]*\}/.test(token))
    return 'hooks.token in openclaw.json names an environment variable that is not set here. Set notify.hooksToken.';
  if (!/^[\x21-\x7e]+$/.test(token))
    return "The token for OpenClaw's hooks has characters that no header carries.";
  if (hooksUrl !== undefined) return { url: hooksUrl.replace(/\/+$/, ''), token };
  // Its own certificate is one that only OpenClaw's own client trusts; and far away nobody has said what it is called.
  if (by === 'auto' && objectAt(gateway, 'tls')['enabled'] === true) return 'The gateway speaks TLS.';
  if (gateway['mode'] === 'remote') return 'The gateway is on another machine. Set notify.hooksUrl.';
  const scheme = objectAt(gateway, 'tls')['enabled'] === true ? 'https' : 'http';
  return { url: `${scheme}://127.0.0.1:${portOf(gateway, request.env)}${pathOf(hooks)}`, token };
}

function portOf(gateway: Json, env: Env): number {
  const said = [Number(env['OPENCLAW_GATEWAY_PORT']?.trim() || Number.NaN), gateway['port']];
  const port = said.find(
    (one) => typeof one === 'number' && Number.isInteger(one) && one > 0 && one < 65_536,
  );
  return typeof port === 'number' ? port : 18_789;
}

function pathOf(hooks: Json): string {
  const path = text(hooks['path']) ?? '/hooks';
  return `/${path.replace(/^\/|\/+$/g, '')}`;
}

function includesId(ids: readonly unknown[], agent: string): boolean {
  return ids.some((id) => typeof id === 'string' && id.trim().toLowerCase() === agent);
}

/** Both kinds of sessions that agents are told in are never their main one. */
function seenBy(config: Json, agent: Json, inbox: string): Sees {
  const defaults = objectAt(objectAt(objectAt(config, 'agents'), 'defaults'), 'sandbox');
  const own = objectAt(agent, 'sandbox');
  const setting = (name: string) => text(own[name]) ?? text(defaults[name]);
  const mode = setting('mode') ?? 'off';
  if (mode === 'off') return { directory: inbox, writable: true };
  // Others than containers of this machine work on copies of their own.
  if (!['docker', 'podman'].includes(setting('backend') ?? 'docker')) return 'nothing';
  const access = setting('workspaceAccess') ?? 'none';
  if (access === 'ro') return { directory: '/agent/inbox/webhooks', writable: false };
  if (access === 'rw') return { directory: '/workspace/inbox/webhooks', writable: true };
  return 'nothing';
}

/** Nobody's answer is worth more than this, where OpenClaw's own setting does not say. */
const turnSeconds = 3600;

function commandLine({ state, env, secretVariables }: NotifyRequest, config: Json): Way {
  const said = objectAt(objectAt(config, 'agents'), 'defaults')['timeoutSeconds'];
  const owner = statSync(state.stateDir);
  const child: Record<string, string> = {};
  for (const [name, value] of Object.entries(env))
    if (value !== undefined && !isNexusOwn(name) && !secretVariables.includes(name)) child[name] = value;
  child['OPENCLAW_STATE_DIR'] = state.stateDir;
  if (state.configPath !== undefined) child['OPENCLAW_CONFIG_PATH'] = state.configPath;
  const way = {
    by: 'cli' as const,
    env: child,
    turnSeconds: typeof said === 'number' && said > 0 ? Math.ceil(said) : turnSeconds,
  };
  if (process.getuid?.() !== 0 || owner.uid === 0) return way;
  // What root leaves in another user's state the gateway cannot write.
  for (const name of Object.keys(child))
    if (/^(HOME|USER|LOGNAME|TMPDIR|XDG_.*)$/.test(name)) delete child[name];
  child['HOME'] = dirname(state.stateDir);
  return { ...way, as: { uid: owner.uid, gid: owner.gid } };
}

/** What Nexus is started with for itself. */
function isNexusOwn(name: string): boolean {
  return /^(NEXUS_|AZURE_(?!OPENAI)|IDENTITY_|MSI_|CREDENTIALS_DIRECTORY$)/.test(name);
}

function objectAt(value: Json, key: string): Json {
  const inner = value[key];
  return isObject(inner) ? inner : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.trim() !== '' ? value.trim() : undefined;
}
