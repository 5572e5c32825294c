import { afterAll, beforeAll } from 'vitest';
import { openAzureStore } from '../src/stores/azure.ts';
import { describeAlerts } from './alertsuite.ts';
import { type Azurite, freshPrefix, startAzurite } from './stores/azurite.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

describeAlerts('over Azure', async () => {
  const options = { connectionString: azurite.connectionString, prefix: freshPrefix() };
  const store = await openAzureStore(options);
  return { store, worker: options, close: () => store.close() };
});
