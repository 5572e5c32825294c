import { expect, test } from 'vitest';
import { hurried, makeClaw, often } from './claw.ts';
import { boots, type SystemdMachine, withSystemd } from './machine.ts';

const minute = 60_000;

/** What a receiver on the machine itself was sent. */
async function receiver(machine: SystemdMachine): Promise<() => Promise<Record<string, unknown>[]>> {
  await machine.sh(`cat > /etc/receiver.cjs <<'END'
    const { appendFileSync, writeFileSync } = require('node:fs');
    writeFileSync('/run/received', '');
    require('node:http').createServer((request, response) => {
      const parts = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        appendFileSync('/run/received', Buffer.concat(parts).toString() + '\\n');
        response.end();
      });
    }).listen(9000, '127.0.0.1');\nEND
    systemd-run -q --unit=receiver /opt/node/node /etc/receiver.cjs`);
  await machine.until(async () => (await machine.run(['test', '-e', '/run/received'])).status === 0);
  return async () => {
    const lines = (await machine.sh('cat /run/received')).split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line));
  };
}

test.skipIf(!boots)(
  'a job that goes on failing is told once, and once more when it works again',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const received = await receiver(machine);
      const channels = [{ kind: 'webhook', url: 'http://127.0.0.1:9000/' }];
      await claw.configure({ ...hurried, alerts: { afterFailures: 2, channels } });
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh('systemctl stop nexus-pull-webhooks.timer nexus-serve.service; echo > /run/received');

      for (const unit of ['nexus-upload.timer', 'nexus-status.timer']) await claw.dropIn(unit, often);
      await machine.must(['systemctl', 'restart', 'nexus-upload.timer', 'nexus-status.timer']);
      const failures = async () =>
        (await machine.journal('nexus-upload.service')).filter(({ message }) => /status=69/.test(message))
          .length;
      await machine.until(async () => (await failures()) >= 4, 20_000);
      const uploads = async () => (await received()).filter(({ subject }) => subject === 'job/upload');
      expect(await uploads()).toMatchObject([{ event: 'failed', host: 'box' }]);

      await machine.must(['systemctl', 'start', 'nexus-serve.service']);
      await machine.until(async () => (await uploads()).length > 1);
      await new Promise((resolve) => setTimeout(resolve, 4500));
      expect(await uploads()).toMatchObject([{ event: 'failed' }, { event: 'recovered' }]);
    });
  },
);
