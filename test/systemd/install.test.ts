import { expect, test } from 'vitest';
import { hurried, makeClaw } from './claw.ts';
import { openDoors } from './door.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;

test.skipIf(!boots)(
  'installing again changes nothing, and what a killed installation left undone is done by the next',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      // Kills whoever calls it, when it is called to do this.
      await machine.sh(`mkdir /opt/deadly; cat > /opt/deadly/systemctl <<'END'
#!/bin/sh
case "$*" in "$DEADLY"*) kill -9 $PPID; exit 1;; esac
exec /usr/bin/systemctl "$@"
END
        chmod 755 /opt/deadly/systemctl`);
      const killedAt = async (call: string) => {
        const env = { SUDO_USER: 'claw', DEADLY: call, PATH: '/opt/deadly:/usr/sbin:/usr/bin:/sbin:/bin' };
        const ran = await machine.nexus(['install', '--role', 'both'], { env });
        expect([call, ran.status, ran.stdout]).toEqual([call, undefined, '']);
      };
      for (const call of ['daemon-reload', 'enable --quiet nexus-upload.timer', 'start nexus-status.timer'])
        await killedAt(call);
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      await claw.backfilled();
      for (const name of ['serve.service', 'upload.timer', 'pull-webhooks.timer', 'status.timer'])
        expect(await machine.unit(`nexus-${name}`)).toMatchObject({
          ActiveState: 'active',
          UnitFileState: 'enabled',
          NeedDaemonReload: 'no',
        });
      expect((await claw.nexus('config', 'get', 'endpoint')).stdout).toContain('http://127.0.0.1:7788');

      const now = async () =>
        await machine.sh(`cd /etc/systemd/system; cat nexus-*; stat -c '%n %y' nexus-* */nexus-* /etc/sysusers.d/*
          stat -c '%n %y' /var/lib/nexus/.config/nexus/config.json ${claw.configFile}
          systemctl show -p MainPID,ActiveEnterTimestampMonotonic nexus-serve.service
          for unit in nexus-*.timer; do systemctl show -p ActiveEnterTimestampMonotonic $unit; done
          systemctl show -p ExecMainStartTimestampMonotonic nexus-backfill.service`);
      const before = await now();
      const again = await claw.install();
      expect(again).toMatchObject({ status: 0 });
      expect(again.stdout).toContain('nothing was changed');
      expect(await now()).toBe(before);

      // Another Node: killed between writing the units and having them read.
      const { MainPID } = await machine.unit('nexus-serve.service');
      const real = '/usr/local/lib/node-99.0.1/node';
      await machine.sh('cp -r /opt/node /usr/local/lib/node-99.0.1');
      const other = (env: Record<string, string>) =>
        machine.run([real, '/opt/nexus/bin/nexus.js', 'install'], { env: { SUDO_USER: 'claw', ...env } });
      const path = '/opt/deadly:/usr/sbin:/usr/bin:/sbin:/bin';
      expect((await other({ PATH: path, DEADLY: 'daemon-reload' })).status).toBeUndefined();
      expect((await other({ PATH: path, DEADLY: 'restart nexus-serve.service' })).status).toBeUndefined();
      expect(await machine.unit('nexus-serve.service')).toMatchObject({ MainPID });
      const updated = await other({});
      expect(updated).toMatchObject({ status: 0 });
      expect(updated.stderr).toContain('restarted nexus-serve.service');
      expect(updated.stderr).toContain(`a path of this version alone, ${real}`);
      const { MainPID: next = '' } = await machine.unit('nexus-serve.service');
      expect(await machine.sh(`readlink /proc/${next}/exe`)).toBe(real);
      expect((await machine.unit('nexus-upload.service'))['ExecStart']).toContain(real);
      expect((await other({})).stdout).toContain('nothing was changed');

      // By a name that stays the units outlive that version.
      await machine.sh(`mkdir /opt/links; ln -s ${real} /opt/links/node`);
      const linked = await other({ PATH: '/opt/links:/usr/sbin:/usr/bin:/sbin:/bin' });
      expect(linked).toMatchObject({ status: 0 });
      expect(linked.stderr).not.toContain('of this version alone');
      await machine.sh(`mv /usr/local/lib/node-99.0.1 /usr/local/lib/node-99.0.2
        ln -sfn /usr/local/lib/node-99.0.2/node /opt/links/node`);
      expect(await claw.start('nexus-upload.service')).toMatchObject({ status: 0, result: 'success' });

      // Killed while it wrote: what it began is nobody's unit, and goes with the others.
      await machine.sh('touch /etc/systemd/system/.nexus-upload.service.new');
      expect(await claw.uninstall()).toMatchObject({ status: 0 });
      expect(await machine.sh('find /etc/systemd /etc/sysusers.d -name "*nexus*"')).toBe('');
    });
  },
);

