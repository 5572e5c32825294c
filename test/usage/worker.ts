// A process of its own that brings an index up to date and is killed in the middle: so many steps and ms after it began.
import { writeSync } from 'node:fs';
import { openLocalStore } from '../../src/stores/local.ts';
import { openUsage } from '../../src/usage.ts';

const [directory = '', file = '', steps = '0', ms = '0'] = process.argv.slice(2);
let left = Number(steps);
const store = await openLocalStore(directory);
// Every other one reads in threads.
const threadsFrom = Number(steps) % 2 === 0 ? -1 : Number.POSITIVE_INFINITY;
const usage = await openUsage({ store, file, directory, threadsFrom });
const { complete } = await usage.catchUp({
  progress: () => {
    if (--left === 0) setTimeout(() => process.kill(process.pid, 'SIGKILL'), Number(ms));
  },
});
writeSync(1, complete ? 'complete\n' : 'incomplete\n');
await usage.close();
await store.close();
