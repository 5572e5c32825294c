import { expect, test } from 'vitest';
import { hurried, makeClaw, often } from './claw.ts';
import { openDoors, openSender } from './door.ts';
import { boots, type SystemdMachine, withSystemd } from './machine.ts';

const minute = 60_000;
const [alertsPort, hooksPort] = [9000, 35_317];

/** All files, links and sockets where Nexus or systemd could leave something, and directories that are called so. */
async function everything(machine: SystemdMachine): Promise<Set<string>> {
  const places = '/etc /run /home /root /srv /tmp /var/tmp /var/lib /var/cache /var/spool /usr/lib/systemd';
  const which = "'(' -not -type d -o -name '*nexus*' ')' -print";
  const found = await machine.sh(
    `find ${places} -path /run/log/journal -prune -o ${which} 2>/dev/null || true`,
  );
  return new Set(found.split('\n'));
}

test.skipIf(!boots)(
  'installed by one command and left alone it archives, delivers, comes back, tells when it fails, and goes without a trace',
  { timeout: 2 * minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const { stateDir } = claw;
      await machine.sh(`/opt/node/node -e '
        const file = "${stateDir}/openclaw.json";
        const { readFileSync, writeFileSync } = require("node:fs");
        const config = JSON.parse(readFileSync(file, "utf8"));
        writeFileSync(file, JSON.stringify({ ...config, hooks: { enabled: true, token: "hooks-token" } }));'`);
      const channels = [{ kind: 'webhook', url: `http://127.0.0.1:${alertsPort}/` }];
      await claw.configure({ ...hurried, alerts: { afterFailures: 2, channels } });
      const taken = await openDoors(machine, [alertsPort, hooksPort]);
      const alerts = async () =>
        (await taken()).filter(({ port }) => port === alertsPort).map(({ body }) => body);
      const told = async () => (await taken()).filter(({ port }) => port === hooksPort);
      // A secret that only root and the endpoint may see.
      const secret = 'a-secret-of-the-sender';
      await machine.sh(
        `install -d -m 700 /etc/nexus/credentials; umask 077; printf '${secret}\n' > /etc/nexus/credentials/github`,
      );
      const before = await everything(machine);

      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      // All of history, by a unit of its own.
      await claw.backfilled();
      expect(await machine.unit('nexus-backfill.service')).toMatchObject({ Result: 'success', User: 'claw' });
      expect((await claw.nexus('sessions', 'list')).stdout.split('\n').length).toBeGreaterThan(20);

      // A sender is entered, and the unit that needs its secret gets it.
      const asEndpoint = { user: 'nexus', env: { HOME: '/var/lib/nexus' } };
      const url = ['webhooks', 'url', '--agent', 'main', '--source', 'github'];
      expect(await machine.nexus([...url, '--secret-from', 'credential:github'], asEndpoint)).toMatchObject({
        status: 0,
      });
      const again = await claw.install();
      expect(again).toMatchObject({ status: 0 });
      expect(again.stderr).toContain('restarted nexus-serve.service');
      expect(await machine.unit('nexus-serve.service')).toMatchObject({
        User: 'nexus',
        ActiveState: 'active',
      });
      expect((await machine.run(['ls', '/var/lib/nexus'], { user: 'claw' })).status).not.toBe(0);
      expect(
        (await machine.run(['cat', '/etc/nexus/credentials/github'], { user: 'nexus' })).status,
      ).not.toBe(0);

      const timers = ['upload', 'pull-webhooks', 'status'].map((job) => `nexus-${job}.timer`);
      for (const timer of timers) await claw.dropIn(timer, often);
      await machine.must(['systemctl', 'restart', ...timers]);

      // What OpenClaw writes from now on, by the timer.
      const id = '02b03480-87ff-450a-adca-3c69cf41e35a';
      const from = `/opt/nexus/test/fixtures/openclaw/files-2026.2.26/agents/main/sessions/${id}.jsonl`;
      const sessions = `${stateDir}/agents/main/sessions`;
      await machine.sh(
        `cp ${from} ${sessions}/x; touch -d '1 hour ago' ${sessions}/x; chown claw: ${sessions}/x; mv ${sessions}/x ${sessions}/${id}.jsonl`,
      );
      await machine.until(async () => (await claw.nexus('sessions', 'get', `main/${id}`)).status === 0);
      expect((await claw.nexus('sessions', 'get', `main/${id}`)).stdout).toBe(
        (await machine.sh(`cat ${from}`)).trimEnd(),
      );
      // Moved, which the unit may do there and in no other directory of OpenClaw.
      await machine.until(
        async () => (await machine.run(['test', '-f', `${sessions}/archive/${id}.jsonl`])).status === 0,
      );

      // A webhook, by the timer: into the inbox once, and its agent told once.
      const send = await openSender(machine, secret);
      const inbox = (
        await machine.sh(`grep -ho '/srv/openclaw[^"]*' ${stateDir}/openclaw.json | head -1`)
      ).trim();
      const delivered = async () =>
        (await machine.sh(`find /srv -path '*/inbox/webhooks/github_*.json' -not -path '*/.*'`))
          .split('\n')
          .filter(Boolean);
      expect(inbox).not.toBe('');
      expect(await send('first', '{"says":"one"}')).toBe(202);
      await machine.until(async () => (await told()).length === 1);
      expect(await send('first', '{"says":"one"}')).toBe(200);
      expect(await delivered()).toHaveLength(1);
      expect(await machine.sh(`cat ${(await delivered())[0]}; stat -c %U ${(await delivered())[0]}`)).toMatch(
        /"says":.*\bclaw$/s,
      );
      expect(await told()).toMatchObject([
        {
          path: '/hooks/agent',
          authorization: 'Bearer hooks-token',
          body: { agentId: 'main', deliver: false },
        },
      ]);

      // Killed with what it has acknowledged and nobody has fetched: it comes back with it. Hurried as they are here,
      // the jobs would call two seconds without an endpoint an outage.
      await machine.must([
        'systemctl',
        'stop',
        ...timers,
        'nexus-upload',
        'nexus-pull-webhooks',
        'nexus-status',
      ]);
      expect(await send('second', '{"says":"two"}')).toBe(202);
      await machine.must(['systemctl', 'kill', '--signal=KILL', 'nexus-serve.service']);
      await machine.until(async () => {
        const { ActiveState, NRestarts } = await machine.unit('nexus-serve.service');
        return ActiveState === 'active' && NRestarts === '1';
      });
      expect(await send('second', '{"says":"two"}')).toBe(200);
      await machine.must(['systemctl', 'start', ...timers]);
      await machine.until(async () => (await told()).length === 2);
      expect(await delivered()).toHaveLength(2);

      // One transcript that cannot be read: told once, and once more when it can.
      const about = async () => (await alerts()).filter(({ subject }) => subject === 'job/upload');
      const runs = async (message: RegExp) =>
        (await machine.journal('nexus-upload.service')).filter((line) => message.test(line.message)).length;
      expect(await alerts()).toEqual([]);
      const closed = `${sessions}/11111111-2222-4333-8444-555555555555.jsonl`;
      await machine.sh(`(umask 077; printf '{"type":"session"}\n' > ${closed})`);
      await machine.until(async () => (await runs(/exited, code=exited, status=3\b/)) >= 4, 20_000);
      expect(await about()).toMatchObject([
        { event: 'failed', host: 'box', subject: 'job/upload', error: expect.stringContaining(closed) },
      ]);
      await machine.sh(`chown claw: ${closed}`);
      await machine.until(async () => (await about()).length > 1);
      const good = await runs(/Deactivated successfully/);
      await machine.until(async () => (await runs(/Deactivated successfully/)) >= good + 2);
      expect(await about()).toMatchObject([
        { event: 'failed' },
        { event: 'recovered', subject: 'job/upload' },
      ]);
      expect((await alerts()).length).toBe(2);
      expect(await told()).toHaveLength(2);

      // Each line with the priority of what it says.
      const upload = await machine.journal('nexus-upload.service');
      const said = (lines: typeof upload, priority: number) =>
        lines
          .filter((line) => line.by === 'nexus' && line.priority === priority)
          .map(({ message }) => message);
      expect(said(upload, 6).join('\n')).toMatch(/upload/);
      expect(said(upload, 3).join('\n')).toContain(closed);
      expect(said(upload, 6).join('\n')).not.toContain(closed);
      expect(said(await machine.journal('nexus-serve.service'), 6).join('\n')).toContain(
        'Listening on http://127.0.0.1:7788',
      );
      expect(said(await machine.journal('nexus-pull-webhooks.service'), 6).join('\n')).toMatch(/1 /);
      const words = (await machine.must(['journalctl', '--no-pager', '-o', 'cat'])).split('\n');
      expect(words.filter((line) => line.includes(secret) || line.includes('hooks-token'))).toEqual([]);
      expect(words.filter((line) => line.includes('"says"'))).toEqual([]);

      expect(await claw.uninstall()).toMatchObject({ status: 0 });
      const after = await everything(machine);
      const data = [
        '/var/lib/nexus',
        '/home/claw/.local',
        '/home/claw/.config/nexus/',
        `${stateDir}/agents/`,
        '/srv/',
      ];
      // What this test's asking the journal, commands by hand and drop-ins leave.
      const others = [
        '/run/systemd/journal/',
        '/run/systemd/show-status',
        '/tmp/node-compile-cache/',
        ...timers.map((timer) => `/etc/systemd/system/${timer}.d`),
      ];
      const isData = (file: string) => [...data, ...others].some((one) => file.startsWith(one));
      expect([...after].filter((file) => !before.has(file) && !isData(file))).toEqual([]);
      // Of transcripts alone the place is another.
      expect(
        [...before].filter(
          (file) =>
            !after.has(file) &&
            ![`${stateDir}/agents/`, '/run/systemd/journal/'].some((one) => file.startsWith(one)),
        ),
      ).toEqual([]);
      const names = (files: Set<string>) =>
        [...files]
          .filter((file) => file.includes('/sessions/') && /jsonl/.test(file))
          .map((file) => file.split('/').at(-1));
      expect(names(after)).toEqual(expect.arrayContaining(names(before)));
      expect(await machine.sh("systemctl list-units --all --no-legend 'nexus*'")).toBe('');
      expect(await machine.sh('ls /var/lib/nexus/.local/share/nexus/store')).not.toBe('');
      expect((await machine.run(['pgrep', '-f', 'nexus.js'])).status).toBe(1);
    });
  },
);
