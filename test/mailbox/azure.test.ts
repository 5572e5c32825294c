import { afterAll, beforeAll } from 'vitest';
import { openAzureStore } from '../../src/stores/azure.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { type Azurite, freshPrefix, startAzurite } from '../stores/azurite.ts';
import { describeMailbox } from './suite.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

describeMailbox('in this process over Azure', async () => {
  const store = await openAzureStore({ connectionString: azurite.connectionString, prefix: freshPrefix() });
  const webhooks = openWebhooks(store);
  return { mailbox: webhooks, webhooks, store, close: () => webhooks.close() };
});
