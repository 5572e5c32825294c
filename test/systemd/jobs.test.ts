import { expect, test } from 'vitest';
import { hurried, makeClaw } from './claw.ts';
import { openDoors } from './door.ts';
import { boots, withSystemd } from './machine.ts';

const minute = 60_000;
const upload = 'nexus-upload.service';

test.skipIf(!boots)(
  'each way in which a job can end shows through its unit, and the bad ones are told, and their end',
  { timeout: 2 * minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const taken = await openDoors(machine, [9000]);
      const channels = [{ kind: 'webhook', url: 'http://127.0.0.1:9000/' }];
      await claw.configure({ ...hurried, alerts: { afterFailures: 1, channels } });
      expect(await claw.install('--role', 'both')).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");
      const alerts = async () =>
        (await taken()).flatMap(({ body }) => (body['subject'] === 'job/upload' ? [body['event']] : []));
      /** How it ended, and what somebody was told of that. */
      const run = async () => {
        const before = (await alerts()).length;
        const { status, result, active } = await claw.start(upload);
        await machine.until(async () => {
          const { ActiveState, Job } = await machine.unit(`nexus-alert@${upload}.service`);
          return ActiveState !== 'activating' && Job === undefined;
        });
        return { status, result, active, told: (await alerts()).slice(before) };
      };
      const good = { status: 0, result: 'success', active: 'inactive', told: [] };
      const again = { ...good, told: ['recovered'] };
      const bad = (status: number) => ({ status, result: 'exit-code', active: 'failed', told: ['failed'] });
      /** How a backfill ended, which is started once, and whether systemd tries again. */
      const backfill = async () => {
        await machine.must(['systemctl', 'restart', 'nexus-backfill.service']);
        return await machine.until(async () => {
          const { ActiveState, SubState, ExecMainStatus } = await machine.unit('nexus-backfill.service');
          return SubState !== 'running' && `${ExecMainStatus}, ${ActiveState} (${SubState})`;
        });
      };
      expect(await run()).toEqual(good);

      // 3: one transcript of many cannot be read.
      const closed = `${claw.stateDir}/agents/main/sessions/11111111-2222-4333-8444-555555555555.jsonl`;
      await machine.sh(
        `echo '{"type":"session"}' > ${closed}; chmod 600 ${closed}; touch -d '1 hour ago' ${closed}`,
      );
      expect(await run()).toEqual(bad(3));
      expect(await backfill()).toBe('3, failed (failed)');
      // To find that is what status is for.
      const found = { status: 3, result: 'success', active: 'inactive' };
      expect(await claw.start('nexus-status.service')).toEqual(found);
      await machine.sh(`rm ${closed}`);
      expect(await run()).toEqual(again);

      /** What the unit starts instead. */
      const starts = (...args: string[]) =>
        `[Service]\nExecStart=\nExecStart=/opt/node/node /opt/nexus/bin/nexus.js ${args.join(' ')}\n`;
      // 64: the unit says something that nexus does not know, or that makes no sense.
      for (const args of [['--nope'], ['--agent', 'nobody']]) {
        await claw.dropIn(upload, starts('upload', ...args));
        expect(await run()).toEqual(bad(64));
        await claw.dropIn(upload, '[Service]\n');
        expect(await run()).toEqual(again);
      }

      // 1: a bug.
      await machine.sh(`echo 'JSON.parse = () => { throw new Error("a bug") }' > /etc/bug.cjs`);
      await claw.dropIn(upload, '[Service]\nEnvironment="NODE_OPTIONS=--require /etc/bug.cjs"\n');
      expect(await run()).toEqual(bad(1));
      await claw.dropIn(upload, '[Service]\n');
      expect(await run()).toEqual(again);

      // It does not come to its end in time.
      await claw.dropIn(upload, `${starts('upload', '--watch')}TimeoutStartSec=5\n`);
      expect(await run()).toMatchObject({ result: 'timeout', active: 'failed', told: ['failed'] });
      await claw.dropIn(upload, '[Service]\n');
      expect(await run()).toEqual(again);

      // 69: the endpoint is down.
      await machine.must(['systemctl', 'stop', 'nexus-serve.service']);
      expect(await run()).toEqual(bad(69));
      expect(await backfill()).toBe('69, activating (auto-restart)');
      await machine.must(['systemctl', 'stop', 'nexus-backfill.service']);
      await machine.must(['systemctl', 'start', 'nexus-serve.service']);
      expect(await run()).toEqual(again);

      // 75: others hold its agents. No failure: the next run does it.
      await machine.sh(`systemd-run -q --unit=holder -p User=claw -p Type=exec /opt/node/node -e '
        const { DatabaseSync } = require("node:sqlite");
        globalThis.held = ["main", "flickclaw", "research"].map((agent) => {
          const db = new DatabaseSync("${claw.dataDir}/host/locks/" + agent + ".lock");
          db.exec("BEGIN EXCLUSIVE");
          return db;
        });
        require("node:fs").writeFileSync("/tmp/held", "");
        setInterval(() => undefined, 1000);'; until test -e /tmp/held; do sleep 0.1; done`);
      expect(await run()).toEqual({ ...good, status: 75 });
      await machine.must(['systemctl', 'stop', 'holder']);

      // 143: stopped.
      await claw.dropIn(upload, starts('upload', '--watch'));
      const [sessions, id] = [
        `${claw.stateDir}/agents/main/sessions`,
        '02b03480-87ff-450a-adca-3c69cf41e35a',
      ];
      await machine.sh(`cd ${sessions}
        cp /opt/nexus/test/fixtures/openclaw/files-2026.2.26/agents/main/sessions/${id}.jsonl x
        touch -d '1 hour ago' x; chown claw: x; mv x ${id}.jsonl`);
      await machine.must(['systemctl', 'start', '--no-block', upload]);
      await machine.until(async () =>
        (await machine.journal(upload)).some(({ message }) => message.includes('1 transcripts stored')),
      );
      await machine.must(['systemctl', 'stop', upload]);
      expect(await machine.unit(upload)).toMatchObject({
        ActiveState: 'inactive',
        ExecMainStatus: '143',
        Result: 'success',
      });
      await claw.dropIn(upload, '[Service]\n');

      // The same with the key as a credential, which only root and the unit can read.
      await machine.sh(`mkdir -m 700 -p /etc/nexus/credentials; cd /etc/nexus/credentials; umask 077
        /opt/node/node -e '
          const { readFileSync, writeFileSync } = require("node:fs");
          const settings = JSON.parse(readFileSync("${claw.configFile}", "utf8"));
          writeFileSync("key", settings.apiKey + "\\n");
          writeFileSync("${claw.configFile}", JSON.stringify({ ...settings, apiKey: { credential: "key" } }));'`);
      expect(await run()).toEqual(bad(78));
      expect(await claw.install()).toMatchObject({ status: 0, stderr: expect.stringContaining('updated') });
      expect(await run()).toEqual(again);

      // 77: its key is not known.
      await machine.sh('cd /etc/nexus/credentials; cp -p key good; echo nxk_another > key');
      expect(await run()).toEqual(bad(77));
      await machine.sh('cd /etc/nexus/credentials; mv good key');
      expect(await run()).toEqual(again);

      // 78: the configuration is no JSON.
      await machine.sh(`printf '{' > ${claw.configFile}`);
      expect(await run()).toEqual(bad(78));
    });
  },
);

