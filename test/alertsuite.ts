import path from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type Alerts, type Channel, type Notice, openAlerts } from '../src/alerts.ts';
import { NexusError } from '../src/errors.ts';
import type { Row, Store } from '../src/stores/store.ts';

export interface LatchStore {
  store: Store;
  /** What `alertworker.ts` opens the same store by. */
  worker: object;
  close: () => Promise<void>;
}

const minute = 60_000;

/** What alerts promise, over any store. */
export function describeAlerts(name: string, open: () => Promise<LatchStore>): void {
  describe(`alerts ${name}`, () => {
    suite(open);
  });
}

function suite(open: () => Promise<LatchStore>): void {
  let store: Store;
  let worker: object;
  let clock: number;
  let alerts: Alerts;

  beforeEach(async () => {
    const opened = await open();
    ({ store, worker } = opened);
    clock = Date.parse('2026-11-23T10:00:00Z');
    alerts = openAlerts(store, { now: () => clock });
    onTestFinished(() => opened.close());
  });

  function notice(subject: string, more: Partial<Notice> = {}): Notice {
    return {
      event: 'failed',
      host: 'box',
      subject,
      title: `${subject} failed.`,
      at: new Date(clock).toISOString(),
      ...more,
    };
  }

  const over = (subject: string) => notice(subject, { event: 'recovered', title: `${subject} works again.` });

  /** A channel that keeps what it sent, and fails while it is told to. */
  function channel(name = 'webhook-00000001') {
    const sent: { title: string; id: string }[] = [];
    const state = { failing: false, sent };
    const send: Channel['send'] = async ({ title }, id) => {
      if (state.failing) throw new NexusError('unavailable', 'It is dead.');
      sent.push({ title, id });
      return 'noted';
    };
    return Object.assign(state, { name, send });
  }

  async function rowsLeft(): Promise<Row[]> {
    const rows: Row[] = [];
    for await (const row of store.rows('Alerts', 'latched')) rows.push(row);
    return rows;
  }

  const sendOn = (...channels: Channel[]) => alerts.send(channels, new AbortController().signal);
  const titles = (one: { sent: { title: string }[] }) => one.sent.map(({ title }) => title);

  test('what is raised is sent once, however often it is raised and sent again', async () => {
    const one = channel();
    expect(await alerts.raise(notice('job/upload'), [one.name])).toBe(true);
    expect(await alerts.raise(notice('job/upload'), [one.name])).toBe(false);
    await sendOn(one);
    await sendOn(one);
    expect(await alerts.raise(notice('job/upload'), [one.name])).toBe(false);
    await sendOn(one);
    expect(titles(one)).toEqual(['job/upload failed.']);
  });

  test('its end is sent once, and then it can be raised anew', async () => {
    const one = channel();
    for (let round = 0; round < 3; round++) {
      expect(await alerts.raise(notice('job/upload'), [one.name])).toBe(true);
      await sendOn(one);
      expect(await alerts.recover(over('job/upload'))).toBe(true);
      expect(await alerts.recover(over('job/upload'))).toBe(false);
      await sendOn(one);
      await sendOn(one);
      clock += minute;
    }
    expect(titles(one)).toEqual(
      Array.from({ length: 3 }, () => ['job/upload failed.', 'job/upload works again.']).flat(),
    );
    expect(new Set(one.sent.map(({ id }) => id)).size).toBe(6);
  });

  test('nothing that was never raised has an end', async () => {
    expect(await alerts.recover(over('job/upload'))).toBe(false);
    expect(await alerts.list()).toEqual([]);
  });

  test('subjects do not know each other, even where one begins with the other', async () => {
    const one = channel();
    for (const subject of ['budget/main/2026-11/8', 'budget/main/2026-11/80', 'budget/main', 'ü/ß'])
      expect(await alerts.raise(notice(subject), [one.name])).toBe(true);
    await alerts.recover(over('budget/main/2026-11/8'));
    const lasting = (await alerts.list()).filter(({ recovered }) => recovered === undefined);
    expect(lasting.map(({ subject }) => subject).sort()).toEqual([
      'budget/main',
      'budget/main/2026-11/80',
      'ü/ß',
    ]);
    await alerts.forget(['budget/main', 'ü/ß']);
    expect((await alerts.list()).map(({ subject }) => subject).sort()).toEqual([
      'budget/main/2026-11/8',
      'budget/main/2026-11/80',
    ]);
  });

  test('a subject of any length fits a row', async () => {
    const one = channel('webhook-0123abcd');
    for (const subject of ['x'.repeat(1000), 'ü'.repeat(400)]) {
      await alerts.raise(notice(subject), [one.name]);
      await sendOn(one);
      await alerts.recover(over(subject));
    }
    await sendOn(one);
    expect(one.sent).toHaveLength(4);
  });

  describe('a dead channel', () => {
    test('is tried again after a pause that doubles, and keeps no other from being told', async () => {
      const [dead, well] = [channel('webhook-dead0000'), channel('email-00000000')];
      dead.failing = true;
      await alerts.raise(notice('job/upload'), [dead.name, well.name]);
      expect(await sendOn(dead, well)).toMatchObject([
        { channel: dead.name, failure: 'It is dead.' },
        { channel: well.name },
      ]);
      expect(await sendOn(dead, well)).toEqual([]);
      clock += minute;
      expect(await sendOn(dead, well)).toHaveLength(1);
      clock += minute;
      expect(await sendOn(dead, well)).toEqual([]);
      clock += minute;
      dead.failing = false;
      await sendOn(dead, well);
      expect([titles(dead), titles(well)]).toEqual([['job/upload failed.'], ['job/upload failed.']]);
    });

    test('is told of the end alone when that comes first', async () => {
      const dead = channel();
      dead.failing = true;
      await alerts.raise(notice('job/upload'), [dead.name]);
      await sendOn(dead);
      await alerts.recover(over('job/upload'));
      dead.failing = false;
      await sendOn(dead);
      clock += 10 * minute;
      await sendOn(dead);
      expect(titles(dead)).toEqual(['job/upload works again.']);
    });

    test('that stays dead leaves a bounded number of rows', async () => {
      const dead = channel();
      dead.failing = true;
      await alerts.raise(notice('job/upload'), [dead.name]);
      for (let n = 0; n < 30; n++) {
        await sendOn(dead);
        clock += 61 * minute;
      }
      const rows = await rowsLeft();
      expect(rows.length).toBeLessThan(5);
      expect((await alerts.list())[0]?.deliveries).toMatchObject([
        { tries: 30, state: 'failed', reason: 'It is dead.' },
      ]);
    });
  });

  test('a channel that is set up later is told of what lasts, and not of what is over', async () => {
    const later = channel();
    await alerts.raise(notice('job/upload'), []);
    await alerts.raise(notice('job/backfill'), []);
    await alerts.recover(over('job/backfill'));
    await sendOn(later);
    expect(titles(later)).toEqual(['job/upload failed.']);
  });

  test('a recovery that no channel has taken goes out before what is raised anew', async () => {
    const one = channel();
    await alerts.raise(notice('job/upload'), [one.name]);
    await sendOn(one);
    one.failing = true;
    await alerts.recover(over('job/upload'));
    await sendOn(one);
    clock += 10 * minute;
    await alerts.raise(notice('job/upload'), [one.name]);
    expect(await alerts.list()).toMatchObject([{ number: 2 }]);
    one.failing = false;
    for (let n = 0; n < 3; n++) await sendOn(one);
    expect(titles(one)).toEqual(['job/upload failed.', 'job/upload works again.', 'job/upload failed.']);
    await alerts.recover(over('job/upload'));
    await sendOn(one);
    await alerts.raise(notice('job/upload'), [one.name]);
    await sendOn(one);
    expect(titles(one).slice(3)).toEqual(['job/upload works again.', 'job/upload failed.']);
    expect((await rowsLeft()).every(({ id }) => id.includes('~~00003~~'))).toBe(true);
  });

  test('nothing that lasts is told to be over because of a recovery that waited', async () => {
    const one = channel();
    await alerts.raise(notice('job/upload'), [one.name]);
    await sendOn(one);
    await alerts.recover(over('job/upload'));
    one.failing = true;
    await sendOn(one);
    await alerts.raise(notice('job/upload'), [one.name]);
    one.failing = false;
    // The recovery has to wait for its pause, and the alert has not.
    await sendOn(one);
    clock += 10 * minute;
    await sendOn(one);
    expect(titles(one)).toEqual(['job/upload failed.', 'job/upload failed.']);
  });

  test.each([[true], [false]])(
    'what is being sent while its subject is forgotten mutes nothing that is raised anew (taken: %s)',
    async (taken) => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const slow: Channel = { name: channel().name, send: () => promise };
      await alerts.raise(notice('budget/main/80'), [slow.name]);
      const sending = alerts.send([slow], new AbortController().signal);
      await expect.poll(async () => (await alerts.list())[0]?.deliveries[0]?.state).toBe('sending');
      await alerts.forget(['budget/main/80']);
      await alerts.raise(notice('budget/main/80'), [slow.name]);
      if (taken) resolve('noted');
      else reject(new NexusError('unavailable', 'It is dead.'));
      await sending;
      const one = channel();
      await sendOn(one);
      expect(titles(one)).toEqual(['budget/main/80 failed.']);
    },
  );

  describe('a crash', () => {
    /** The store of a process that dies at its nth write. */
    function dyingAt(nth: number): Store {
      let writes = 0;
      const count = () => {
        if (++writes >= nth) throw new Error('killed');
      };
      return {
        ...store,
        insert: async (...given) => (count(), await store.insert(...given)),
        put: async (...given) => (count(), await store.put(...given)),
      };
    }

    test('before the claim: the next process sends at once', async () => {
      const one = channel();
      await alerts.raise(notice('job/upload'), [one.name]);
      const dying = openAlerts(dyingAt(1), { now: () => clock });
      await expect(dying.send([one], new AbortController().signal)).rejects.toThrow('killed');
      await sendOn(one);
      expect(one.sent).toHaveLength(1);
    });

    test('between claim and sending: another sends when the lease is over, not before', async () => {
      const one = channel();
      await alerts.raise(notice('job/upload'), [one.name]);
      const hung = openAlerts(store, { now: () => clock });
      const never: Channel = { name: one.name, send: () => new Promise(() => undefined) };
      void hung.send([never], new AbortController().signal);
      await expect.poll(async () => (await alerts.list())[0]?.deliveries[0]?.state).toBe('sending');
      await sendOn(one);
      expect(one.sent).toEqual([]);
      clock += 2 * minute;
      await sendOn(one);
      await sendOn(one);
      expect(one.sent).toHaveLength(1);
    });

    test('between sending and its mark: it is repeated under the same id, and never lost', async () => {
      const one = channel();
      await alerts.raise(notice('job/upload'), [one.name]);
      const dying = openAlerts(dyingAt(2), { now: () => clock });
      await expect(dying.send([one], new AbortController().signal)).rejects.toThrow('killed');
      expect(one.sent).toHaveLength(1);
      clock += 2 * minute;
      await sendOn(one);
      await sendOn(one);
      expect(one.sent).toHaveLength(2);
      expect(one.sent[0]?.id).toBe(one.sent[1]?.id);
    });

    test('while old rows are removed: what is left of them is nothing', async () => {
      const one = channel();
      await alerts.raise(notice('job/upload'), [one.name]);
      await sendOn(one);
      await alerts.recover(over('job/upload'));
      await sendOn(one);
      const [kept] = await rowsLeft();
      await alerts.raise(notice('job/upload'), [one.name]);
      if (kept !== undefined) await store.insert('Alerts', kept);
      expect(await alerts.list()).toMatchObject([{ number: 2, subject: 'job/upload' }]);
      await sendOn(one);
      expect(one.sent).toHaveLength(3);
    });
  });

  test('of many that raise and send at the same time one does, in one process', async () => {
    const one = channel();
    const replicas = Array.from({ length: 10 }, () => openAlerts(store, { now: () => clock }));
    const raised = await Promise.all(
      replicas.map((replica) => replica.raise(notice('budget/main/80'), [one.name])),
    );
    expect(raised.filter(Boolean)).toHaveLength(1);
    await Promise.all(replicas.map((replica) => replica.send([one], new AbortController().signal)));
    expect(one.sent).toHaveLength(1);
  });

  test('of four processes that raise, send and end the same alerts at the same time one does each', async () => {
    const program = path.join(import.meta.dirname, 'alertworker.ts');
    const lines: string[] = [];
    for (const event of ['failed', 'recovered']) {
      const ran = await Promise.all(
        Array.from({ length: 4 }, () =>
          execa(process.execPath, [program, JSON.stringify(worker), event], { timeout: 30_000 }),
        ),
      );
      lines.push(...ran.flatMap(({ stdout }) => stdout.split('\n').filter((line) => line !== '')));
    }
    const expected = Array.from({ length: 10 }, (_, n) => [`failed ${n}`, `recovered ${n}`]).flat();
    expect(lines.sort()).toEqual(expected.sort());
  });

  test('a process that is killed while it sends is followed by one of eight, when its lease is over', async () => {
    const program = path.join(import.meta.dirname, 'alertworker.ts');
    const one = channel('command-00000000');
    await alerts.raise(notice('job/upload'), [one.name]);
    const hung = execa(process.execPath, [program, JSON.stringify(worker), 'hang'], { reject: false });
    await expect
      .poll(async () => (await alerts.list())[0]?.deliveries[0]?.state, { timeout: 15_000 })
      .toBe('sending');
    hung.kill('SIGKILL');
    await hung;
    // Its claim is by the clock of that process.
    clock = Date.now();
    await sendOn(one);
    expect(one.sent).toEqual([]);
    clock += 2 * minute;
    const replicas = Array.from({ length: 8 }, () => openAlerts(store, { now: () => clock }));
    await Promise.all(replicas.map((replica) => replica.send([one], new AbortController().signal)));
    expect(titles(one)).toEqual(['job/upload failed.']);
  });

  test('of replicas whose store fails at any of their writes no notice is lost', async () => {
    for (let nth = 1; nth <= 6; nth++) {
      const one = channel('command-00000000');
      const subject = `budget/main/${nth}`;
      let writes = 0;
      const failing = <Given extends unknown[], Result>(work: (...given: Given) => Promise<Result>) => {
        return async (...given: Given): Promise<Result> => {
          if (++writes === nth) throw new NexusError('unavailable', 'The store is away.');
          return await work(...given);
        };
      };
      const shaky = openAlerts(
        {
          ...store,
          insert: failing((...given: Parameters<Store['insert']>) => store.insert(...given)),
          put: failing((...given: Parameters<Store['put']>) => store.put(...given)),
          removeRows: failing((...given: Parameters<Store['removeRows']>) => store.removeRows(...given)),
        },
        { now: () => clock },
      );
      const signal = new AbortController().signal;
      for (let n = 0; n < 4; n++) {
        await shaky.raise(notice(subject), [one.name]).catch(isAway);
        await shaky.send([one], signal).catch(isAway);
        clock += 2 * minute;
      }
      expect(new Set(one.sent.map(({ id }) => id)).size).toBe(1);
      expect(one.sent.length).toBeLessThanOrEqual(2);
      await alerts.forget([subject]);
    }
  });

  test('a channel that heeds no signal keeps nobody for longer than it may take', async () => {
    const [deaf, well] = [channel('webhook-deaf0000'), channel('email-00000000')];
    await alerts.raise(notice('job/upload'), [deaf.name, well.name]);
    await alerts.raise(notice('job/backfill'), [deaf.name, well.name]);
    const never: Channel = { name: deaf.name, longestMs: 200, send: () => new Promise(() => undefined) };
    const began = performance.now();
    const sent = await sendOn(never, well);
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(sent.map(({ channel: name, failure }) => [name, failure !== undefined])).toEqual([
      [deaf.name, true],
      [well.name, false],
      [well.name, false],
    ]);
    // The one that was not begun has lost nothing of its turn.
    await sendOn(deaf);
    expect(titles(deaf)).toEqual(['job/upload failed.']);
  });

  function isAway(error: unknown): void {
    expect(error).toMatchObject({ code: 'unavailable' });
  }
}
