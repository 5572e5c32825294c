import { expect, test } from 'vitest';
import type { Fetched, Received, Webhooks } from '../../src/mailbox.ts';
import type { Store, TableRow } from '../../src/stores/store.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { temporaryStore } from '../port/local.ts';

const item: Fetched = {
  agent: 'main',
  source: 'putio',
  contentType: 'application/x-www-form-urlencoded',
  body: Buffer.from('id=7'),
  delivery: '7 2026-11-23T10:05:07Z',
  otherwise: { delivery: '7', since: '2026-11-23T09:05:07Z' },
};

/** A store over which a process dies before its n-th write, row by row, as over a network; 0 counts. */
function dying(store: Store, at: number): { store: Store; writes: () => number } {
  let writes = 0;
  const enter = () => {
    if (at > 0 && writes + 1 >= at) throw new Error('The process is dead.');
    writes++;
  };
  const insert = async (table: string, row: TableRow['row']) => {
    enter();
    await store.insert(table, row);
  };
  return {
    writes: () => writes,
    store: {
      ...store,
      insert,
      async insertAll(rows) {
        let added = 0;
        for (const { table, row } of rows) {
          enter();
          if ((await store.insertAll([{ table, row }])) === 0) return added;
          added++;
        }
        return added;
      },
      async put(table, row) {
        enter();
        await store.put(table, row);
      },
      async create(name, body) {
        enter();
        await store.create(name, body);
      },
    },
  };
}

const callbacks = ['7', '7 2026-11-23T10:05:07Z', undefined] as const;
const small = Buffer.from('id=7');
const large = Buffer.from(`id=7&name=${'x'.repeat(100_000)}`);

test.each(
  callbacks.flatMap((late) =>
    [small, large].flatMap((body) => [false, true].map((taken) => ({ late, body, taken }))),
  ),
)(
  'a host that dies anywhere in adding leaves one item when it and a callback ($late) come again, taken meanwhile: $taken',
  async ({ late, body, taken }) => {
    for (let at = 0, most = 1; at <= most; at++) {
      const { store, remove } = await temporaryStore();
      try {
        const broken = dying(store, at);
        const before = openWebhooks(broken.store);
        await before.add({ ...item, body }).catch(() => undefined);
        if (at === 0) most = broken.writes();
        const after = openWebhooks(store);
        const answers: Received[] = [];
        const callback = async (webhooks: Webhooks) => {
          if (late === undefined) return;
          const { agent, source, contentType } = item;
          answers.push(
            await webhooks.receive({ agent, source, contentType, headers: {}, body, delivery: late }),
          );
        };
        const add = async (webhooks: Webhooks) => {
          answers.push(await webhooks.add({ ...item, body }));
        };
        const delivered: string[] = [];
        for (const step of [callback, add, callback, add]) {
          await step(after);
          const { items } = await after.pending({ agents: ['main'] });
          delivered.push(...items.map(({ id }) => id));
          if (taken) await after.acknowledge(items.map(({ id }) => id));
        }
        // What is not taken is seen as pending after each step that follows.
        const times = taken ? delivered.length : new Set(delivered).size;
        expect(times, `dead at write ${at}`).toBe(1);
        expect(new Set(answers.map(({ id }) => id))).toEqual(new Set(delivered));
      } finally {
        await remove();
      }
    }
  },
);
