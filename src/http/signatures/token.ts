import { sameSecret } from './compare.ts';
import type { Proof } from './scheme.ts';

/** A secret that is itself what is presented. `encoding` is that of the text: Node reads headers as latin1. */
export function token(presented: string, encoding: 'latin1' | 'utf8' = 'latin1'): Proof {
  const bytes = Buffer.from(presented, encoding);
  return { overBody: false, matches: (secret) => sameSecret(secret, bytes) };
}
