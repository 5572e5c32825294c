import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openLocalStore } from '../src/stores/local.ts';
import { describeAlerts } from './alertsuite.ts';

describeAlerts('in an embedded store', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-alerts-'));
  const store = await openLocalStore(directory);
  return {
    store,
    worker: { directory },
    async close() {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
