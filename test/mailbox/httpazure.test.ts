import { afterAll, beforeAll } from 'vitest';
import { openAzureStore } from '../../src/stores/azure.ts';
import { type Azurite, freshPrefix, startAzurite } from '../stores/azurite.ts';
import { describeRoutes } from './overhttp.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

describeRoutes('over HTTP and Azure', async () => {
  const store = await openAzureStore({ connectionString: azurite.connectionString, prefix: freshPrefix() });
  return { store, remove: () => store.close() };
});
