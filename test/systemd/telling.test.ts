import { expect, test } from 'vitest';
import { hurried, makeClaw } from './claw.ts';
import { openSender } from './door.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;
const upload = 'nexus-upload.service';

test.skipIf(!boots)(
  "an agent is told by OpenClaw's command line, which writes its state as its owner, of mail and of alerts",
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      // Where npm puts it for a user, and sudo does not look; it writes all over its state, as the real one does.
      const bin = '/home/claw/.npm-global/bin';
      await machine.sh(`install -d -o claw -g claw /home/claw/.npm-global ${bin}; cat > ${bin}/openclaw <<'END'
#!/usr/bin/env node
const { appendFileSync, mkdirSync, readFileSync, writeFileSync } = require('node:fs');
const args = process.argv.slice(2);
const said = (name) => args[args.indexOf(name) + 1];
const state = process.env.OPENCLAW_STATE_DIR;
for (const directory of ['logs', 'identity', 'agents/main/agent']) mkdirSync(state + '/' + directory, { recursive: true });
appendFileSync(state + '/openclaw.json', '\\n');
writeFileSync(state + '/identity/device.json', '{}');
writeFileSync(state + '/agents/main/agent/new.sqlite', '');
writeFileSync('/tmp/openclaw.log', '');
const message = readFileSync(said('--message-file'), 'utf8');
appendFileSync(state + '/logs/told', JSON.stringify({ agent: said('--agent'), message }) + '\\n');
console.log('{"runId":"run","status":"ok","summary":"completed","result":{}}');
END
        chmod 755 ${bin}/openclaw; chown claw: ${bin}/openclaw`);
      await claw.configure({
        ...hurried,
        notify: { by: 'cli' },
        alerts: { afterFailures: 1, channels: [{ kind: 'agent', agent: 'main' }] },
      });
      const installed = await claw.install('--role', 'both');
      expect(installed).toMatchObject({ status: 0 });
      expect(installed.stderr).not.toContain('no openclaw was found');
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");
      const told = async () => {
        const file = `${claw.stateDir}/logs/told`;
        const lines = (await machine.sh(`cat ${file} 2>/dev/null || true`)).split('\n').filter(Boolean);
        return lines.map((line): { agent: string; message: string } => JSON.parse(line));
      };

      const url = ['webhooks', 'url', '--agent', 'main', '--source', 'github', '--json'];
      const asEndpoint = { user: 'nexus', env: { HOME: '/var/lib/nexus' } };
      const { secret } = JSON.parse((await machine.nexus(url, asEndpoint)).stdout);
      const send = await openSender(machine, secret);
      expect(await send('one', '{"says":"one"}')).toBe(202);
      expect(await claw.start('nexus-pull-webhooks.service')).toMatchObject({ status: 0 });
      expect(await told()).toMatchObject([{ agent: 'main', message: expect.stringContaining('github') }]);
      expect(
        await machine.sh(`stat -c %U ${claw.stateDir}/logs/told ${claw.stateDir}/identity/device.json`),
      ).toBe('claw\nclaw');

      await machine.must(['systemctl', 'stop', 'nexus-serve.service']);
      expect(await claw.start(upload)).toMatchObject({ status: 69 });
      await machine.until(async () => (await told()).length === 2);
      expect((await told())[1]?.message).toContain('upload has failed');

      // An upgrade from a shell that knows nothing of it finds it again.
      await machine.sh(`systemctl start nexus-serve.service; mv ${bin} /opt/bin`);
      const path = { SUDO_USER: 'claw', PATH: '/opt/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
      expect((await machine.nexus(['install'], { env: path })).stderr).toContain(
        `updated /etc/systemd/system/${upload}`,
      );
      expect((await claw.install()).stdout).toContain('nothing was changed');
      // Without any it is said what is missing.
      await machine.sh('rm /opt/bin/openclaw');
      expect((await claw.install()).stderr).toContain('no openclaw was found');
    });
  },
);

test.skipIf(!boots)(
  'mail goes out by a sendmail that needs no rights, and of another it is said that it cannot',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      // As msmtp does it: it speaks to the mail server, here a socket of this machine.
      await machine.sh(`cat > /usr/sbin/sendmail <<'END'
#!/opt/node/node
process.stdin.pipe(require('net').connect(2525, '127.0.0.1'));\nEND
        chmod 755 /usr/sbin/sendmail
        systemd-run -q --unit=smtp /opt/node/node -e 'require("net").createServer((s) => s.pipe(require("fs").createWriteStream("/opt/mail", { flags: "a" }))).listen(2525, "127.0.0.1")'`);
      const good = { ...hurried, alerts: { afterFailures: 1, channels: [{ kind: 'email', to: 'root' }] } };
      await claw.configure(good);
      const cannot = '/usr/sbin/postdrop needs rights of its own';
      const installed = await claw.install();
      expect(installed).toMatchObject({ status: 0 });
      expect(installed.stderr).not.toContain('needs rights');
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");
      await machine.sh(`echo '{"alerts": 1, "settleMinutes": "x"}' > ${claw.configFile}`);
      expect(await claw.start(upload)).toMatchObject({ status: 78 });
      await machine.until(
        async () =>
          (await machine.run(['grep', '-q', '^Subject: Nexus on box: upload has failed', '/opt/mail']))
            .status === 0,
      );

      // As Postfix does it: sendmail has no rights, and a helper has its group's.
      await machine.sh(`cp /usr/bin/tee /usr/sbin/postdrop; chgrp mail /usr/sbin/postdrop; chmod 2755 /usr/sbin/postdrop
        mkdir /var/spool/maildrop; chgrp mail /var/spool/maildrop; chmod 730 /var/spool/maildrop
        printf '#!/bin/sh\nexec /usr/sbin/postdrop /var/spool/maildrop/$$ > /dev/null\n' > /usr/sbin/sendmail`);
      await claw.configure(good);
      expect((await claw.install()).stderr).toContain(cannot);
      const tested = await claw.nexus('alerts', 'test');
      expect(tested).toMatchObject({ status: 0 });
      expect(tested.stdout.replaceAll(/\s+/g, ' ')).toContain(cannot);
      expect(await machine.sh('ls /var/spool/maildrop | wc -l')).toBe('1');
      expect(await claw.start(upload)).toMatchObject({ status: 0 });
      const said = (await machine.journal(upload)).filter(({ message }) => message.includes(cannot));
      expect(said).toMatchObject([{ priority: 4 }]);
      expect(await machine.sh('ls /var/spool/maildrop | wc -l')).toBe('1');
    });
  },
);
