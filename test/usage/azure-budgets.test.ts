import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openAlerts } from '../../src/alerts.ts';
import { watchSpending } from '../../src/budgets.ts';
import { openAzureStore } from '../../src/stores/azure.ts';
import { openUsage } from '../../src/usage.ts';
import { freshPrefix, startAzurite } from '../stores/azurite.ts';
import { spend } from './spending.ts';

test('replicas on one storage account, each with an index of its own, tell and send each step once', async () => {
  const azurite = await startAzurite();
  onTestFinished(() => azurite.stop());
  const { connectionString } = azurite;
  const prefix = freshPrefix();
  const sent: string[] = [];
  const channel = {
    name: 'command-00000000',
    send: ({ subject }: { subject: string }) => Promise.resolve(String(sent.push(subject))),
  };

  async function replica() {
    const directory = await mkdtemp(path.join(tmpdir(), 'nexus-replica-'));
    const store = await openAzureStore({ connectionString, prefix });
    const usage = await openUsage({ store, file: path.join(directory, 'index.sqlite'), timeZone: 'UTC' });
    const alerts = openAlerts(store);
    onTestFinished(async () => {
      await usage.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    });
    return async (): Promise<void> => {
      await usage.catchUp();
      await watchSpending({
        usage,
        alerts,
        budgets: [{ name: 'all', per: 'month', tokens: 100, tz: 'UTC' }],
        channels: [channel.name],
        host: 'box',
        now: new Date(),
      });
      await alerts.send([channel], new AbortController().signal);
    };
  }

  const replicas = await Promise.all([replica(), replica(), replica()]);
  const store = await openAzureStore({ connectionString, prefix });
  onTestFinished(() => store.close());
  // The pace depends on the day of the month.
  const steps = () => sent.map((subject) => subject.split('/').at(-1)).filter((step) => step !== 'pace');
  const expected: string[] = [];
  for (const [tokens, step] of [
    [40, undefined],
    [10, '50'],
    [30, '80'],
    [5, undefined],
    [60, '100'],
  ] as const) {
    await spend(store, 'main', `s${tokens}`, [{ tokens, cost: 0.01 }]);
    for (let looks = 0; looks < 2; looks++) await Promise.all(replicas.map((look) => look()));
    if (step !== undefined) expected.push(step);
    expect(steps()).toEqual(expected);
  }
});