test.skipIf(!boots)(
  'an installation whose jobs can do nothing is not called well, one that would hide an archive is refused, and what another role leaves is named',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const backfill = 'nexus-backfill.service';
      await claw.configure({ ...hurried, endpoint: 'http://127.0.0.1:9' });
      const dead = await claw.install('--json');
      expect(dead.status).toBe(3);
      expect(JSON.parse(dead.stdout).problems).toContainEqual(
        expect.stringMatching(/^Nexus at http:\/\/127\.0\.0\.1:9 does not answer: /),
      );
      await machine.until(async () => (await machine.unit(backfill))['SubState'] === 'auto-restart');
      const again = await claw.install();
      expect(again.status).toBe(3);
      expect(again.stderr).toContain(`${backfill} has failed (exit status 69) and tries again`);

      await claw.configure(hurried);
      await machine.must(['systemctl', 'restart', backfill]);
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      const listed = async () => {
        const { sessions }: { sessions: { id: string; length: number }[] } = JSON.parse(
          (await claw.nexus('sessions', 'list', '--json')).stdout,
        );
        return sessions.map(({ id, length }) => ({ id, length }));
      };
      const archived = await listed();
      expect(archived.length).toBeGreaterThan(20);

      const refused = await claw.install('--role', 'both');
      expect(refused).toMatchObject({ status: 78, stdout: '' });
      expect(refused.stderr).toContain(`claw's archive is in ${claw.dataDir}/store`);
      expect(await machine.sh(`cat ${claw.configFile}`)).toBe(JSON.stringify(hurried));
      const [, command = ''] = /Move it: `(.*)`/.exec(refused.stderr.replaceAll(/\s+/g, ' ')) ?? [];
      await machine.sh(command.replaceAll('sudo ', ''));
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      expect((await claw.nexus('config', 'get', 'endpoint')).stdout).toContain('http://127.0.0.1:7788');
      expect(await listed()).toEqual(archived);
      expect(await claw.start('nexus-upload.service')).toMatchObject({ status: 0 });

      const host = await claw.install('--role', 'host');
      expect(host).toMatchObject({ status: 0 });
      expect(host.stderr.replaceAll(/\s+/g, ' ')).toContain(
        'beside the role host goes on: nexus-serve.service. To be without it: `sudo nexus uninstall && sudo nexus install --role host`',
      );

      // An endpoint that was made anew knows no key, and would be open to whoever is on this machine.
      expect(await claw.install('--role', 'endpoint')).toMatchObject({ status: 0 });
      await machine.must(['/opt/node/node', '/opt/nexus/bin/nexus.js', 'uninstall']);
      await machine.sh('userdel -r nexus 2>/dev/null || true');
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      const stranger = await machine.run([
        'curl',
        '-s',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        'http://127.0.0.1:7788/api/sessions',
      ]);
      expect(stranger.stdout).toBe('401');
      expect(await claw.start('nexus-upload.service')).toMatchObject({ status: 0 });
    });
  },
);

test.skipIf(!boots)(
  'an upgrade updates the units and restarts the endpoint, and what somebody changed stays',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      const { MainPID } = await machine.unit('nexus-serve.service');
      // As another version would have written them.
      const units = '/etc/systemd/system';
      await machine.sh(`cd ${units}
        for unit in nexus-serve.service nexus-status.service nexus-upload.service; do
          tail -n +2 $unit | sed s/^X-Nexus=.*/X-Nexus=0.0.1/ > body; echo '# older' >> body
          { head -n 1 $unit | sed "s/sha256 [0-9a-f]*/sha256 $(sha256sum < body | cut -d' ' -f1)/"; cat body; } > whole; cat whole > $unit
        done
        rm body whole; echo '# mine' >> nexus-upload.service; echo '# mine' >> nexus-status.timer; systemctl daemon-reload`);

      const upgraded = await claw.install();
      expect(upgraded.stderr).toContain(`updated ${units}/nexus-serve.service`);
      expect(upgraded.stderr).toContain('restarted nexus-serve.service');
      expect(upgraded.stderr).toContain(`${units}/nexus-upload.service was changed by hand`);
      // The timer that was changed would be the same today, so nothing is missing in it.
      expect(upgraded.stderr).not.toContain('nexus-status.timer');
      expect(upgraded.status).toBe(3);
      expect((await machine.unit('nexus-serve.service'))['MainPID']).not.toBe(MainPID);
      expect(await machine.sh(`grep -c mine ${units}/nexus-upload.service`)).toBe('1');

      expect(await claw.install('--force')).toMatchObject({ status: 0 });
      expect((await machine.run(['grep', '-c', 'mine', `${units}/nexus-upload.service`])).stdout).toBe('0');
    });
  },
);

