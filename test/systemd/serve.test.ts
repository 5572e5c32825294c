import { expect, test } from 'vitest';
import { makeClaw } from './claw.ts';
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

      await claw.dropIn(serve, '[Service]\nWatchdogSec=3\n');
      await machine.must(['systemctl', 'restart', serve]);
      const { MainPID } = await machine.unit(serve);
      await new Promise((resolve) => setTimeout(resolve, 4500));
      expect(await machine.unit(serve)).toMatchObject({ MainPID, ActiveState: 'active' });
      await machine.must(['kill', '-STOP', MainPID ?? '']);
      await machine.until(() => again('1'));
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
  'the endpoint is not started again for what does not get better by itself',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      expect(await claw.install('--role', 'endpoint')).toMatchObject({ status: 0 });
      await machine.must(['systemctl', 'stop', serve]);
      const ended = async () => {
        await machine.run(['systemctl', 'start', serve]);
        return await machine.until(async () => {
          const { ActiveState, ExecMainStatus, NRestarts } = await machine.unit(serve);
          return ActiveState === 'failed' && { ExecMainStatus, NRestarts };
        });
      };
      const home = '/var/lib/nexus';
      const file = `${home}/.config/nexus/config.json`;
      await machine.sh(`printf '{' > ${file}`);
      expect(await ended()).toEqual({ ExecMainStatus: '78', NRestarts: '0' });
      await machine.sh(
        `rm ${file}; mv ${home}/.local/share/nexus/store ${home}/kept; mkdir -m 755 ${home}/.local/share/nexus/store`,
      );
      expect(await ended()).toEqual({ ExecMainStatus: '77', NRestarts: '0' });
      await machine.sh(
        `rmdir ${home}/.local/share/nexus/store; mv ${home}/kept ${home}/.local/share/nexus/store`,
      );
      await claw.dropIn(
        serve,
        '[Service]\nExecStart=\nExecStart=/opt/node/node /opt/nexus/bin/nexus.js serve --prot 1\n',
      );
      expect(await ended()).toEqual({ ExecMainStatus: '64', NRestarts: '0' });

      // A port that is taken may be free again: it tries on (69).
      await claw.dropIn(serve, '[Service]\n');
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
    });
  },
);