test.skipIf(!boots)(
  'a look at the status that cannot look is a failure of its unit, and is told',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      const taken = await openDoors(machine, [9000]);
      const channels = [{ kind: 'webhook', url: 'http://127.0.0.1:9000/' }];
      await claw.configure({ ...hurried, alerts: { afterFailures: 1, channels } });
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");
      const look = () => claw.start('nexus-status.service');
      expect(await look()).toMatchObject({ result: 'success', active: 'inactive' });
      expect(await taken()).toEqual([]);
      await machine.sh(
        `chown root: ${claw.dataDir}/host/ledger.sqlite*; chmod 600 ${claw.dataDir}/host/ledger.sqlite*`,
      );
      expect(await look()).toMatchObject({ result: 'exit-code', active: 'failed' });
      await machine.until(async () => (await taken()).length > 0);
      expect((await taken())[0]?.body).toMatchObject({ event: 'failed', host: 'box' });
    });
  },
);

test.skipIf(!boots)(
  'a job reads OpenClaw as its owner, writes where it must and nowhere else, and has no network it does not need',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'sqlite-2026.9.6');
      await machine.sh(
        'mkdir -m 700 /home/claw/.ssh; echo key > /home/claw/.ssh/id; chown -R claw: /home/claw/.ssh',
      );
      await claw.configure(hurried);
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      await machine.sh("systemctl stop 'nexus-*.timer'");

      /** A shell's script in place of the job, in the very surroundings that the job has. */
      const inside = async (script: string) => {
        await machine.sh(`cat > /etc/probe <<'END'\nset -eu\n${script}\nEND`);
        await claw.dropIn(upload, '[Service]\nExecStart=\nExecStart=/bin/sh /etc/probe\n');
        return (await claw.start(upload)).status === 0;
      };
      const database = `${claw.stateDir}/agents/main/agent/openclaw-agent.sqlite`;
      expect(await inside(`cat ${claw.stateDir}/openclaw.json ${database} > /dev/null`)).toBe(true);
      expect(
        await inside(`touch ${claw.stateDir}/agents/main/sessions/x ${database}-shm ${claw.dataDir}/x`),
      ).toBe(true);
      expect(await inside('touch /tmp/x')).toBe(true);
      for (const closed of [
        `touch ${claw.stateDir}/openclaw.json`,
        `touch ${database}`,
        `echo >> ${database}`,
        `touch ${claw.configFile}`,
        'touch /home/claw/x',
        'touch /etc/x',
        'touch /var/lib/x',
        'touch /srv/x',
        'cat /home/claw/.ssh/id',
        'test -e /home/claw/.ssh',
        'mount -t tmpfs x /mnt',
        'unshare --user true',
        `/opt/node/node -e 'require("net").connect(7788, "127.0.0.1").on("error", (e) => process.exit(e.code === "ECONNREFUSED" ? 0 : 1))'`,
      ])
        expect([closed, await inside(closed)]).toEqual([closed, false]);
      await machine.sh(`rm ${database}-shm; test ! -e /tmp/x`);
      await claw.dropIn(upload, '[Service]\n');
    });
  },
);

