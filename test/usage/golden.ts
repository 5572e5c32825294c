import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { openUsage } from '../../src/usage.ts';
import { type Host, makeHost } from '../jobs/host.ts';
import { fixtures } from '../openclaw/fixtures.ts';

interface Figures {
  calls: number;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite: number;
  costUsd: number;
}

interface Truth {
  byAgentDayModel: { agent: string; dayUtc: string; model: string; recorded?: Figures }[];
  cron?: { jobId?: string; id?: string }[];
}

/** Every fixture shipped by a real backfill, and what is counted of it. */
export function goldenTests(): void {
  let host: Host;
  afterEach(() => host.remove());

  describe.each(fixtures)('%s', (fixture) => {
    test('its calls, tokens and cost are those that OpenClaw recorded, by agent, day and model', async () => {
      host = await makeHost(fixture);
      const truth: Truth = JSON.parse(readFileSync(path.join(host.stateDir, 'truth.json'), 'utf8'));
      expect((await host.backfill({ all: true })).ok).toBe(true);
      const store = await host.openStore();
      const usage = await openUsage({ store, file: path.join(host.root, 'usage', 'index.sqlite') });
      try {
        expect(await usage.catchUp()).toMatchObject({
          complete: true,
          coverage: { unread: 0, unreadable: { count: 0 }, oddities: [] },
        });
        const { rows, totals } = await usage.query({ by: ['agent', 'day', 'model'], tz: 'UTC' });
        const wanted = truth.byAgentDayModel
          .filter(({ recorded }) => (recorded?.calls ?? 0) > 0)
          .map(({ agent, dayUtc, model, recorded }) => ({ agent, day: dayUtc, model, ...recorded }));
        const found = rows.map(({ agent, day, model, ...sums }) => ({
          agent,
          day,
          model,
          calls: sums.calls,
          input: sums.input,
          output: sums.output,
          cacheRead: sums.cacheRead,
          cacheWrite: sums.cacheWrite,
          tokens: sums.total,
          costUsd: sums.cost,
        }));
        const order = (
          list: { agent?: string | undefined; day?: string | undefined; model?: string | undefined }[],
        ) =>
          list
            .map((row) => [`${row.agent} ${row.day} ${row.model}`, row] as const)
            .sort(([a], [b]) => (a < b ? -1 : 1));
        expect(order(found)).toEqual(
          order(wanted).map(([key, row]) => [key, { ...row, costUsd: expect.any(Number) }]),
        );
        const cost = wanted.reduce((sum, row) => sum + (row.costUsd ?? 0), 0);
        expect(totals.cost).toBeCloseTo(cost, 9);
        expect(totals.costCoverage).toEqual({ recorded: totals.calls, estimated: 0, unpriced: 0 });
        for (const row of found) {
          const same = wanted.find(
            ({ agent, day, model }) => agent === row.agent && day === row.day && model === row.model,
          );
          expect(row.costUsd).toBeCloseTo(same?.costUsd ?? Number.NaN, 9);
        }
      } finally {
        await usage.close();
        await store.close();
      }
    });
  });
}
