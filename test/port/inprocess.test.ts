import { openSessions } from '../../src/sessions.ts';
import { temporaryStore } from './local.ts';
import { describePort } from './suite.ts';

describePort('in this process over the embedded store', async () => {
  const { store, spoil, remove } = await temporaryStore();
  return { nexus: openSessions(store), store, spoil, close: remove };
});
