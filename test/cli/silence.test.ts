import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { keepFailure } from '../../src/jobs/attend.ts';
import { openLedger } from '../../src/jobs/ledger.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import {
  type UnitMachine,
  at,
  ended,
  newUnitMachine,
  old,
  problem,
  runningSince,
  serving,
  verdictOf,
  well,
} from './systemctl.ts';

const minute = 60_000;
const hour = 60 * minute;

let machine: UnitMachine;

beforeEach(async () => {
  machine = await newUnitMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
});

const verdict = () => verdictOf(machine);

describe('a job is silent', () => {
  /** Nothing that it did itself counts: only what systemd says. */
  const silentFor = (agoMs: number, more = {}) => ({
    ...old('nexus-pull-webhooks.timer'),
    'nexus-pull-webhooks.service': ended(agoMs, 0, more),
  });
  const silent = expect.stringMatching(
    /^not well: No pull-webhooks has succeeded for \d+ min( \d+ s)?, though nexus-pull-webhooks\.timer starts one every 1 min\. Look at `systemctl --user status nexus-pull-webhooks\.service`\.$/,
  );

  beforeEach(async () => {
    await machine.nexus(['backfill']);
  });

  test('when it has not succeeded within three intervals and what chance adds', async () => {
    await machine.systemd(silentFor(3.9 * minute));
    expect(await verdict()).toEqual(well);
    await machine.systemd(silentFor(4.5 * minute));
    expect(await verdict()).toEqual({ status: 3, lines: [silent] });
  });

  test('and not when its timer was just started, at boot or by an installation', async () => {
    await machine.systemd({
      ...silentFor(9 * hour),
      'nexus-pull-webhooks.timer': at('ActiveEnter', 3 * minute),
    });
    expect(await verdict()).toEqual(well);
  });

  test('and not when it is at work', async () => {
    const since = { ...at('ExecMainStart', hour), ActiveState: 'activating', SubState: 'start' };
    await machine.systemd(silentFor(9 * hour, since));
    expect(await verdict()).toEqual(well);
  });

  test('and not when the machine slept', async () => {
    const slept = 8 * hour;
    await machine.systemd({
      ...old('nexus-pull-webhooks.timer'),
      'nexus-pull-webhooks.service': {
        ...ended(slept + minute),
        ...at('ExecMainExit', slept + minute, slept),
        ...at('InactiveEnter', slept + minute, slept),
      },
    });
    expect(await verdict()).toEqual(well);
  });

  test('and not when it left its work to another job of late', async () => {
    await machine.nexus(['upload']);
    await machine.systemd({
      ...old('nexus-pull-webhooks.timer', at('ActiveEnter', 20 * minute)),
      'nexus-pull-webhooks.service': ended(minute, 75),
    });
    expect(await verdict()).toEqual(well);
    await machine.systemd({
      ...old('nexus-pull-webhooks.timer', at('ActiveEnter', 7 * hour)),
      'nexus-pull-webhooks.service': ended(minute, 75),
    });
    expect((await verdict()).status).toBe(3);
  });

  test('by what its own ledger says too, which is kept every ten minutes', async () => {
    await machine.systemd({ ...old('nexus-upload.timer') });
    expect(await verdict()).toEqual(well);
  });

  test('where its timer is dead, which is one problem', async () => {
    await machine.systemd({
      ...silentFor(hour),
      'nexus-pull-webhooks.timer': 'not-found',
    });
    expect(await verdict()).toEqual(
      problem(
        'nexus-pull-webhooks.timer is missing, and no pull-webhooks has succeeded for 1 h. Run `nexus install --user` again.',
      ),
    );
  });
});

