import { lstatSync } from 'node:fs';
import type { Config } from '../config.ts';
import { errnoOf } from '../diskerrors.ts';
import { formatItems } from '../format.ts';
import type { AgentHome, State } from '../openclaw/locate.ts';
import { aliasOf } from './choosing.ts';

/** What was archived from this host and of which nothing at all is left on it: a disk that is not mounted looks so. */
export interface Missing {
  /** OpenClaw's id; absent where it is all of OpenClaw's state. */
  agent?: string;
  /** One sentence. */
  reason: string;
  next: string;
}

/**
 * The agents of `archived` (by their ids in Nexus, with how many places of each were shipped) of which neither a
 * transcript nor an index nor a database is left; all in one where nothing is left of any agent. An agent that was
 * removed from OpenClaw is none while others are there, nor is one whose transcripts OpenClaw has deleted: its index stays.
 * `isEmpty`: no transcript of this agent of the state was found, and nothing that cannot be read.
 */
export function missingOf(
  state: State,
  config: Config,
  archived: ReadonlyMap<string, number>,
  isEmpty: (agent: string) => boolean,
): Missing[] {
  const skipped = Object.keys(config.agents).filter((id) => config.agents[id]?.skip === true);
  const alone = new Set(skipped.map((id) => aliasOf(config, id)));
  const lost = [...archived].filter(([as]) => !alone.has(as));
  if (lost.length === 0) return [];
  const agents = state.agents.filter(({ id }) => !skipped.includes(id));
  const gone = agents.filter((agent) => isEmpty(agent.id) && isBare(agent));
  if (agents.length > 0 && gone.length === agents.length) {
    const count = lost.reduce((sum, [, places]) => sum + places, 0);
    const names = lost.map(([as]) => as).join(', ');
    return [
      {
        reason: `No agent of OpenClaw is left in ${state.stateDir}, though ${formatItems(count, 'transcript')} of ${names} were archived from it: is its disk mounted, was it moved?`,
        next: `Mount it, or set OPENCLAW_STATE_DIR to where it is. ${onPurpose(agents[0]?.id ?? 'main')}`,
      },
    ];
  }
  return gone.flatMap((agent) => {
    const count = archived.get(aliasOf(config, agent.id));
    if (count === undefined) return [];
    return [
      {
        agent: agent.id,
        reason: `Nothing of it is left at ${agent.sessionsDir}, though ${formatItems(count, 'transcript')} were archived from it: is its disk mounted, was it moved?`,
        next: `Mount it, or put it back. ${onPurpose(agent.id)}`,
      },
    ];
  });
}

function onPurpose(agent: string): string {
  return `If it was removed on purpose: \`nexus config set agents.${agent}.skip true\`.`;
}

function isBare({ indexes, databases }: AgentHome): boolean {
  return [...indexes, ...databases].every(isAbsent);
}

/** What cannot be looked at may be there. */
function isAbsent(file: string): boolean {
  try {
    return lstatSync(file, { throwIfNoEntry: false }) === undefined;
  } catch (error) {
    return errnoOf(error) === 'ENOTDIR';
  }
}
