import { checkAgentId } from '../agents.ts';
import type { Scope } from '../keys.ts';
import { type Position, positionOf } from '../mailbox.ts';
import { NexusError } from '../errors.ts';
import type { Caller } from './auth.ts';

/** The agents that a caller asks for, all of them its own: those it names, or all that it may name. */
export function agentsOf(
  caller: Caller,
  scopes: readonly Scope[],
  named: string | string[] | undefined,
): '*' | readonly string[] {
  if (named === undefined) return caller.agents;
  const agents = [named].flat();
  for (const agent of agents) caller.require(scopes, checkAgentId(agent));
  return agents;
}

/** The place of the item that an id names. Of another's agent `forbidden`, whether or not there is such an item. */
export function placeOf(caller: Caller, scopes: readonly Scope[], id: string): Position {
  const position = positionOf(id);
  if (position === undefined) throw noSuchItem(id);
  caller.require(scopes, position.agent);
  return position;
}

export function noSuchItem(id: string): NexusError {
  return new NexusError('not_found', `There is no item ${JSON.stringify(id.slice(0, 120))}.`);
}
