import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, test } from 'vitest';
import { holderText, readHolder } from '../../src/jobs/agentlock.ts';
import { firstRunOf } from '../../src/jobs/firstrun.ts';
import { ledgerFile, openLedger } from '../../src/jobs/ledger.ts';
import { configSchema } from '../../src/config.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';
import { newUnitMachine, serving } from './systemctl.ts';

let machine: OpenClawMachine;
let receiver: Receiver;
let monitor: Receiver;
const hour = 3_600_000;

beforeEach(async () => {
  [machine, receiver, monitor] = await Promise.all([newOpenClawMachine(), startReceiver(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2), { ageMs: 5 * hour });
  await machine.configure({
    alerts: { channels: [{ kind: 'webhook', url: receiver.url }] },
    heartbeats: { status: `${monitor.url}/ping` },
  });
});

const told = () => receiver.received.map(({ body }) => /"title":"([^"]*)"/.exec(body)?.[1] ?? body);
/** How each look ended; each began with a start. */
const ends = () => monitor.received.filter(({ path: at }) => at !== '/ping/start');
const pings = () => ends().map(({ path: at }) => at);
const bodies = () => ends().map(({ body }) => body);
const status = () => machine.nexus(['status', '--alert']);

/** As `nexus backfill` holds an agent, from so long ago. */
async function backfillAtWork(agoMs: number, pid = process.pid): Promise<string> {
  const file = path.join(machine.dataDir, 'host', 'locks', 'main.lock.holder');
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(path.join(path.dirname(file), 'main.lock'), '');
  const since = new Date(Date.now() - agoMs);
  await writeFile(file, holderText({ job: 'backfill', pid, host: 'box', since }));
  return file;
}

function shippedAgo(ms: number): void {
  const db = new DatabaseSync(path.join(machine.dataDir, 'host', 'ledger.sqlite'));
  db.prepare("INSERT INTO shipped VALUES ('s', 'main', 'p', '1', 't', 1, 'x', 1, 'm', ?)").run(
    Date.now() - ms,
  );
  db.close();
}

describe('status --alert', () => {
  test('before anything ran alerts nobody, and its monitor reads that the first backfill is not done', async () => {
    expect((await status()).status).toBe(3);
    expect((await status()).status).toBe(3);
    expect(told()).toEqual([]);
    expect(pings()).toEqual(['/ping', '/ping']);
    expect(bodies()[0]).toContain('The first backfill is not done yet.');
  });

  test('while the first backfill archives something alerts nobody, for however long', async () => {
    await backfillAtWork(9 * hour);
    await status();
    receiver.received.length = 0;
    monitor.received.length = 0;
    shippedAgo(hour);
    await status();
    expect(told().filter((title) => !title.includes('works again'))).toEqual([]);
    expect(pings()).toEqual(['/ping']);
  });

  test('tells once of one that archives nothing for three hours, and once when it does again', async () => {
    await backfillAtWork(4 * hour);
    for (let n = 0; n < 2; n++) await status();
    expect(told()).toEqual([
      expect.stringContaining('the first backfill is at work and has archived nothing since'),
    ]);
    expect(pings()).toEqual(['/ping/fail', '/ping/fail']);
    shippedAgo(0);
    for (let n = 0; n < 2; n++) await status();
    expect(told()).toEqual([expect.any(String), expect.stringContaining('backfill works again')]);
  });

  test('where there is an endpoint alone waits for no backfill', async () => {
    const alone = await newUnitMachine();
    const settings = JSON.stringify({ heartbeats: { status: `${monitor.url}/ping` } });
    await mkdir(path.dirname(alone.configFile), { recursive: true });
    await writeFile(alone.configFile, settings, { mode: 0o600 });
    await alone.systemd({ 'nexus-serve.service': { ...serving, ActiveState: 'failed', SubState: 'failed' } });
    for (const unit of [
      'upload.service',
      'upload.timer',
      'pull-webhooks.service',
      'pull-webhooks.timer',
      'backfill.service',
    ])
      await rm(path.join(alone.home, '.config', 'systemd', 'user', `nexus-${unit}`));
    const env = { OPENCLAW_STATE_DIR: path.join(alone.home, 'nowhere') };
    await alone.nexus(['status', '--alert'], { env });
    expect(pings()).toEqual(['/ping/fail']);
    expect(monitor.received[0]?.body).not.toContain('backfill');
  });

  test('after a backfill that ended says what is not well as it is', async () => {
    await symlink('/etc/hostname', path.join(machine.openclaw.sessions(), `${ids.b}.jsonl`));
    expect((await machine.nexus(['backfill'])).status).toBe(3);
    await status();
    expect(pings()).toEqual(['/ping/fail']);
    await rm(path.join(machine.openclaw.sessions(), `${ids.b}.jsonl`));
    expect((await machine.nexus(['backfill'])).status).toBe(0);
    await status();
    expect(pings()).toEqual(['/ping/fail', '/ping']);
    expect(told()).toEqual([]);
  });
});

describe('the first run', () => {
  const now = Date.now();
  async function firstRun(at = now) {
    const config = configSchema.parse({ dataDir: machine.dataDir, host: 'box' });
    const ledger = openLedger(ledgerFile(config), () => undefined);
    try {
      return await firstRunOf(config, ledger, at);
    } finally {
      ledger.close();
    }
  }

  test('has stalled when nothing has run for three hours since this host was first looked at', async () => {
    expect(await firstRun()).toMatchObject({ underWay: false, stalled: false });
    expect(await firstRun(now + 4 * hour)).toMatchObject({ underWay: false, stalled: true });
  });

  test('is not what a dead process said of itself', async () => {
    await backfillAtWork(hour, 2 ** 22 + 1);
    expect(await firstRun()).toMatchObject({ underWay: false });
    await machine.nexus(['upload']);
    expect(await firstRun()).toBeUndefined();
  });

  test('goes on beside uploads that are well, while a backfill is at work', async () => {
    await machine.nexus(['upload']);
    await backfillAtWork(4 * hour);
    expect(await firstRun()).toMatchObject({ underWay: true, stalled: false });
    expect(await firstRun(now + 4 * hour)).toMatchObject({ stalled: true });
  });
});

test('who holds a lock is read as it was written', () => {
  const holder = {
    job: 'pull-webhooks',
    pid: 7,
    host: 'a, since (b) on c',
    since: new Date(1_700_000_000_000),
  };
  expect(readHolder(holderText(holder))).toEqual(holder);
  expect(readHolder('another')).toBeUndefined();
});