test.skipIf(!boots)(
  'a database is read beside its gateway, and after a gateway that was killed',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'sqlite-2026.9.6');
      await claw.configure(hurried);
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      const database = `${claw.stateDir}/agents/main/agent/openclaw-agent.sqlite`;
      const stored = async () => {
        const { status } = await claw.start(upload);
        const { stdout } = await claw.nexus('sessions', 'list', '--json');
        const { sessions }: { sessions: { length: number }[] } = JSON.parse(stdout);
        return { status, bytes: sessions.reduce((sum, { length }) => sum + length, 0) };
      };
      const first = await stored();
      expect(first.status).toBe(0);

      await machine.sh(`cat > /etc/gateway.cjs <<'END'
        const { DatabaseSync } = require('node:sqlite');
        globalThis.db = new DatabaseSync('${database}');
        db.exec('PRAGMA journal_mode = WAL');
        db.exec(\`INSERT INTO transcript_events (session_id, seq, event_json, created_at)
          SELECT session_id, max(seq) + 1, json_object('type', 'custom'), 0
          FROM transcript_events GROUP BY session_id LIMIT 1\`);
        setInterval(() => undefined, 1000);\nEND
        systemd-run -q --unit=gateway -p User=claw -p Type=exec /opt/node/node /etc/gateway.cjs`);
      await machine.until(async () => (await machine.run(['test', '-s', `${database}-wal`])).status === 0);
      const beside = await stored();
      expect(beside).toEqual({ status: 0, bytes: expect.any(Number) });
      expect(beside.bytes).toBeGreaterThan(first.bytes);

      await machine.sh(
        `systemctl kill --signal=KILL gateway; while systemctl is-active -q gateway; do sleep 0.1; done; rm ${database}-shm`,
      );
      expect(await stored()).toEqual(beside);
    });
  },
);

test.skipIf(!boots)(
  "where OpenClaw is root's, its files are archived and moved all the same",
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const sessions = '/root/.openclaw/agents/main/sessions';
      await machine.sh(`cp -r /opt/nexus/test/fixtures/openclaw/files-2026.7.35 /root/.openclaw
        chown -R root: /root/.openclaw; find /root/.openclaw -type f -exec touch -d '2 days ago' {} +`);
      expect(await machine.nexus(['install'])).toMatchObject({ status: 0 });
      await machine.until(
        async () => (await machine.unit('nexus-backfill.service'))['ActiveState'] === 'inactive',
      );
      expect(await machine.unit('nexus-backfill.service')).toMatchObject({ Result: 'success', User: 'root' });
      expect(
        (await machine.journal('nexus-backfill.service')).filter(({ priority }) => priority < 5),
      ).toEqual([]);
      expect((await machine.sh(`ls ${sessions}/archive`)).split('\n').length).toBeGreaterThan(5);
    });
  },
);

test.skipIf(!boots)(
  'an agent that came after the installation is archived, and `nexus install` opens its directory for the rest',
  { timeout: minute },
  async () => {
    await withSystemd(async (machine) => {
      const claw = await makeClaw(machine, 'files-2026.7.35');
      await claw.configure(hurried);
      expect(await claw.install()).toMatchObject({ status: 0 });
      await claw.backfilled();
      const agents = `${claw.stateDir}/agents`;
      await machine.sh(`cd ${agents}; mkdir -p newone/sessions
        cp /opt/nexus/test/fixtures/openclaw/files-2026.2.26/agents/main/sessions/*.deleted.* newone/sessions
        chown -R claw: newone; find newone -type f -exec touch -d '2 days ago' {} +`);
      expect((await claw.start(upload)).status).toBe(0);
      expect((await claw.nexus('sessions', 'list', '--agent', 'newone')).stdout).toMatch(/newone/);
      const warned = (await machine.journal(upload)).find(({ message }) => message.includes('not moved'));
      expect(warned).toMatchObject({
        priority: 4,
        message: expect.stringContaining('run `nexus install` again'),
      });

      expect((await claw.install()).stderr).toContain(`updated /etc/systemd/system/${upload}`);
      expect((await claw.start(upload)).status).toBe(0);
      expect(await machine.sh(`ls ${agents}/newone/sessions/archive`)).toMatch(/deleted/);
    });
  },
);
