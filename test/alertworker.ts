// A process of its own: raises or ends the same ten alerts as its siblings, sends them, and says what it sent; or takes
// what is due and hangs while it sends.
import { writeSync } from 'node:fs';
import { type Channel, openAlerts } from '../src/alerts.ts';
import type { Store } from '../src/stores/store.ts';

const [where = '', event = ''] = process.argv.slice(2);
const store = await opened(JSON.parse(where));
const alerts = openAlerts(store);
const channel: Channel = {
  name: 'command-00000000',
  send: async ({ event, title }) => {
    if (hangs) return await new Promise(() => undefined);
    writeSync(1, `${event} ${title}\n`);
    return 'noted';
  },
};
const hangs = event === 'hang';
const signal = new AbortController().signal;
if (hangs) {
  setInterval(() => undefined, 60_000);
  await alerts.send([channel], signal);
}
for (let n = 0; n < 10; n++) {
  const notice = { host: 'box', subject: `job/${n}`, title: String(n), at: new Date().toISOString() };
  if (event === 'failed') await alerts.raise({ ...notice, event: 'failed' }, [channel.name]);
  else await alerts.recover({ ...notice, event: 'recovered' });
  await alerts.send([channel], signal);
}
await store.close();

async function opened(given: unknown): Promise<Store> {
  const options = new Map<string, unknown>(Object.entries(given ?? {}));
  const directory = options.get('directory');
  if (typeof directory === 'string') {
    const { openLocalStore } = await import('../src/stores/local.ts');
    return await openLocalStore(directory);
  }
  const { openAzureStore } = await import('../src/stores/azure.ts');
  return await openAzureStore({
    connectionString: String(options.get('connectionString')),
    prefix: String(options.get('prefix')),
  });
}
