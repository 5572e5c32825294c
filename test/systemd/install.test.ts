import { expect, test } from 'vitest';
import { hurried, makeClaw, often } from './claw.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;

test.skipIf(!boots)(
  'one command installs endpoint and jobs, and what OpenClaw writes from then on is archived',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      await claw.configure(hurried);
      const installed = await claw.install('--role', 'both');
      expect(installed).toMatchObject({ status: 0 });
      expect(installed.stdout).toMatch(/nexus-serve\.service +active \(running\) +Listening on/);

      // All of history, by the unit that install started.
      await machine.until(
        async () => (await machine.unit('nexus-backfill.service'))['ActiveState'] === 'inactive',
      );
      expect(await machine.unit('nexus-backfill.service')).toMatchObject({ Result: 'success', User: 'claw' });
      expect((await claw.nexus('sessions', 'list')).stdout.split('\n').length).toBeGreaterThan(20);

      // Endpoint and jobs are two users, and neither can read the other's files.
      expect(await machine.unit('nexus-serve.service')).toMatchObject({
        User: 'nexus',
        ActiveState: 'active',
      });
      expect((await machine.run(['ls', '/var/lib/nexus'], { user: 'claw' })).status).not.toBe(0);

      const before = await machine.sh(
        'cat /etc/systemd/system/nexus-*; stat -c %y /etc/systemd/system/nexus-*',
      );
      const again = await claw.install();
      expect(again).toMatchObject({ status: 0 });
      expect(again.stdout).toContain('nothing was changed');
      expect(
        await machine.sh('cat /etc/systemd/system/nexus-*; stat -c %y /etc/systemd/system/nexus-*'),
      ).toBe(before);

      await claw.dropIn('nexus-upload.timer', often);
      await machine.must(['systemctl', 'restart', 'nexus-upload.timer']);
      const id = '02b03480-87ff-450a-adca-3c69cf41e35a';
      const from = `/opt/nexus/test/fixtures/openclaw/files-2026.2.26/agents/main/sessions/${id}.jsonl`;
      const sessions = `${claw.stateDir}/agents/main/sessions`;
      await machine.must(['cp', from, sessions], { user: 'claw' });
      await machine.must(['touch', '-d', '1 hour ago', `${sessions}/${id}.jsonl`], { user: 'claw' });
      await machine.until(async () =>
        (await claw.nexus('sessions', 'list', '--agent', 'main')).stdout.includes(id),
      );
      expect((await claw.nexus('sessions', 'get', `main/${id}`)).stdout).toBe(
        (await machine.sh(`cat ${from}`)).trimEnd(),
      );
      // Moved, which the unit may do there and in no other directory of OpenClaw.
      await machine.until(
        async () => (await machine.run(['test', '-f', `${sessions}/archive/${id}.jsonl`])).status === 0,
      );

      const lines = await machine.journal('nexus-upload.service');
      const summary = lines.find(
        ({ message, by }) => by === 'nexus' && /upload/.test(message) && /\b1\b/.test(message),
      );
      expect(summary).toMatchObject({ priority: 6 });
      expect(lines.filter(({ priority, by }) => by === 'nexus' && priority < 5)).toEqual([]);

      const gone = await claw.uninstall();
      expect(gone).toMatchObject({ status: 0 });
      const dropIn = 'nexus-upload.timer.d';
      expect(await machine.sh('ls /etc/systemd/system | grep nexus')).toBe(dropIn);
      expect(
        await machine.sh(
          'find /etc/systemd/system/*.wants /etc/sysusers.d /var/lib/systemd/timers /var/cache /run/systemd/system -name "*nexus*" 2>/dev/null || true',
        ),
      ).toBe('');
      expect(await machine.sh("systemctl list-units --all --no-legend 'nexus*'")).toBe('');
      expect(await machine.sh('ls /var/lib/nexus/.local/share/nexus/store')).not.toBe('');
      expect((await machine.run(['pgrep', '-f', 'nexus.js'])).status).toBe(1);
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
      await makeClaw(machine, 'sqlite-2026.9.6');
      await machine.sh(`mkdir -p /run/user/1; chmod 700 /run/user/1; chown claw: /run/user/1
        systemd-run -q --unit=claw -p User=claw -p Delegate=yes -p Type=notify -E XDG_RUNTIME_DIR=/run/user/1 \
          /lib/systemd/systemd --user`);
      const own = { user: 'claw', env: { XDG_RUNTIME_DIR: '/run/user/1' } };
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
      expect(await machine.nexus(['uninstall'], own)).toMatchObject({ status: 0 });
      expect(await machine.sh('find /home/claw/.config/systemd /home/claw/.cache -name "*nexus*"')).toBe('');
      expect((await machine.run(['pgrep', '-f', 'nexus.js'])).status).toBe(1);
    });
  },
);

test.skipIf(!boots)('where a user has no systemd of its own it says so', { timeout: minute }, async () => {
  await withSystemd(async (machine) => {
    await makeClaw(machine, 'files-2026.7.35');
    const { status, stderr } = await machine.nexus(['install', '--user'], { user: 'claw' });
    expect(status).toBe(69);
    expect(stderr).toContain("This user's systemd cannot be reached.");
  });
});
