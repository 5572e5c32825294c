// A process that says how long queries over an index take that is there.
import path from 'node:path';
import { openLocalStore } from '../../src/stores/local.ts';
import { openUsage } from '../../src/usage.ts';
import { indexPath } from '../../src/usagefile.ts';

const [dataDir = ''] = process.argv.slice(2);
const store = await openLocalStore(path.join(dataDir, 'store'));
const usage = await openUsage({ store, file: indexPath(dataDir) });
const { complete, coverage } = await usage.catchUp();
const query = async (by: string): Promise<number> => {
  const times: number[] = [];
  for (let nth = 0; nth < 7; nth++) {
    const began = performance.now();
    await usage.query({ by, tz: 'Europe/Berlin' });
    times.push(performance.now() - began);
  }
  return times.sort((one, other) => one - other)[3] ?? 0;
};
const queries = { daily: await query('agent,day,model'), bySession: await query('session') };
const { totals } = await usage.query({});
process.stdout.write(
  JSON.stringify({ complete, bytes: coverage.bytes, calls: totals.calls, total: totals.total, queries }),
);
await usage.close();
await store.close();
