import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import * as z from 'zod';
import { agentIdPattern } from './agents.ts';

/** What a key may do. `upload`: ship transcripts; `pull`: fetch webhooks; `webhook`: deliver them; `read`: look. */
export const scopes = ['upload', 'pull', 'webhook', 'read'] as const;
export type Scope = (typeof scopes)[number];

/** A key as the configuration holds it: its hash only, so that the file gives nobody access. */
export const keySchema = z.lazy(() =>
  z.strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'use letters, digits, ".", "_" and "-", at most 64')
      .describe('What the log calls the key.'),
    hash: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'the SHA-256 of the key, 64 lower-case hex digits')
      .describe('SHA-256 of the key; `nexus keys add` writes it.'),
    agents: z
      .union([z.literal('*'), z.array(z.string().regex(agentIdPattern, 'not an agent id')).min(1)])
      .describe('The agents it is good for, or "*" for all.'),
    scopes: z.array(z.enum(scopes)).min(1).describe('What it may do.'),
  }),
);
export type Key = z.infer<typeof keySchema>;

/** A new key: `nxk_` and 256 random bits in base64url. Shown once; only its hash is kept. */
export function makeKey(): string {
  return `nxk_${randomBytes(32).toString('base64url')}`;
}

/** SHA-256, lower-case hex. Enough for a key of 256 random bits: there is nothing to guess. */
export function hashKey(key: string): string {
  return createHash('sha256').update(key, 'utf8').digest('hex');
}

/** The key that was presented, in a time that does not depend on which one it is or how much of it is right. */
export function findKey(keys: readonly Key[], presented: string): Key | undefined {
  const hash = createHash('sha256').update(presented, 'utf8').digest();
  let found: Key | undefined;
  for (const key of keys) {
    const known = Buffer.from(key.hash, 'hex');
    if (known.length === hash.length && timingSafeEqual(known, hash)) found = key;
  }
  return found;
}

/** Whether the key has the scope and, when an agent is named, may act for it. */
export function allows(key: Key, scope: Scope, agent?: string): boolean {
  return (
    key.scopes.includes(scope) && (agent === undefined || key.agents === '*' || key.agents.includes(agent))
  );
}
