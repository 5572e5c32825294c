import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openUsage } from '../../src/usage.ts';
import { openIndexFile } from '../../src/usagefile.ts';
import { temporary } from './history.ts';

const script = path.join(import.meta.dirname, 'worker.ts');
const callsOfEach = 4000;
const text = 'x'.repeat(700);

/** Lines of one transcript, which repeats the first half of another's where it is a fork. */
function linesOf(session: number, fork: number | undefined): string[] {
  const begin = Date.parse('2026-11-01T00:00:00Z');
  return Array.from({ length: callsOfEach }, (_, nth) => {
    const of = fork !== undefined && nth < callsOfEach / 2 ? fork : session;
    return JSON.stringify({
      type: 'message',
      id: `${of}-${nth}`,
      parentId: null,
      timestamp: new Date(begin + (of * callsOfEach + nth) * 1000).toISOString(),
      message: {
        role: 'assistant',
        text,
        provider: 'p',
        model: 'm',
        usage: { input: 1 + nth, cost: { total: 0.001 } },
      },
    });
  });
}

test('processes that are killed at any moment leave nothing uncounted and count nothing twice', async () => {
  const root = await temporary();
  const directory = path.join(root, 'store');
  const file = path.join(root, 'usage', 'index.sqlite');
  const store = await openLocalStore(directory);
  const nexus = openSessions(store);
  for (let session = 0; session < 6; session++) {
    const fork = session % 2 === 1 ? session - 1 : undefined;
    const header = {
      type: 'session',
      timestamp: new Date(Date.parse('2026-10-01T00:00:00Z') + session).toISOString(),
    };
    const text = [JSON.stringify(header), ...linesOf(session, fork), ''].join('\n');
    await nexus.append('main', `s${session}`, 0, Buffer.from(text), { complete: true, about: {} });
  }
  const seen = new Set<number>();
  let killed = 0;
  for (let nth = 0; nth < 12; nth++) {
    const children = Array.from({ length: 1 + (nth % 2) }, () => {
      const [steps, ms] = [1 + Math.floor(Math.random() * 12), Math.floor(Math.random() * 40)];
      return spawn(process.execPath, [script, directory, file, String(steps), String(ms)], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
    });
    for (const child of children) {
      const [, signal] =
        child.exitCode === null && child.signalCode === null
          ? await once(child, 'close')
          : [null, child.signalCode];
      if (signal === 'SIGKILL') killed++;
    }
    const index = await openIndexFile(file, await store.id());
    const row = index.db.prepare('SELECT total(calls) AS calls FROM rollup').get();
    seen.add(Number(row?.['calls']));
    index.close();
    // Of what is to be read, some is to be there for the next to be killed in.
    if (nth % 3 === 2) {
      const usage = await openUsage({ store, file });
      await usage.rebuild({ signal: AbortSignal.abort() });
      await usage.close();
    }
  }
  const usage = await openUsage({ store, file });
  expect(await usage.catchUp()).toMatchObject({ complete: true, coverage: { transcripts: 6 } });
  const { totals } = await usage.query({});
  const sum = (from: number): number => {
    let all = 0;
    for (let nth = from; nth < callsOfEach; nth++) all += 1 + nth;
    return all;
  };
  expect(totals.calls).toBe(3 * callsOfEach + 3 * (callsOfEach / 2));
  expect(totals.input).toBe(3 * sum(0) + 3 * sum(callsOfEach / 2));
  expect(totals.costRecorded).toBeCloseTo(totals.calls * 0.001, 9);
  expect(killed).toBeGreaterThanOrEqual(5);
  // They were killed between transactions of one transcript, not only before and after all.
  expect(seen.size).toBeGreaterThan(2);
  await usage.close();
  await store.close();
}, 120_000);
