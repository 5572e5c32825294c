import * as z from 'zod';
import { agentIdPattern } from './agents.ts';
import { secretSchema } from './secrets.ts';

/** What Nexus is to do with put.io. */
export const putioSchema = z
  .strictObject({
    token: secretSchema
      .optional()
      .describe('An OAuth token of the put.io account, or where it is: needed for all of `nexus putio`.'),
    apiBase: z
      .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
      .refine((base) => !URL.canParse(base) || /^\/*$/.test(new URL(base).pathname), {
        error:
          'must have no path: put.io has none, and what answers elsewhere would say of each transfer that it is not there',
      })
      .refine(isSafe, {
        error: 'must be https, as the token is sent there; http is for this machine alone',
      })
      .transform((base) => base.replace(/\/+$/, ''))
      .default('https://api.put.io')
      .describe("put.io's API."),
    agent: z
      .string({ error: 'must be the id of an agent' })
      .regex(agentIdPattern, { error: 'must be the id of an agent' })
      .optional()
      .describe(
        "Whose mailbox the account's transfers go to, by its id in Nexus. Written by `nexus putio register`; a host elsewhere is told with `nexus config set`.",
      ),
    callbackBefore: z
      .string({ error: 'must be text' })
      .min(1, { error: 'must not be empty' })
      .optional()
      .meta({ secret: true })
      .describe(
        'The callback that the account had before `nexus putio register --force`: `unregister` restores it.',
      ),
    callbackSet: z
      .strictObject({ base: z.string(), sha256: z.string().regex(/^[0-9a-f]{64}$/) })
      .optional()
      .describe(
        'What `nexus putio register` set: what put.io calls the endpoint by, and the SHA-256 of the whole URL.',
      ),
    confirm: z
      .boolean({ error: 'must be true or false' })
      .default(true)
      .describe(
        'Whether a host with the token asks put.io about what came in its name; `confirmed` in the inbox file says what it answered.',
      ),
    reconcileMinutes: z
      .int({ error: 'must be a whole number from 0 to 1440' })
      .min(0, { error: 'must be a whole number from 0 to 1440' })
      .max(1440, { error: 'must be a whole number from 0 to 1440' })
      .default(15)
      .describe(
        'How often `pull-webhooks` looks for transfers that never called back, on a host with the token and the agent; 0 leaves it to `nexus putio reconcile`.',
      ),
  })
  .prefault({});
export type PutioSettings = z.output<typeof putioSchema>;

function isSafe(base: string): boolean {
  if (!URL.canParse(base)) return false;
  const { protocol, hostname, username, password, search, hash } = new URL(base);
  const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
  return (protocol === 'https:' || local) && `${username}${password}${search}${hash}` === '';
}
