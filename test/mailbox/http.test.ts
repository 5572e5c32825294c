import { serve } from '../../src/http/listen.ts';
import { openMailboxClient } from '../../src/http/mailboxclient.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import { nounsOver } from '../http/nouns.ts';
import { temporaryStore } from '../port/local.ts';
import { describeMailbox } from './suite.ts';

describeMailbox('over HTTP', async () => {
  const { store, spoil, remove } = await temporaryStore();
  const stop = new AbortController();
  const key = makeKey();
  const nouns = nounsOver(store);
  const { url, closed } = await serve({
    ...nouns,
    host: '127.0.0.1',
    port: 0,
    signal: stop.signal,
    keys: () => [{ name: 'suite', hash: hashKey(key), agents: '*', scopes: ['pull'] }],
    version: '0.0.0',
  });
  return {
    mailbox: openMailboxClient({ endpoint: url, key, retries: { tries: 2, baseMs: 1, maxMs: 1 } }),
    webhooks: nouns.webhooks,
    store,
    spoil,
    async close() {
      stop.abort();
      await closed;
      await remove();
    },
  };
});
