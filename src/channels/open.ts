import { createHash } from 'node:crypto';
import type { Channel } from '../alerts.ts';
import type { ChannelSettings } from '../alertsettings.ts';
import type { Config } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import { resolveSecret, secretVariables } from '../secrets.ts';

/**
 * The channels of the configuration. A secret that is not there, like all else, is told when something is sent: one
 * channel that is set up wrong takes no other with it.
 */
export function openChannels(config: Config, env: Environment): Channel[] {
  return config.alerts.channels.map((settings) => ({
    name: nameOf(settings),
    send: senderOf(settings, config, env),
  }));
}

function senderOf(settings: ChannelSettings, config: Config, env: Environment): Channel['send'] {
  const senders: Record<ChannelSettings['kind'], Channel['send']> = {
    webhook: async (notice, id, signal) => {
      const { postNotice } = await import('./webhook.ts');
      const { format = 'json', token } = settings;
      const url = await resolveSecret(said(settings.url), env);
      const key = token === undefined ? undefined : await resolveSecret(token, env);
      return await postNotice({ url, format, token: key }, notice, id, signal);
    },
    email: async (notice, _, signal) => {
      const { mailNotice } = await import('./email.ts');
      const { to, from } = settings;
      return await mailNotice({ to: said(to), from }, notice, without(env, secretVariables(config)), signal);
    },
    command: async (notice, id, signal) => {
      const { commandNotice } = await import('./command.ts');
      const own = without(env, secretVariables(config));
      return await commandNotice(said(settings.command), notice, id, own, signal);
    },
    agent: async (notice, id, signal) => {
      const { agentNotice } = await import('./agent.ts');
      return await agentNotice(config, said(settings.agent), notice, id, env, signal);
    },
  };
  return senders[settings.kind];
}

/** The same as long as its settings are: what was sent is remembered by it. Says nothing of a secret in them. */
export function nameOf(settings: ChannelSettings): string {
  const digest = createHash('sha256').update(JSON.stringify(settings)).digest('hex');
  return `${settings.kind}-${digest.slice(0, 8)}`;
}

/** For people: what of a channel is no secret. */
export function describeChannel({ kind, format, agent, to, command }: ChannelSettings): string {
  const what = { agent, email: to, command: command?.[0], webhook: format ?? 'json' }[kind];
  return `${kind} ${what ?? ''}`.trim();
}

/** The schema asks for it. */
function said<T>(value: T | undefined): T {
  if (value === undefined) throw new NexusError('config', 'A channel in `alerts.channels` is not whole.');
  return value;
}

function without(env: Environment, names: readonly string[]): Environment {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.includes(name)));
}
