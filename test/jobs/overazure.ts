import { afterAll } from 'vitest';
import { openClient } from '../../src/http/client.ts';
import { serve } from '../../src/http/listen.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { nounsOver } from '../http/nouns.ts';
import { freshPrefix, startAzurite } from '../stores/azurite.ts';
import { type Archive, shipTo } from './host.ts';

/** From now on, in this test file, hosts ship over `serve` to the Azure store. */
export async function shipOverAzure(): Promise<void> {
  const azurite = await startAzurite();
  afterAll(() => azurite.stop());
  shipTo(() => overAzure(azurite.connectionString));
}

async function overAzure(connectionString: string): Promise<Archive> {
  const options = { connectionString, prefix: freshPrefix() };
  const stop = new AbortController();
  const nouns = nounsOver(await openAzureStore(options));
  const { url, closed } = await serve({
    host: '127.0.0.1',
    port: 0,
    signal: stop.signal,
    ...nouns,
    keys: () => Promise.resolve([]),
    version: '0.0.0',
  });
  return {
    open: () => Promise.resolve(openClient({ endpoint: url, retries: { tries: 3, baseMs: 1, maxMs: 10 } })),
    openStore: () => openAzureStore(options),
    async close() {
      stop.abort();
      await closed;
      await nouns.sessions.close();
    },
  };
}
