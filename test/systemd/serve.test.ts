import { expect, test } from 'vitest';
import { makeClaw } from './claw.ts';
import { openDoors } from './door.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;
const serve = 'nexus-serve.service';

test.skipIf(!boots)(
  'the endpoint comes back when it is killed, and when it hangs, and ends well when it is stopped',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      expect(await claw.install('--role', 'endpoint')).toMatchObject({ status: 0 });
      const again = async (restarts: string) => {
        const { ActiveState, NRestarts } = await machine.unit(serve);
        return ActiveState === 'active' && NRestarts === restarts;
      };
      const answers = () =>
        machine.must([
          '/opt/node/node',
          '-e',
          'fetch("http://127.0.0.1:7788/readyz").then(r => console.log(r.status))',
        ]);

      await machine.must(['systemctl', 'kill', '--signal=KILL', serve]);
      await machine.until(() => again('1'));
      expect(await answers()).toBe('200');

      await claw.dropIn(serve, '[Service]\nWatchdogSec=10\nRestartSec=100ms\n');
      await machine.must(['systemctl', 'restart', serve]);
      const { MainPID } = await machine.unit(serve);
      // Fed once more than by its start.
      const fed = new Set<string | undefined>();
      await machine.until(
        async () => fed.add((await machine.unit(serve))['WatchdogTimestampMonotonic']).size > 1,
      );
      expect(await machine.unit(serve)).toMatchObject({ MainPID, ActiveState: 'active', NRestarts: '0' });
      await machine.must(['kill', '-STOP', MainPID ?? '']);
      await machine.until(() => again('1'), 25_000);
      expect((await machine.journal(serve)).map(({ message }) => message).join('\n')).toMatch(
        /Watchdog timeout/,
      );
      expect(await answers()).toBe('200');

      await machine.must(['systemctl', 'stop', serve]);
      expect(await machine.unit(serve)).toMatchObject({
        ActiveState: 'inactive',
        Result: 'success',
        ExecMainStatus: '143',
      });
    });
  },
);

