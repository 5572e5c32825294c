// A process of its own, for the tests with several: says on stdout what was acknowledged to it, line by line.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { failedWith } from '../../src/errors.ts';
import { acquireLock } from '../../src/processlock.ts';
import { openLocalStore } from '../../src/stores/local.ts';

const [task = '', path = '', name = '', forMs = '0'] = process.argv.slice(2);
const say = (...words: (string | number)[]): number => writeSync(1, `${words.join(' ')}\n`);

if (task === 'hold') {
  await acquireLock(path, { waitMs: 5000, holder: JSON.stringify({ pid: process.pid, name }) });
  say('held');
  await sleep(60_000);
}

if (task === 'hammer') {
  const store = await openLocalStore(path);
  say('id', await store.id());
  const end = performance.now() + Number(forMs);

  const append = async (): Promise<void> => {
    const log = 'sessions/inbox/main/shared.jsonl';
    let offset = 0;
    for (let n = 0; performance.now() < end; ) {
      const line = `${JSON.stringify({ name, n, padding: 'x'.repeat((n * 37) % 500) })}\n`;
      try {
        const length = await store.append(log, offset, Buffer.from(line));
        say('appended', offset, line.trimEnd());
        offset = length;
        n++;
      } catch (error) {
        if (!failedWith(error, 'conflict') || error.length === undefined) throw error;
        offset = error.length;
      }
    }
  };

  const create = async (): Promise<void> => {
    for (let n = 0; performance.now() < end; n++) {
      if (await won(store.create(`payloads/main/${n}`, Buffer.from(name.repeat(1000))))) say('created', n);
      await sleep(2);
    }
  };

  const insert = async (): Promise<void> => {
    for (let n = 0; performance.now() < end; n++) {
      if (await won(store.insert('Deliveries', { partition: 'main', id: `d${n}`, name }))) say('inserted', n);
      await sleep(2);
    }
  };

  await Promise.all([append(), create(), insert()]);
  await store.close();
  say('done');
}

async function won(race: Promise<void>): Promise<boolean> {
  try {
    await race;
    return true;
  } catch (error) {
    if (failedWith(error, 'conflict')) return false;
    throw error;
  }
}
