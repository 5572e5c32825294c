import { expect, test } from 'vitest';
import { hurried, makeClaw, often } from './claw.ts';
import { openDoors } from './door.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;

const channels = [{ kind: 'webhook', url: 'http://127.0.0.1:9000/' }];

test.skipIf(!boots)(
  'a job that goes on failing is told once, and once more when it works again',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const taken = await openDoors(machine, [9000]);
      await claw.configure({ ...hurried, alerts: { afterFailures: 2, channels } });
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh('systemctl stop nexus-pull-webhooks.timer nexus-serve.service');

      for (const unit of ['nexus-upload.timer', 'nexus-status.timer']) await claw.dropIn(unit, often);
      await machine.must(['systemctl', 'restart', 'nexus-upload.timer', 'nexus-status.timer']);
      const failures = async () =>
        (await machine.journal('nexus-upload.service')).filter(({ message }) =>
          /code=exited, status=69/.test(message),
        ).length;
      await machine.until(async () => (await failures()) >= 3, 20_000);
      const uploads = async () =>
        (await taken()).map(({ body }) => body).filter(({ subject }) => subject === 'job/upload');
      expect(await uploads()).toMatchObject([{ event: 'failed', host: 'box' }]);

      await machine.must(['systemctl', 'start', 'nexus-serve.service']);
      await machine.until(async () => (await uploads()).length > 1);
      const good = async () =>
        (await machine.journal('nexus-upload.service')).filter(({ message }) =>
          message.includes('Deactivated successfully'),
        ).length;
      const before = await good();
      await machine.until(async () => (await good()) > before + 1);
      expect(await uploads()).toMatchObject([{ event: 'failed' }, { event: 'recovered' }]);
    });
  },
);

test.skipIf(!boots)(
  'an alert gets out when the configuration itself is what keeps jobs from starting',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const taken = await openDoors(machine, [9000]);
      const good = { ...hurried, alerts: { afterFailures: 1, channels } };
      const file = claw.configFile;
      const key = '/etc/nexus/credentials/key';
      await machine.sh(`install -d -m 700 /etc/nexus/credentials; echo secret > ${key}`);
      await claw.configure({ ...good, apiKey: { credential: 'key' } });
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");
      const upload = 'nexus-upload.service';
      const bodies = async () => (await taken()).map(({ body }) => body);
      let told = 0;
      const next = async () => {
        told++;
        await machine.until(async () => (await bodies()).length >= told);
        return (await bodies())[told - 1];
      };
      for (const [broken, status, error] of [
        [`printf '{' > ${file}`, 78, /is not JSON/],
        [`echo '{"alerts": 1, "settleMinutes": "x"}' > ${file}`, 78, /settleMinutes/],
        [`chmod 000 ${file}`, 78, /EACCES/],
        // Where the unit lacks a secret, the one that tells of it lacks it too.
        [`rm ${key}`, 243, /credentials cannot be loaded/],
      ] as const) {
        await machine.sh(broken);
        expect([broken, await claw.start(upload)]).toMatchObject([broken, { status, active: 'failed' }]);
        expect(await next()).toMatchObject({
          event: 'failed',
          host: 'box',
          subject: 'job/upload',
          error: expect.stringMatching(error),
        });
        await machine.sh(`rm -f ${file}; echo secret > ${key} || true`);
        await claw.configure(good);
        expect((await claw.start(upload)).status).toBe(0);
        expect(await next()).toMatchObject({ event: 'recovered', subject: 'job/upload' });
      }
      expect(await bodies()).toHaveLength(told);

      // A monitor whose secret is missing fails no job.
      await claw.configure({ ...good, heartbeats: { upload: { credential: 'monitor' } } });
      await claw.install();
      expect((await claw.start(upload)).status).toBe(0);
    });
  },
);
