import { openClient } from '../../src/http/client.ts';
import { serve } from '../../src/http/listen.ts';
import { hashKey, makeKey } from '../../src/keys.ts';
import { nounsOver } from '../http/nouns.ts';
import { temporaryStore } from './local.ts';
import { describePort } from './suite.ts';

for (const compress of [false, true])
  describePort(`over HTTP ${compress ? 'with' : 'without'} compression`, async () => {
    const { store, spoil, remove } = await temporaryStore();
    const stop = new AbortController();
    const key = makeKey();
    const { url, closed } = await serve({
      host: '127.0.0.1',
      port: 0,
      signal: stop.signal,
      ...nounsOver(store),
      keys: () => [{ name: 'suite', hash: hashKey(key), agents: '*', scopes: ['upload'] }],
      version: '0.0.0',
    });
    return {
      nexus: openClient({ endpoint: url, key, compress, retries: { tries: 2, baseMs: 1, maxMs: 1 } }),
      store,
      spoil,
      async close() {
        stop.abort();
        await closed;
        await remove();
      },
    };
  });
