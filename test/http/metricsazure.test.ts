import { expect, test } from 'vitest';
import { openMetrics } from '../../src/http/metrics.ts';
import { createServer } from '../../src/http/server.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { timedStore } from '../../src/stores/timed.ts';
import { readExposition } from '../prometheus.ts';
import { freshPrefix, startAzurite } from '../stores/azurite.ts';
import { nounsOver } from './nouns.ts';
import { fromGitHub, secret, sources } from './senders.ts';

test('over Azure one replica shows what another was told and has received; a store that is gone is down', async () => {
  const azurite = await startAzurite();
  const prefix = freshPrefix();
  const replica = async () => {
    const metrics = openMetrics({ version: '0', store: 'azure' });
    const { connectionString } = azurite;
    const store = timedStore(
      await openAzureStore({ connectionString, prefix, timeoutMs: 1000 }),
      metrics.store,
    );
    const nouns = nounsOver(store, sources({ github: { verify: 'github', secret } }));
    const app = createServer({
      ...nouns,
      keys: () => [],
      version: '0',
      metrics,
      limits: { metricsMs: 1500 },
    });
    return { app, store };
  };
  const [one, other] = [await replica(), await replica()];
  const report = { job: 'upload', endedAt: Date.now(), seconds: 1, failures: 2, failedItems: 1, agents: [] };
  const payload = { ...report, sentAt: Date.now() };
  const told = await one.app.inject({ method: 'PUT', url: '/api/jobs/box', payload });
  expect(told.statusCode).toBe(200);
  expect((await one.app.inject(fromGitHub('{"n":1}'))).statusCode).toBe(202);
  const scrape = async () => readExposition((await other.app.inject({ url: '/metrics' })).body);
  const seen = await scrape();
  expect(seen.value('nexus_store_up')).toBe(1);
  expect(seen.value('nexus_pending_items', { agent: 'main' })).toBe(1);
  expect(seen.value('nexus_job_consecutive_failures', { host: 'box', job: 'upload' })).toBe(2);
  await azurite.stop();
  await expect
    .poll(async () => (await scrape()).value('nexus_store_up'), { interval: 200, timeout: 10_000 })
    .toBe(0);
  const failed = (await scrape()).samples('nexus_store_operation_errors_total');
  expect(failed.map(({ labels }) => labels['code'])).toContain('unavailable');
  for (const { app, store } of [one, other]) {
    await app.close();
    await store.close();
  }
}, 60_000);
