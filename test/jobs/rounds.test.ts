import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { configSchema } from '../../src/config.ts';
import { NexusError } from '../../src/errors.ts';
import { attendRounds } from '../../src/jobs/attend.ts';
import { ledgerFile, openLedger, type Run } from '../../src/jobs/ledger.ts';
import type { Mailbox } from '../../src/mailbox.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

let host: PullHost;
let receiver: Receiver;
let monitor: Receiver;

beforeEach(async () => {
  host = await makePullHost(['main', 'second']);
  [receiver, monitor] = await Promise.all([startReceiver(), startReceiver()]);
  onTestFinished(() => host.remove());
});

const settings = (afterFailures = 3) =>
  configSchema.pick({ alerts: true, heartbeats: true }).parse({
    alerts: { channels: [{ kind: 'webhook', url: receiver.url }], afterFailures },
    heartbeats: { 'pull-webhooks': `${monitor.url}/ping` },
  });

interface Following {
  ended: Promise<unknown>;
  stop: () => Promise<void>;
}

/** `pull-webhooks --follow` as the command attends it. */
function follow(options: PullHostOptions = {}, afterFailures?: number): Following {
  const stop = new AbortController();
  const attending = {
    config: host.config(settings(afterFailures)),
    env: { HOME: host.root, OPENCLAW_STATE_DIR: `${host.root}/openclaw` },
    signal: stop.signal,
    now: options.now ?? (() => new Date()),
    warn: () => undefined,
    info: () => undefined,
  };
  const following = attendRounds(attending, 'pull-webhooks', ({ ended }) =>
    host.follow({ ...options, signal: stop.signal, ended }),
  );
  return {
    ended: following,
    async stop() {
      stop.abort();
      await following;
    },
  };
}

/** A clock by which each second is two minutes. */
function quickClock(from = Date.now()): () => Date {
  const began = performance.now();
  return () => new Date(from + (performance.now() - began) * 120);
}

const events = () =>
  receiver.received.map(({ body }) => /"event":"(\w+)"/.exec(body)?.[1] ?? body.slice(0, 50));
const pings = () => monitor.received.map(({ path }) => path);

function runs(): Run[] {
  const ledger = openLedger(ledgerFile(host.config()), () => undefined);
  try {
    return ledger.runs('pull-webhooks', 50);
  } finally {
    ledger.close();
  }
}

/** A mailbox that is out of reach while `down()`, for one agent or all. */
const failing =
  (down: () => boolean, agent?: string) =>
  (mailbox: Mailbox): Mailbox => ({
    ...mailbox,
    async pending(request) {
      if (down() && (agent === undefined || request.agents.includes(agent)))
        throw new NexusError('unavailable', 'Nobody answers.');
      return await mailbox.pending(request);
    },
  });

const within = { timeout: 10_000, interval: 20 };

describe('pull-webhooks --follow', () => {
  test('that fails in three minutes in a row is told once, and once more when it works again', async () => {
    let down = true;
    const following = follow({ mailbox: failing(() => down), now: quickClock() });
    await expect.poll(events, within).toEqual(['failed']);
    const before = runs().length;
    await expect.poll(() => runs().length, within).toBeGreaterThan(before + 1);
    expect(events()).toEqual(['failed']);
    expect(runs().every(({ ok }) => !ok)).toBe(true);
    down = false;
    await expect.poll(events, within).toEqual(['failed', 'recovered']);
    await following.stop();
    expect(receiver.received[0]?.body).toContain('pull-webhooks has failed 3 times in a row.');
    expect(receiver.received[0]?.body).toContain('Nobody answers.');
  });

  test('that fails for seconds has failed once, however many tries that were', async () => {
    let asked = 0;
    const down = () => ++asked > 0;
    const following = follow({ mailbox: failing(down) });
    await expect.poll(() => asked, within).toBeGreaterThan(6);
    await following.stop();
    expect(runs()).toHaveLength(1);
    expect(events()).toEqual([]);
  });

  test('that is ended and started again goes on counting', async () => {
    const down = { mailbox: failing(() => true) };
    for (let n = 0; n < 2; n++) {
      const following = follow({ ...down, now: () => new Date(Date.now() + n * 120_000) });
      await expect.poll(() => runs().length, within).toBe(n + 1);
      await following.stop();
    }
    expect(events()).toEqual([]);
    const third = follow({ ...down, now: () => new Date(Date.now() + 240_000) });
    await expect.poll(events, within).toEqual(['failed']);
    await third.stop();
  });

  test('that has not looked at all its agents yet does not say that it works again', async () => {
    const down = { mailbox: failing(() => true, 'second') };
    const first = follow(down, 1);
    await expect.poll(events, within).toEqual(['failed']);
    await first.stop();
    const before = runs().length;
    // The other agent is looked at, and well, long before this one answers.
    const slow = (mailbox: Mailbox): Mailbox => ({
      ...mailbox,
      async pending(request) {
        if (!request.agents.includes('second')) return await mailbox.pending(request);
        await sleep(1200);
        throw new NexusError('unavailable', 'Nobody answers.');
      },
    });
    const again = follow({ mailbox: slow, now: () => new Date(Date.now() + 120_000) }, 1);
    await expect.poll(() => runs().length, within).toBe(before + 1);
    await again.stop();
    expect(events()).toEqual(['failed']);
    expect(runs().every(({ ok }) => !ok)).toBe(true);
  });

  test('delivers while a channel and a monitor hang, and ends at once', async () => {
    for (const one of [receiver, monitor]) one.answer(0);
    const following = follow({ mailbox: failing(() => true, 'second') }, 1);
    await expect.poll(() => receiver.received.length, within).toBe(1);
    const began = performance.now();
    await host.receive();
    await expect.poll(async () => (await host.files()).length, within).toBe(1);
    expect(performance.now() - began).toBeLessThan(5_000);
    await following.stop();
    expect(performance.now() - began).toBeLessThan(8_000);
  });

  test('tells its monitor that it began, and once a minute how it stands', async () => {
    const following = follow();
    await host.receive();
    await expect.poll(pings, within).toEqual(['/ping/start', '/ping']);
    for (let n = 2; n < 5; n++) {
      await host.receive();
      await expect.poll(async () => (await host.files()).length, within).toBe(n);
    }
    expect(pings()).toEqual(['/ping/start', '/ping']);
    await following.stop();
    const now = quickClock();
    const began = now().getTime();
    const second = follow({ now });
    await expect.poll(() => pings().length, within).toBeGreaterThan(5);
    const minutes = (now().getTime() - began) / 60_000;
    expect(pings().slice(3).length).toBeLessThanOrEqual(minutes + 1);
    await second.stop();
  });

  test('that cannot begin is kept as a failed run, and told', async () => {
    const open = () => Promise.reject(new NexusError('unauthorized', 'No such key.'));
    await expect(follow({ open }, 1).ended).rejects.toThrow('No such key.');
    expect(runs()).toMatchObject([{ ok: false }]);
    expect(events()).toEqual(['failed']);
  });
});
