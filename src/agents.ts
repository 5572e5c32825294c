import { NexusError } from './errors.ts';

/** Agent ids in Nexus: nothing that could leave its place in a path, a URL or a key. */
export const agentIdPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

/** Refuses an agent id that breaks the pattern. */
export function checkAgentId(id: string): string {
  if (!agentIdPattern.test(id))
    throw new NexusError(
      'invalid',
      `Invalid agentId ${JSON.stringify(id.slice(0, 80))}: use letters, digits, "_" and "-", at most 64, beginning with a letter or digit.`,
    );
  return id;
}
