// A process of its own, for the test with several: says on stdout what it was told, line by line.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';

const [task = '', path = '', forMs = '0'] = process.argv.slice(2);
const say = (...words: string[]): number => writeSync(1, `${words.join(' ')}\n`);
const webhooks = openWebhooks(await openLocalStore(path));
const end = performance.now() + Number(forMs);

/** All senders send the same deliveries, every fifth with a large body, several at once. */
async function send(): Promise<void> {
  for (let n = 0; performance.now() < end; n += 8)
    await Promise.all(
      Array.from({ length: 8 }, async (_, k) => {
        const delivery = `d${n + k}`;
        const body = Buffer.from(k % 5 === 0 ? 'a'.repeat(40_000) : delivery);
        const { status, id } = await webhooks.receive({
          agent: 'main',
          source: 'test',
          contentType: 'text/plain',
          headers: {},
          body,
          delivery,
        });
        say(status, delivery, id);
      }),
    );
}

async function pull(): Promise<void> {
  while (performance.now() < end) {
    const { items } = await webhooks.pending({ agents: ['main'], host: 'box', limit: 50 });
    for (const { id } of items) say('pulled', id);
    await webhooks.acknowledge(
      items.map(({ id }) => id),
      'box',
    );
    await sleep(5);
  }
}

await (task === 'send' ? send() : pull());
await webhooks.close();
say('done');
