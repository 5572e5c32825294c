import type { Config } from '../config.ts';
import { NexusError } from '../errors.ts';
import type { State } from '../openclaw/locate.ts';

/** An agent's id in Nexus, which `agents.<id>.as` may set. */
export function aliasOf(config: Config, agent: string): string {
  return config.agents[agent]?.as ?? agent;
}

/** The ids in Nexus of all agents that jobs work on. */
export function workedOn(state: State, config: Config): string[] {
  return state.agents
    .filter(({ id }) => config.agents[id]?.skip !== true)
    .map(({ id }) => aliasOf(config, id));
}

/**
 * The agents that a job works on, without those that the configuration leaves alone. `usage` for one that OpenClaw does
 * not have, `config` when two would be one in Nexus.
 */
export function chooseAgents(state: State, config: Config, wanted: readonly string[]): State['agents'] {
  const unknown = wanted.filter((id) => !state.agents.some((agent) => agent.id === id));
  if (unknown.length > 0) {
    const known = state.agents.map((agent) => agent.id).join(', ');
    throw new NexusError(
      'usage',
      `OpenClaw has no agent ${unknown.map((id) => JSON.stringify(id)).join(', ')}.`,
      {
        hint: known === '' ? `There is none in ${state.stateDir}.` : `It has: ${known}.`,
      },
    );
  }
  const kept = state.agents.filter(({ id }) => config.agents[id]?.skip !== true);
  for (const { id } of kept) {
    const other = kept.find((agent) => agent.id !== id && aliasOf(config, agent.id) === aliasOf(config, id));
    if (other !== undefined)
      throw new NexusError(
        'config',
        `The agents ${id} and ${other.id} would both be ${aliasOf(config, id)} in Nexus.`,
        { hint: `Give one of them another id: \`nexus config set agents.${id}.as NAME\`.` },
      );
  }
  return kept.filter(({ id }) => wanted.length === 0 || wanted.includes(id));
}