test.skipIf(!boots)(
  'the endpoint is not started again for what does not get better by itself, and that is told once each time',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const taken = await openDoors(machine, [9000]);
      const home = '/var/lib/nexus';
      const file = `${home}/.config/nexus/config.json`;
      expect(await claw.install('--role', 'endpoint')).toMatchObject({ status: 0 });
      expect(await machine.sh('systemctl list-unit-files --no-legend "nexus*" | cut -d" " -f1')).toBe(
        'nexus-alert@.service\nnexus-serve.service\nnexus-status.service\nnexus-status.timer',
      );
      const channels = '[{"kind": "webhook", "url": "http://127.0.0.1:9000/"}]';
      const asEndpoint = { user: 'nexus', env: { HOME: home } };
      expect(await machine.nexus(['config', 'set', 'alerts.channels', channels], asEndpoint)).toMatchObject({
        status: 0,
      });
      // Looks are this test's to begin.
      await claw.dropIn('nexus-status.timer', '[Timer]\nOnCalendar=\nOnCalendar=*-01-01\n');
      await machine.must(['systemctl', 'restart', 'nexus-status.timer', serve]);
      const kept = `${home}/.local/share/nexus/host/alertsettings.json`;
      await machine.until(async () => (await machine.run(['test', '-s', kept])).status === 0);
      await machine.sh(`cp -p ${file} /opt/config.json; systemctl stop ${serve}`);
      const told = async () => (await taken()).map(({ body }) => body);
      const alert = `nexus-alert@${serve}.service`;
      const calls = async () =>
        (await machine.journal(alert)).filter(({ message }) => message.startsWith('Starting ')).length;
      const ended = async () => {
        await machine.until(async () => (await machine.unit(alert))['ActiveState'] !== 'activating');
        const before = await calls();
        await machine.run(['systemctl', 'reset-failed', serve]);
        await machine.run(['systemctl', 'start', serve]);
        const how = await machine.until(async () => {
          const { ActiveState, ExecMainStatus, NRestarts } = await machine.unit(serve);
          return ActiveState === 'failed' && { ExecMainStatus, NRestarts };
        });
        return { ...how, alert: (await calls()) > before };
      };
      const forGood = (status: string) => ({ ExecMainStatus: status, NRestarts: '0', alert: true });
      await machine.sh(`printf '{' > ${file}`);
      expect(await ended()).toEqual(forGood('78'));
      await machine.until(async () => (await told()).length === 1);
      expect(await told()).toMatchObject([
        { event: 'failed', subject: `unit/${serve}`, error: expect.stringMatching(/is not JSON/) },
      ]);
      expect(await machine.unit(alert)).toMatchObject({ User: 'nexus' });
      // Nobody but itself can say that it is well again, and then another failure is another alert.
      await machine.sh(`cp -p /opt/config.json ${file}; systemctl start ${serve}`);
      await machine.until(async () => (await told()).length === 2);
      expect((await told())[1]).toMatchObject({ event: 'recovered', subject: `unit/${serve}` });

      // 1, a bug, may be gone at the next start: it tries on. That it does not stay is for the look at the status.
      await machine.sh(`echo 'JSON.parse = () => { throw new Error("a bug") }' > /etc/bug.cjs`);
      await claw.dropIn(
        serve,
        '[Service]\nRestartSec=100ms\nEnvironment="NODE_OPTIONS=--require /etc/bug.cjs"\n',
      );
      const before = await calls();
      await machine.run(['systemctl', 'restart', serve]);
      await machine.until(async () => Number((await machine.unit(serve))['NRestarts']) > 2);
      expect((await machine.journal(serve)).some(({ message }) => /status=1\b/.test(message))).toBe(true);
      expect(await calls()).toBe(before);
      const look = 'nexus-status.service';
      for (let looks = 0; looks < 2; looks++)
        expect(await claw.start(look)).toMatchObject({ status: 3, result: 'success' });
      expect(await machine.unit(look)).toMatchObject({ User: 'nexus' });
      expect((await told()).slice(2)).toMatchObject([
        {
          event: 'failed',
          subject: 'silent/serve',
          title: expect.stringContaining('and does not stay'),
        },
      ]);
      await claw.dropIn(serve, '[Service]\n');
      // Else it would have to stay for five minutes.
      await machine.sh(`systemctl stop ${serve}; systemctl reset-failed ${serve}; systemctl start ${serve}`);
      expect(await claw.start(look)).toMatchObject({ status: 0 });
      expect((await told()).slice(3)).toMatchObject([{ event: 'recovered', subject: 'silent/serve' }]);
      await machine.must(['systemctl', 'stop', serve]);

      await machine.sh(
        `mv ${home}/.local/share/nexus/store ${home}/kept; mkdir -m 755 ${home}/.local/share/nexus/store`,
      );
      expect(await ended()).toEqual(forGood('77'));
      await machine.until(async () => (await told()).length === 5);
      expect((await told())[4]).toMatchObject({ event: 'failed', error: expect.stringMatching(/77/) });
      await machine.sh(
        `rmdir ${home}/.local/share/nexus/store; mv ${home}/kept ${home}/.local/share/nexus/store`,
      );
      await claw.dropIn(
        serve,
        '[Service]\nExecStart=\nExecStart=/opt/node/node /opt/nexus/bin/nexus.js serve --prot 1\n',
      );
      expect(await ended()).toEqual(forGood('64'));

      // A port that is taken may be free again: it tries on (69).
      await claw.dropIn(serve, '[Service]\nRestartSec=100ms\n');
      await machine.sh(
        `systemd-run -q --unit=taker /opt/node/node -e 'require("net").createServer().listen(7788, "127.0.0.1")'`,
      );
      await machine.run(['systemctl', 'start', serve]);
      await machine.until(async () => Number((await machine.unit(serve))['NRestarts']) > 0);
      expect((await machine.journal(serve)).map(({ message }) => message).join('\n')).toMatch(
        /is taken by another process/,
      );
      await machine.must(['systemctl', 'stop', 'taker']);
      await machine.until(async () => (await machine.unit(serve))['ActiveState'] === 'active');

      expect(await machine.sh(`stat -c '%a %U' ${home} /var/cache/nexus`)).toBe('700 nexus\n755 nexus');
      expect(await claw.uninstall()).toMatchObject({ status: 0 });
      expect(await machine.sh("find /etc /run /var/cache -name '*nexus*' -not -path '*.d*'")).toBe('');
    });
  },
);
