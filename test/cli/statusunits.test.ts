import { mkdir, readFile, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { beforeEach, describe, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { boots } from '../systemd/machine.ts';
import { binary } from './nexus.ts';
import {
  type UnitMachine,
  at,
  ended,
  newUnitMachine,
  old,
  problem,
  runningSince,
  serving,
  shown,
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

test('a directory of units that cannot be read is not taken for one without any', async () => {
  await machine.nexus(['backfill']);
  await machine.systemd({});
  const directory = path.join(machine.home, '.config', 'systemd', 'user');
  await rm(directory, { recursive: true });
  await symlink(directory, directory);
  const { stdout } = await machine.nexus(['status']);
  expect(stdout).toMatch(/How the units of .* stand is not known: .*ELOOP/);
});

describe('what runs', () => {
  test('is shown with when it last ran and when it will', async () => {
    await machine.nexus(['backfill']);
    await machine.systemd({
      'nexus-serve.service': { ...serving, ...runningSince(3 * hour) },
      ...old('nexus-upload.timer', { LastTriggerUSec: shown(Date.now() - 2.2 * minute) }),
      'nexus-upload.service': ended(2.2 * minute),
      ...old('nexus-pull-webhooks.timer', {
        SubState: 'running',
        NextElapseUSecRealtime: '',
        NextElapseUSecMonotonic: 'infinity',
        LastTriggerUSec: shown(Date.now() - 10.2 * minute),
      }),
      'nexus-pull-webhooks.service': {
        ...at('ExecMainStart', 10.2 * minute),
        ActiveState: 'activating',
        SubState: 'start',
      },
      'nexus-backfill.service': ended(3 * hour),
    });
    const { status, stdout } = await machine.nexus(['status']);
    expect(status).toBe(0);
    expect(stdout.split('\n\n')[2]).toBe(
      [
        'unit                       state    last run    next run',
        'nexus-upload.timer         waiting  2 min ago   in 2 min',
        'nexus-pull-webhooks.timer  at work  10 min ago  -',
        'nexus-status.timer         waiting  -           in 2 min',
        'nexus-backfill.service     ended    3 h ago     -',
        'nexus-serve.service        running  3 h ago     -',
      ].join('\n'),
    );
  });

  test('fits a terminal of 80 columns, broken between words', async () => {
    await machine.nexus(['backfill']);
    await machine.systemd({ 'nexus-upload.service': ended(3 * minute, 78) });
    const { stdout } = await execa(
      'script',
      ['-qec', `stty cols 80; exec '${process.execPath}' '${binary}' status`, '/dev/null'],
      {
        env: {
          PATH: `${machine.home}/bin:/usr/bin:/bin`,
          HOME: machine.home,
          XDG_RUNTIME_DIR: `${machine.home}/run`,
          OPENCLAW_STATE_DIR: machine.openclaw.stateDir,
          NEXUS_DATA_DIR: machine.dataDir,
          TERM: 'dumb',
        },
        extendEnv: false,
        reject: false,
      },
    );
    const lines = stdout.replaceAll('\r', '').split('\n');
    expect(lines.slice(0, 4)).toEqual([
      'not well: nexus-upload.service ended with status 78 (the configuration is',
      '  wrong). It was 3 min ago. Read `journalctl --user -u nexus-upload.service -n',
      '  20`, mend it, and run `systemctl --user start nexus-upload.service`.',
      '',
    ]);
    // A path is not broken.
    expect(lines.filter((line) => line.length > 80 && !/^(archive|openclaw) /.test(line))).toEqual([]);
  });

  test('is in --json, which says times exactly', async () => {
    await machine.nexus(['backfill']);
    const ran = Math.floor(Date.now() / 1000) * 1000 - 2 * minute;
    await machine.systemd({ ...old('nexus-upload.timer', { LastTriggerUSec: shown(ran) }) });
    const { answer } = await machine.json(['status']);
    expect(answer).toMatchObject({ schemaVersion: 1, ok: true, problems: [] });
    expect(answer['units']).toContainEqual({
      unit: 'nexus-upload.timer',
      manager: 'user',
      state: 'waiting',
      active: 'active',
      sub: 'waiting',
      enabled: 'enabled',
      lastRunAt: new Date(ran).toISOString(),
      nextRunAt: expect.stringMatching(/Z$/),
      intervalMs: 5 * minute,
    });
  });

  test('is asked for once, in a language and a time zone that can be read', async () => {
    await machine.systemd({});
    await machine.nexus(['status'], { env: { TZ: 'Asia/Tokyo', LANG: 'de_DE.UTF-8' } });
    const asked = (await readFile(path.join(machine.home, 'asked'), 'utf8')).trimEnd().split('\n');
    expect(asked).toEqual([
      expect.stringMatching(/^UTC --user show --property=Id,\S+ -- nexus-upload\.service /),
    ]);
  });

  test('is nothing where nothing is installed, and systemctl is not called', async () => {
    await machine.nexus(['backfill']);
    await machine.systemctl(`touch '${machine.home}/asked'`);
    const { answer } = await machine.json(['status']);
    expect(answer).not.toHaveProperty('units');
    await expect(readFile(path.join(machine.home, 'asked'))).rejects.toThrow('ENOENT');
  });

  test('is not known where systemd hangs, fails or talks nonsense, which is said and takes two seconds', async () => {
    await machine.nexus(['backfill']);
    await machine.systemd({});
    for (const [script, reason] of [
      ['exec sleep 30', 'systemctl did not answer within 2 s.'],
      [
        'echo "Failed to connect to bus: No medium found" >&2; exit 1',
        'Failed to connect to bus: No medium found.',
      ],
    ] as const) {
      await machine.systemctl(script);
      const began = Date.now();
      const { status, stdout } = await machine.nexus(['status']);
      expect(Date.now() - began).toBeLessThan(20_000);
      expect(status).toBe(0);
      expect(stdout).toMatch(/^All is well\.\nnote: How the units of \S+ stand is not known: /);
      expect(stdout).toContain(reason);
    }
    await machine.systemctl('echo nonsense; echo; echo =');
    expect((await machine.nexus(['status'])).status).toBe(3);
  });
});

describe('a timer', () => {
  beforeEach(async () => {
    await machine.nexus(['backfill']);
  });
  const dead = {
    ActiveState: 'inactive',
    SubState: 'dead',
    ...at('ActiveEnter', 0),
    NextElapseUSecRealtime: '',
  };

  test('that is stopped, disabled, masked, missing, failed or over is named with what to run', async () => {
    for (const [said, ...lines] of [
      [{ ...dead }, 'nexus-upload.timer is stopped. Run `systemctl --user enable --now nexus-upload.timer`.'],
      [
        { ...dead, UnitFileState: 'disabled' },
        'nexus-upload.timer is disabled and stopped. Run `systemctl --user enable --now nexus-upload.timer`.',
      ],
      [
        { UnitFileState: 'disabled' },
        'nexus-upload.timer is not enabled: it will not be there after the next boot. Run `systemctl --user enable nexus-upload.timer`.',
      ],
      [
        { ...dead, LoadState: 'masked', UnitFileState: 'masked' },
        'nexus-upload.timer is masked. Run `systemctl --user unmask nexus-upload.timer`, and `systemctl --user enable --now nexus-upload.timer`.',
      ],
      ['not-found', 'nexus-upload.timer is missing. Run `nexus install --user` again.'],
      [
        { ActiveState: 'failed', SubState: 'failed' },
        'nexus-upload.timer has failed. Look at `systemctl --user status nexus-upload.timer`.',
      ],
      [
        { SubState: 'elapsed', NextElapseUSecRealtime: '', NextElapseUSecMonotonic: 'infinity' },
        'nexus-upload.timer will not fire again. Look at its times: `systemctl --user cat nexus-upload.timer`.',
      ],
    ] as const) {
      await machine.systemd({ 'nexus-upload.timer': said });
      expect(await verdict()).toEqual(problem(...lines));
    }
  });

  test('whose service has failed is named with its status and where to read more', async () => {
    await machine.systemd({ 'nexus-upload.service': ended(3 * minute, 78) });
    expect(await verdict()).toEqual(
      problem(
        'nexus-upload.service ended with status 78 (the configuration is wrong). It was 3 min ago. ' +
          'Read `journalctl --user -u nexus-upload.service -n 20`, mend it, and run `systemctl --user start nexus-upload.service`.',
      ),
    );
  });
});

describe('the first backfill', () => {
  test('that runs is no problem, and what waits for it is none', async () => {
    await machine.openclaw.write(`${ids.b}.jsonl`, transcript(ids.b, 2), { ageMs: 5 * hour });
    await machine.systemd({
      'nexus-backfill.service': runningSince(90 * minute),
      ...old('nexus-upload.timer'),
      'nexus-upload.service': ended(minute, 75),
    });
    const { status, stdout } = await machine.nexus(['status']);
    expect({ status, stdout: stdout.split('\n\n')[0] }).toEqual({
      status: 0,
      stdout:
        'All is well.\nnote: The first backfill is running since 1 h 30 min; what it has not reached is not archived yet.',
    });
    expect(stdout).toMatch(/^backfill {2}running, for the first time$/m);
    expect((await machine.json(['status'])).answer).toMatchObject({
      ok: true,
      backfillSince: expect.stringMatching(/Z$/),
      jobs: { backfill: null },
    });
  });

  test('that ended with nothing, or waits for its next try, is said', async () => {
    await machine.systemd({ 'nexus-backfill.service': ended(minute, 77) });
    const { lines } = await verdict();
    expect(lines?.[0]).toMatch(/^not well: nexus-backfill\.service ended with status 77 \(refused/);
    expect(lines?.at(-1)).toMatch(/^not well: Nothing was archived from this host yet\./);
    await machine.systemd({
      'nexus-backfill.service': {
        ...ended(minute, 69),
        ActiveState: 'activating',
        SubState: 'auto-restart',
      },
    });
    expect((await verdict()).lines?.[0]).toMatch(
      /status 69 \(Nexus, or the disk, cannot be used now\)\. It was 1 min ago\. It is started again in a few minutes;/,
    );
  });

  test('is not the first once one has ended', async () => {
    await machine.nexus(['backfill']);
    await machine.systemd({ 'nexus-backfill.service': runningSince(minute) });
    expect(await verdict()).toEqual(well);
    expect((await machine.nexus(['status'])).stdout).toMatch(
      /^backfill {2}running, before: well, (now|\d+ s ago)$/m,
    );
  });
});

describe('the endpoint', () => {
  const only = async (said: object) => {
    await machine.systemd({ 'nexus-serve.service': { ...serving, ...said } });
  };
  beforeEach(async () => {
    await machine.nexus(['backfill']);
  });

  test('that runs is well, and so is one that was started again long ago', async () => {
    await only({ ...at('ActiveEnter', hour), NRestarts: '9' });
    expect(await verdict()).toEqual(well);
  });

  test('that dies again and again is named with how it ends', async () => {
    const looping = {
      ...ended(1000, 1),
      ActiveState: 'activating',
      SubState: 'auto-restart',
      NRestarts: '4',
    };
    await only(looping);
    expect(await verdict()).toEqual(
      problem(
        'nexus-serve.service ended with status 1 (a bug; its trace is in the log). It was started again 4 times and does not stay. ' +
          'Read `journalctl --user -u nexus-serve.service -n 20`, mend it, and run `systemctl --user restart nexus-serve.service`.',
      ),
    );
    await only({ ...at('ActiveEnter', 2000), NRestarts: '4' });
    expect((await verdict()).lines?.[0]).toMatch(
      /^not well: nexus-serve\.service was started again 4 times, last \d+ s ago/,
    );
  });

  test('that was given up or stopped is named', async () => {
    await only(ended(minute, 78));
    expect((await verdict()).lines?.[0]).toMatch(/^not well: nexus-serve\.service ended with status 78/);
    await only({ ActiveState: 'inactive', SubState: 'dead', ...at('InactiveEnter', 5 * minute) });
    expect((await verdict()).lines?.[0]).toMatch(
      /^not well: nexus-serve\.service is stopped, since 5 min( \d+ s)?: no webhook is taken in\. Run `systemctl --user enable --now nexus-serve\.service`\.$/,
    );
  });
});

describe.skipIf(!boots)('the systemd of the machine', () => {
  /** Runs as root where a systemd seems to run, with units of the system: nothing of the real /run and /etc changes. */
  async function status(more: Record<string, string> = {}): Promise<string[]> {
    const script = `mount -t tmpfs none /run; mkdir -p /run/systemd/system
      mount -t tmpfs none /etc/systemd; mkdir /etc/systemd/system
      "$MOVE" "$HOME"/.config/systemd/user/* /etc/systemd/system; exec "$@"`;
    const { stdout } = await execa(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        '/bin/sh',
        '-euc',
        script,
        'sh',
        process.execPath,
        binary,
        'status',
      ],
      {
        env: {
          PATH: `${machine.home}/bin:/usr/bin:/bin:/usr/sbin:/sbin`,
          HOME: machine.home,
          OPENCLAW_STATE_DIR: machine.openclaw.stateDir,
          NEXUS_DATA_DIR: machine.dataDir,
          MOVE: 'mv',
          ...more,
        },
        extendEnv: false,
        reject: false,
      },
    );
    return stdout.split('\n\n')[0]?.split('\n') ?? [];
  }

  /** What the units that would be installed now may write, as systemd shows it. */
  async function installed(): Promise<Record<string, { User: string; BindPaths: string }>> {
    const { answer } = await machine.json(['install', '--dry-run', '--system']);
    const units: { unit: string; text: string }[] = Array.isArray(answer['units']) ? answer['units'] : [];
    const open = (text: string) =>
      [...text.matchAll(/^BindPaths=-(.*)$/gm)].map(([, file]) => `-${file}:${file}:rbind`).join(' ');
    return Object.fromEntries(
      units
        .filter(({ unit }) => /^nexus-(upload|pull-webhooks|status|backfill)\.service$/.test(unit))
        .map(({ unit, text }) => [unit, { User: 'root', BindPaths: open(text) }]),
    );
  }

  beforeEach(async () => {
    await machine.nexus(['backfill']);
  });

  test('is asked where units lie, and mended as root', async () => {
    await machine.systemd({ ...(await installed()), 'nexus-upload.timer': { UnitFileState: 'disabled' } });
    expect(await status()).toEqual([
      'not well: nexus-upload.timer is not enabled: it will not be there after the next boot. Run `sudo systemctl enable nexus-upload.timer`.',
    ]);
  });

  test('has units that are closed to an agent that came after them, which is said until they are installed again', async () => {
    const before = await installed();
    await machine.systemd(before);
    expect(await status()).toEqual(['All is well.']);
    await mkdir(path.join(machine.openclaw.stateDir, 'agents', 'late', 'sessions'), { recursive: true });
    await machine.systemd(before);
    expect(await status()).toEqual([
      expect.stringMatching(
        /^not well: The units were installed before late had its place, and may not write to \S+\/agents\/late\/sessions and 2 more places\. Run `sudo nexus install` again\.$/,
      ),
    ]);
    await machine.systemd(await installed());
    expect(await status()).toEqual(['All is well.']);
  });

  test('may run the jobs for another user, who is then to be asked', async () => {
    const as = Object.entries(await installed()).map(([unit, said]) => [unit, { ...said, User: 'claw' }]);
    const elsewhere = Object.fromEntries(as);
    await machine.systemd(elsewhere);
    const note =
      'note: The jobs of this machine run as claw: `sudo -u claw -H nexus status` says how they fare.';
    expect(await status()).toEqual(['All is well.', note]);
    await machine.systemd(elsewhere);
    expect(await status({ OPENCLAW_STATE_DIR: '/nonexistent' })).toEqual([
      'not well: What is archived of this machine is not for this user to see: OpenClaw belongs to claw. Run `sudo -u claw -H nexus status`.',
    ]);
    await machine.systemd({ ...elsewhere, 'nexus-serve.service': { ...serving, User: 'root' } });
    expect(await status({ OPENCLAW_STATE_DIR: '/nonexistent' })).toEqual(['All is well.', note]);
  });

  test('runs without that of a user who is not logged in, whose timers then rest', async () => {
    await machine.systemd({});
    expect(await status({ MOVE: 'cp' })).toContainEqual(
      expect.stringMatching(
        /^not well: The systemd of root does not run, and no timer of Nexus with it\. Run `sudo loginctl enable-linger root`/,
      ),
    );
  });
});
