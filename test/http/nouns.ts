import type * as z from 'zod';
import type { ServerOptions } from '../../src/http/server.ts';
import { openJobReports } from '../../src/jobreports.ts';
import { resolveSecret } from '../../src/secrets.ts';
import { openSessions } from '../../src/sessions.ts';
import { type Mailboxes, mailboxesSchema } from '../../src/sources.ts';
import type { Store } from '../../src/stores/store.ts';
import { openWebhooks } from '../../src/webhooks.ts';

/** Mailboxes as a configuration file has them. */
export type Settings = z.input<typeof mailboxesSchema>;

/** What a server serves, over a store, and what it knows of senders. */
export function nounsOver(
  store: Store,
  mailboxes: Settings | (() => Settings) = {},
): Pick<ServerOptions, 'sessions' | 'webhooks' | 'jobs' | 'secretOf'> & { mailboxes: () => Mailboxes } {
  const known = typeof mailboxes === 'function' ? undefined : mailboxesSchema.parse(mailboxes);
  return {
    sessions: openSessions(store),
    webhooks: openWebhooks(store),
    jobs: openJobReports(store),
    mailboxes: () =>
      known ?? mailboxesSchema.parse(typeof mailboxes === 'function' ? mailboxes() : mailboxes),
    secretOf: (secret) => resolveSecret(secret, process.env),
  };
}
