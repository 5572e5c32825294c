import { tellByCommandLine, type CommandLine } from './cli.ts';
import { type Hooks, tellByHooks } from './hooks.ts';
import { type Outcome, refused, type TellRequest } from './outcome.ts';

/** How an agent is told: by which door, or why by none. */
export type Way =
  | ({ by: 'hooks' } & Hooks)
  | ({ by: 'cli' } & CommandLine)
  | { by: 'none' }
  /** It is to be told and cannot be. */
  | { by: 'nothing'; reason: string };

/** Tells an agent, once. Never throws for what OpenClaw or the network does. */
export async function tellAgent(way: Exclude<Way, { by: 'none' }>, request: TellRequest): Promise<Outcome> {
  if (way.by === 'nothing') return refused(way.reason);
  if (request.signal.aborted) return refused('It was interrupted before it was sent.');
  return way.by === 'hooks' ? await tellByHooks(way, request) : await tellByCommandLine(way, request);
}