describe('with --alert', () => {
  let receiver: Receiver;
  const events = () =>
    receiver.received.map(({ body }) => {
      const { event, subject, title }: Record<string, string> = JSON.parse(body);
      return `${event} ${subject}: ${title}`;
    });
  const look = async (units: Parameters<UnitMachine['systemd']>[0]) => {
    await machine.systemd(units);
    await machine.nexus(['status', '--alert']);
    return events();
  };
  const silent = () => ({
    ...old('nexus-pull-webhooks.timer'),
    'nexus-pull-webhooks.service': ended(2 * hour),
  });
  const raised =
    'failed silent/pull-webhooks: Nexus on box: No pull-webhooks has succeeded for 2 h, though nexus-pull-webhooks.timer starts one every 1 min.';
  const over = 'recovered silent/pull-webhooks: Nexus on box: pull-webhooks works again.';

  beforeEach(async () => {
    receiver = await startReceiver();
    await machine.configure({
      retry: { tries: 1, baseMs: 1, maxMs: 1 },
      alerts: { channels: [{ kind: 'webhook', url: receiver.url }] },
    });
    await machine.nexus(['backfill']);
  });

  test('a silent job is told once, since when it is, and once more when it has succeeded', async () => {
    expect(await look({})).toEqual([]);
    for (let n = 0; n < 2; n++) expect(await look(silent())).toEqual([raised]);
    const { since }: Record<string, string> = JSON.parse(receiver.received[0]?.body ?? '');
    expect(Math.abs(Date.now() - 2 * hour - Date.parse(since ?? ''))).toBeLessThan(minute);
    const again = { ...old('nexus-pull-webhooks.timer'), 'nexus-pull-webhooks.service': ended(5000) };
    for (let n = 0; n < 2; n++) expect(await look(again)).toEqual([raised, over]);
  });

  test('nothing is over before it has: not at a boot, in a run, in a failure, nor where systemd does not say', async () => {
    expect(await look(silent())).toEqual([raised]);
    const { 'nexus-pull-webhooks.service': service } = silent();
    const timer = old('nexus-pull-webhooks.timer');
    await look({ 'nexus-pull-webhooks.service': service });
    await look({ ...timer, 'nexus-pull-webhooks.service': { ...ended(2 * hour), ...runningSince(1000) } });
    await look({ ...timer, 'nexus-pull-webhooks.service': ended(1000, 69) });
    await machine.systemctl('exit 1');
    await machine.nexus(['status', '--alert']);
    expect(events()).toEqual([raised]);
  });

  test('a job that fails is told by its own alert, not by a second one', async () => {
    const ledger = openLedger(path.join(machine.dataDir, 'host', 'ledger.sqlite'), () => undefined);
    for (const ago of [40 * minute, 20 * minute, minute]) {
      const then = new Date(Date.now() - ago);
      keepFailure(ledger, 'pull-webhooks', then, then, 'The endpoint cannot be reached.');
    }
    ledger.close();
    const failing = { ...old('nexus-pull-webhooks.timer'), 'nexus-pull-webhooks.service': ended(minute, 69) };
    for (let n = 0; n < 2; n++)
      expect(await look(failing)).toEqual([
        'failed job/pull-webhooks: Nexus on box: pull-webhooks has failed 3 times in a row.',
      ]);
    expect((await verdict()).lines).toEqual([
      'not well: No pull-webhooks has succeeded yet, though nexus-pull-webhooks.timer starts one every 1 min: its runs fail. Run `nexus pull-webhooks` and read what failed.',
    ]);
  });

  test('a job that fails and counts nowhere is told as silent', async () => {
    const failing = {
      ...old('nexus-pull-webhooks.timer'),
      'nexus-pull-webhooks.service': ended(5000, 143, { Result: 'timeout' }),
    };
    // systemd shows the end of the last run alone.
    expect(await look(failing)).toEqual([
      expect.stringMatching(
        /^failed silent\/pull-webhooks: .* no pull-webhooks has succeeded yet, .*: its runs fail\.$/i,
      ),
    ]);
  });

  test('the endpoint that does not stay, and a first backfill that runs: one alert and none', async () => {
    const looping = {
      ...ended(1000, 1),
      ActiveState: 'activating',
      SubState: 'auto-restart',
      NRestarts: '4',
    };
    await look({ 'nexus-serve.service': { ...serving, ...looping } });
    await look({ 'nexus-serve.service': { ...serving, ...at('ActiveEnter', 1000), NRestarts: '4' } });
    expect(events()).toEqual([
      expect.stringMatching(/^failed silent\/serve: Nexus on box: nexus-serve\.service ended/),
    ]);
    await look({ 'nexus-serve.service': { ...serving, ...at('ActiveEnter', hour), NRestarts: '4' } });
    expect(events()).toHaveLength(2);
  });

  test('a timer that somebody stopped is named at once, and told when the job is silent', async () => {
    const stopped = { ActiveState: 'inactive', SubState: 'dead', NextElapseUSecRealtime: '' };
    const timer = { 'nexus-pull-webhooks.timer': { ...stopped, ...at('InactiveEnter', minute) } };
    expect(await look({ ...timer, 'nexus-pull-webhooks.service': ended(minute) })).toEqual([]);
    expect((await verdict()).lines?.[0]).toMatch(/^not well: nexus-pull-webhooks\.timer is stopped\. /);
    const long = { 'nexus-pull-webhooks.timer': { ...stopped, ...at('InactiveEnter', hour) } };
    expect(await look({ ...long, 'nexus-pull-webhooks.service': ended(hour) })).toEqual([
      'failed silent/pull-webhooks: Nexus on box: nexus-pull-webhooks.timer is stopped, and no pull-webhooks has succeeded for 1 h.',
    ]);
  });
});
