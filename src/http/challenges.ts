import { NexusError } from '../errors.ts';
import type { Source } from '../sources.ts';
import { parseJson } from './wire.ts';

/** Longer than any that a sender asks with: what it says is sent back, so it has a bound. */
const longestChallenge = 4096;
/** A body with a challenge is a small one; others are not parsed in search of it. */
const longestBody = 64 * 1024;

export interface Challenged {
  source: Source | undefined;
  /** The source's. */
  name: string;
  /** Of the query. */
  validationToken: string | undefined;
  body: Buffer;
}

/**
 * What a sender that tests its URL wants to read, as plain text, instead of having its request kept: Microsoft
 * Graph's `validationToken` where the source says so, Slack's `url_verification`. `undefined` when it asks nothing.
 */
export function challengeIn({ source, name, validationToken, body }: Challenged): string | undefined {
  if (source?.challenge === 'microsoft-graph' && validationToken !== undefined)
    return bounded(validationToken);
  if (source?.verify !== 'slack' && name.toLowerCase() !== 'slack') return undefined;
  if (body.length > longestBody || !body.includes('url_verification')) return undefined;
  const asked = parseJson(body.toString('utf8'));
  if (typeof asked !== 'object' || asked === null) return undefined;
  if (!('type' in asked) || asked.type !== 'url_verification') return undefined;
  if (!('challenge' in asked) || typeof asked.challenge !== 'string')
    throw new NexusError('invalid', 'This url_verification has no challenge.');
  return bounded(asked.challenge);
}

/** Refuses a challenge that no sender makes. */
export function bounded(challenge: string): string {
  if (challenge === '' || challenge.length > longestChallenge)
    throw new NexusError('invalid', `A challenge has 1 to ${longestChallenge} characters.`);
  return challenge;
}
