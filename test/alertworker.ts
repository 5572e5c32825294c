// A process of its own: raises or ends the same ten alerts as its siblings, sends them, and says what it sent.
import { writeSync } from 'node:fs';
import { type Channel, openAlerts } from '../src/alerts.ts';
import { openLocalStore } from '../src/stores/local.ts';

const [directory = '', event = ''] = process.argv.slice(2);
const store = await openLocalStore(directory);
const alerts = openAlerts(store);
const channel: Channel = {
  name: 'command-00000000',
  send: async ({ event, title }) => {
    writeSync(1, `${event} ${title}\n`);
    return 'noted';
  },
};
for (let n = 0; n < 10; n++) {
  const notice = { host: 'box', subject: `job/${n}`, title: String(n), at: new Date().toISOString() };
  if (event === 'failed') await alerts.raise({ ...notice, event: 'failed' }, [channel.name]);
  else await alerts.recover({ ...notice, event: 'recovered' });
  await alerts.send([channel], new AbortController().signal);
}
await store.close();
