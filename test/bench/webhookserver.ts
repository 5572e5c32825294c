// The endpoint by itself, for the bench: `stored DIR`, `azure CONNECTION PREFIX`, or `nothing`, which keeps no webhook.
import { randomUUID } from 'node:crypto';
import { serve } from '../../src/http/listen.ts';
import type { Webhooks } from '../../src/mailbox.ts';
import { openJobReports } from '../../src/jobreports.ts';
import { resolveSecret } from '../../src/secrets.ts';
import { openSessions } from '../../src/sessions.ts';
import { mailboxesSchema } from '../../src/sources.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';

const [mode = '', place = '', prefix = ''] = process.argv.slice(2);
const store =
  mode === 'azure' ? await openAzureStore({ connectionString: place, prefix }) : await openLocalStore(place);
const stored = openWebhooks(store);
const webhooks: Webhooks =
  mode === 'nothing'
    ? { ...stored, receive: () => Promise.resolve({ status: 'accepted', id: `main.${randomUUID()}` }) }
    : stored;
const mailboxes = mailboxesSchema.parse({
  main: { sources: { github: { verify: 'github', secret: { env: 'BENCH_SECRET' } } } },
});
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const { url, closed } = await serve({
  host: '127.0.0.1',
  port: 0,
  signal: stop.signal,
  sessions: openSessions(store),
  webhooks,
  jobs: openJobReports(store),
  keys: () => [],
  mailboxes: () => mailboxes,
  secretOf: (secret) => resolveSecret(secret, process.env),
  version: '0.0.0',
  log: () => undefined,
});
process.stdout.write(`${url}\n`);
await closed;
await store.close();
