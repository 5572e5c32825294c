import { openWebhooks } from '../../src/webhooks.ts';
import { temporaryStore } from '../port/local.ts';
import { describeMailbox } from './suite.ts';

describeMailbox('in this process over the embedded store', async () => {
  const { store, spoil, remove } = await temporaryStore();
  const webhooks = openWebhooks(store);
  return { mailbox: webhooks, webhooks, store, spoil, close: remove };
});
