import type { Notice } from '../alerts.ts';
import { type Config, openclawEnvironment } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { NexusError } from '../errors.ts';
import { locate } from '../openclaw/locate.ts';
import { notifyConfig } from '../openclaw/notifyconfig.ts';
import { tellAgent } from '../openclaw/notify.ts';
import { resolveSecret, secretVariables } from '../secrets.ts';
import { textOf } from './text.ts';

/**
 * Tells an agent of this host by the same door as of its mail; it is not waited for. Throws `unavailable` unless
 * OpenClaw has certainly taken it: a repeat bears the same id.
 */
export async function agentNotice(
  config: Config,
  agent: string,
  notice: Notice,
  id: string,
  env: Environment,
  signal: AbortSignal,
): Promise<string> {
  const own = openclawEnvironment(config, env);
  const state = await locate(own);
  const known = state.agents.find((one) => one.id === agent);
  if (known === undefined)
    throw new NexusError('config', `OpenClaw has no agent ${agent} on this host.`, {
      hint: `It has: ${state.agents.map((one) => one.id).join(', ')}.`,
    });
  const { hooksUrl, hooksToken } = config.notify;
  const said = config.agents[agent]?.notify ?? config.notify.by;
  const { way } = notifyConfig({
    state,
    agent,
    env: own,
    // An agent that is not told of mail is named as a channel all the same.
    by: said === 'none' ? 'auto' : said,
    hooksUrl,
    hooksToken: hooksToken === undefined ? undefined : await resolveSecret(hooksToken, env),
    inbox: known.workspace,
    secretVariables: secretVariables(config),
  });
  if (way.by === 'none') throw new NexusError('config', `${agent} is not to be told.`);
  const outcome = await tellAgent(way, {
    agent,
    batch: `alert-${id.replace(/[^A-Za-z0-9._-]/g, '-')}`,
    attempt: 1,
    message: messageOf(notice),
    waitSeconds: 0,
    signal,
  });
  if (outcome.state !== 'failed') return `OpenClaw took it for ${agent}`;
  throw new NexusError('unavailable', outcome.reason);
}

function messageOf(notice: Notice): string {
  return [
    'This is a message of Nexus, which archives the sessions of this machine, to the people who look after it. Pass it on to them; do nothing else about it unless your own instructions say so.',
    '',
    textOf(notice),
  ].join('\n');
}