test.skipIf(!boots)(
  "a user installs, is served and uninstalls with that user's own systemd",
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'sqlite-2026.9.6');
      const taken = await openDoors(machine, [9000]);
      const channels = [{ kind: 'webhook', url: 'http://127.0.0.1:9000/' }];
      // What is special to systemd may be in any path.
      const [configDirectory, hooks] = ['/home/claw/100%h of "mine"', { credential: 'hooks' }];
      const configFile = `${configDirectory}/config.json`;
      await claw.configure({ alerts: { afterFailures: 1, channels }, notify: { hooksToken: hooks } });
      await machine.sh(`mkdir '${configDirectory}' '${configDirectory}/credentials'
        mv ${claw.configFile} '${configDirectory}'; printf token > '${configDirectory}/credentials/hooks'
        chown -R claw: '${configDirectory}'; chmod -R go= '${configDirectory}'`);
      await machine.sh(`mkdir -p /run/user/1; chmod 700 /run/user/1; chown claw: /run/user/1
        systemd-run -q --unit=claw -p User=claw -p Delegate=yes -p Type=notify -E XDG_RUNTIME_DIR=/run/user/1 \
          /lib/systemd/systemd --user`);
      const own = { user: 'claw', env: { XDG_RUNTIME_DIR: '/run/user/1', NEXUS_CONFIG: configFile } };
      const installed = await machine.nexus(['install', '--role', 'both'], own);
      expect(installed).toMatchObject({ status: 0 });
      expect(installed.stderr).toContain('loginctl enable-linger claw');
      const show = (unit: string) => machine.must(['systemctl', '--user', 'show', unit], own);
      await machine.until(async () =>
        (await show('nexus-backfill.service')).includes('ActiveState=inactive'),
      );
      expect(await show('nexus-backfill.service')).toContain('Result=success');
      expect(await show('nexus-serve.service')).toContain('StatusText=Listening on');
      expect((await machine.nexus(['install'], own)).stdout).toContain('nothing was changed');

      await machine.sh(`printf '{' > '${configFile}'`);
      await machine.run(['systemctl', '--user', 'start', 'nexus-upload.service'], own);
      expect(await show('nexus-upload.service')).toContain('\nExecMainStatus=78\n');
      await machine.until(async () => (await taken()).length > 0);
      expect(await taken()).toMatchObject([{ body: { event: 'failed', subject: 'job/upload' } }]);
      expect(await machine.nexus(['uninstall'], own)).toMatchObject({ status: 0 });
      expect(await machine.sh('find /home/claw/.config/systemd /home/claw/.cache -name "*nexus*"')).toBe('');
      expect((await machine.run(['pgrep', '-f', 'nexus.js'])).status).toBe(1);
    });
  },
);

test.skipIf(!boots)(
  'where it cannot install it says why and changes nothing',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      await makeClaw(machine, 'files-2026.7.35');
      const files = () => machine.sh('find /etc /home /var/lib -not -path "*/systemd/*" | sort');
      const before = await files();
      const claw = { user: 'claw' };
      const none = [
        'unshare',
        '--mount',
        '/bin/sh',
        '-c',
        'mount -t tmpfs none /run/systemd && exec "$@"',
        'sh',
      ];
      const nexus = ['/opt/node/node', '/opt/nexus/bin/nexus.js'];
      for (const [ran, status, sentence] of [
        [machine.nexus(['install', '--user'], claw), 69, /This user's systemd cannot be reached\. /],
        [machine.nexus(['install', '--system'], claw), 77, /Units of the system are for root to install\. /],
        [machine.nexus(['uninstall', '--system'], claw), 77, /Units of the system are for root to remove\. /],
        [machine.nexus(['install', '--role', 'jobs']), 64, /argument 'jobs' is invalid/],
        [machine.nexus(['install']), 78, /^(error: )?No OpenClaw state .*--role endpoint/],
        [
          machine.run([...none, ...nexus, 'install'], { env: { SUDO_USER: 'claw' } }),
          69,
          /systemd does not run on this machine\. /,
        ],
      ] as const) {
        const { stderr, ...rest } = await ran;
        expect([stderr, rest.status]).toEqual([expect.stringMatching(sentence), status]);
        expect(stderr.trim().split('\n')).toHaveLength(1);
        expect(rest.stdout).toBe('');
      }
      expect(await files()).toBe(before);
    });
  },
);
