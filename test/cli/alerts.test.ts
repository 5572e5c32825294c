import { chmod, mkdir, readdir, readFile, symlink, unlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { openLocalStore } from '../../src/stores/local.ts';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;
let receiver: Receiver;

const quick = { retry: { tries: 1, baseMs: 1, maxMs: 1 } };

beforeEach(async () => {
  [machine, receiver] = await Promise.all([newOpenClawMachine(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
});

const channels = () => [{ kind: 'webhook', url: `${receiver.url}/hook/s3cret` }];

function toReceiver(more: object = {}): object {
  return { ...quick, alerts: { channels: channels() }, ...more };
}

/** Runs at an endpoint that is not there. */
const down = { env: { NEXUS_ENDPOINT: 'http://127.0.0.1:9' } };

const notices = () => receiver.received.map(({ body }) => fieldsOf(body));
const events = () => notices().map(({ event }) => event);

const lastNotice = () => notices().at(-1) ?? {};

function fieldsOf(json: string): Record<string, unknown> {
  const value: unknown = JSON.parse(json);
  return Object.fromEntries(Object.entries(value ?? {}));
}

describe('a job', () => {
  test('that fails three times in a row is told once, and once more when it works again, over any number of runs', async () => {
    await machine.configure(toReceiver());
    for (const expected of [[], [], ['failed'], ['failed'], ['failed']]) {
      expect((await machine.nexus(['upload'], down)).status).toBe(69);
      expect(events()).toEqual(expected);
    }
    for (let n = 0; n < 3; n++) expect((await machine.nexus(['upload'])).status).toBe(0);
    expect(events()).toEqual(['failed', 'recovered']);
  });

  test('that fails, works and fails again is not told before it failed three times in a row', async () => {
    await machine.configure(toReceiver());
    for (const options of [down, down, {}, down, down]) await machine.nexus(['upload'], options);
    expect(events()).toEqual([]);
    await machine.nexus(['upload'], down);
    expect(events()).toEqual(['failed']);
  });

  test('is told with host, error, what is at risk and what to do, and nothing of a secret', async () => {
    await machine.configure(toReceiver({ apiKey: 'nxk_secret' }));
    await machine.openclaw.write(`${ids.b}.jsonl.deleted.2026-01-01T00-00-00.000Z`, transcript(ids.b, 2), {
      ageMs: 40 * 86_400_000,
    });
    const shown: string[] = [];
    for (let n = 0; n < 3; n++) shown.push((await machine.nexus(['upload'], down)).stderr);
    expect(lastNotice()).toMatchObject({
      schemaVersion: 1,
      event: 'failed',
      host: 'box',
      subject: 'job/upload',
      title: 'Nexus on box: upload has failed 3 times in a row.',
      error: expect.stringContaining('http://127.0.0.1:9'),
      atRisk: expect.stringMatching(
        /^1 session that OpenClaw will delete within 24 h and that is not archived \(main 1\)/,
      ),
      next: expect.stringContaining('`nexus status`'),
      since: expect.stringMatching(/Z$/),
    });
    expect(receiver.received[0]?.body).not.toMatch(/nxk_secret|s3cret/);
    expect(shown.join('')).not.toMatch(/nxk_secret|s3cret/);
  });

  test('of which some items fail is told too', async () => {
    await machine.configure(toReceiver());
    const link = path.join(machine.openclaw.sessions(), `${ids.c}.jsonl`);
    await symlink('/etc/hostname', link);
    for (let n = 0; n < 4; n++) expect((await machine.nexus(['upload'])).status).toBe(3);
    expect(events()).toEqual(['failed']);
    expect(lastNotice()['error']).toContain(link);
    await unlink(link);
    expect((await machine.nexus(['upload'])).status).toBe(0);
    expect(events()).toEqual(['failed', 'recovered']);
  });

  test('that another holds, that is mistyped or only tried is no failure', async () => {
    await machine.configure(toReceiver());
    for (let n = 0; n < 4; n++) await machine.nexus(['upload', '--agent', 'nobody']);
    for (let n = 0; n < 4; n++) await machine.nexus(['upload', '--dry-run'], down);
    expect(events()).toEqual([]);
  });

  test('ends as it would, and soon, where the channel is dead; a later run or status --alert tells', async () => {
    await machine.configure(toReceiver());
    await machine.nexus(['upload'], down);
    await machine.nexus(['upload'], down);
    receiver.answer(410);
    const ran = await machine.nexus(['upload'], down);
    expect(ran.status).toBe(69);
    expect(ran.stderr).toContain('answered 410');
    expect(ran.stderr).not.toContain('s3cret');
    receiver.answer(200);
    await machine.nexus(['upload'], down);
    expect(receiver.received).toHaveLength(1);
    await pausesAreOver();
    await machine.nexus(['status', '--alert'], down);
    expect(events()).toEqual(['failed', 'failed']);
    await machine.nexus(['status', '--alert'], down);
    expect(receiver.received).toHaveLength(2);
  });
});

/** Makes the clock of what waits on this host run out. */
async function pausesAreOver(): Promise<void> {
  const store = await openLocalStore(path.join(machine.dataDir, 'host', 'alerts'));
  for await (const row of store.rows('Alerts', 'latched'))
    if (row['until'] !== undefined) await store.put('Alerts', { ...row, until: 0 });
  await store.close();
}

test('a channel that hangs delays a job by seconds', async () => {
  await machine.configure(toReceiver());
  await machine.nexus(['upload'], down);
  await machine.nexus(['upload'], down);
  receiver.answer(0);
  const began = performance.now();
  const ran = await machine.nexus(['upload'], down);
  expect(performance.now() - began).toBeLessThan(25_000);
  expect(ran).toMatchObject({ status: 69, stderr: expect.stringContaining('was not told in time') });
});

describe('upload --watch', () => {
  const atOnce = () => machine.configure({ ...quick, alerts: { channels: channels(), afterFailures: 1 } });

  test('tells of a failed round, and another of the next that is well', async () => {
    await atOnce();
    const first = machine.start(['upload', '--watch'], down);
    await expect.poll(events, { timeout: 10_000 }).toEqual(['failed']);
    first.kill('SIGTERM');
    await first.ended;
    const second = machine.start(['upload', '--watch']);
    await expect.poll(events, { timeout: 10_000 }).toEqual(['failed', 'recovered']);
    second.kill('SIGTERM');
    expect((await second.ended).status).toBe(143);
  });

  test('ends soon though a channel hangs', async () => {
    await atOnce();
    receiver.answer(0);
    const watching = machine.start(['upload', '--watch'], down);
    await expect.poll(events, { timeout: 10_000 }).toEqual(['failed']);
    const began = performance.now();
    watching.kill('SIGTERM');
    await watching.ended;
    expect(performance.now() - began).toBeLessThan(3_000);
  });
});

test('an alert of pulls does not say that transcripts are at risk', async () => {
  await machine.configure({ ...quick, alerts: { channels: channels(), afterFailures: 1 } });
  await machine.nexus(['pull-webhooks'], down);
  expect(lastNotice()).toMatchObject({
    subject: 'job/pull-webhooks',
    atRisk: expect.stringContaining('nothing is lost'),
    next: expect.not.stringContaining('journalctl'),
  });
});

test.each([
  ['', {}],
  [' --user', { MANAGERPID: '1' }],
])('what systemd started is looked up in its journal:%s', async (scope, more) => {
  await machine.configure({ ...quick, alerts: { channels: channels(), afterFailures: 1 } });
  const env = { ...down.env, INVOCATION_ID: '1'.repeat(32), ...more };
  await machine.nexus(['upload'], { env });
  expect(lastNotice()['next']).toContain(`\`journalctl${scope} -u nexus-upload\``);
});

test('two uploads at once raise one alert', async () => {
  await machine.configure(toReceiver());
  await Promise.all(Array.from({ length: 5 }, () => machine.nexus(['upload'], down)));
  await machine.nexus(['upload'], down);
  expect(events()).toEqual(['failed']);
});

describe('nexus alerts test', () => {
  test('sends one through every channel, says what each answered, and exits 3 when one failed', async () => {
    const [out, bin] = [path.join(machine.home, 'out'), path.join(machine.home, 'bin')];
    await mkdir(bin);
    const script = async (name: string, text: string) => {
      await writeFile(path.join(bin, name), `#!/bin/sh\n${text}\n`);
      await chmod(path.join(bin, name), 0o755);
    };
    await script('sendmail', `printf '%s\\n' "$@" > ${out}.args; cat > ${out}.mail`);
    await script('openclaw', `printf '%s\\n' "$@" > ${out}.openclaw; echo '{"status":"ok"}'`);
    await script('tell', `cat > ${out}.json; env > ${out}.env`);
    await machine.configure({
      apiKey: 'nxk_secret',
      alerts: {
        channels: [
          ...['json', 'slack', 'discord', 'ntfy'].map((format) => ({
            kind: 'webhook',
            url: { env: 'HOOK' },
            format,
            token: 'tok3n',
          })),
          { kind: 'email', to: 'root', from: 'nexus@example.net' },
          { kind: 'command', command: [path.join(bin, 'tell'), 'me'] },
          { kind: 'agent', agent: 'main' },
        ],
      },
    });
    const env = {
      HOOK: `${receiver.url}/hook/s3cret`,
      PATH: `${bin}:${process.env['PATH']}`,
      NEXUS_API_KEY: 'nxk_x',
    };
    const { status, answer, stderr } = await machine.json(['alerts', 'test'], { env });
    expect(answer).toMatchObject({ ok: true, channels: Array.from({ length: 7 }, () => ({ ok: true })) });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });

    const byFormat = new Map(receiver.received.map((one) => [one.body.slice(0, 9), one]));
    expect(receiver.received).toHaveLength(4);
    expect(receiver.received.every(({ headers }) => headers['authorization'] === 'Bearer tok3n')).toBe(true);
    expect(byFormat.get('{"schemaV')?.body).toContain('"event":"test"');
    expect(byFormat.get('{"text":"')?.body).toContain('*Nexus on box: this is a test.*');
    expect(byFormat.get('{"content')?.body).toContain('"allowed_mentions":{"parse":[]}');
    const ntfy = receiver.received.find(({ headers }) => headers['title'] !== undefined);
    expect(ntfy?.headers).toMatchObject({ title: 'Nexus on box: this is a test.', tags: 'wave' });

    expect(await readFile(`${out}.args`, 'utf8')).toBe('-i\n-f\nnexus@example.net\n--\nroot\n');
    const mail = await readFile(`${out}.mail`, 'utf8');
    expect(mail).toMatch(
      /^To: root\nFrom: Nexus <nexus@example\.net>\nSubject: Nexus on box: this is a test\.\n/,
    );
    const body = Buffer.from(mail.slice(mail.indexOf('\n\n')), 'base64').toString();
    expect(body).toContain('Next: Nothing is wrong');
    expect(JSON.parse(await readFile(`${out}.json`, 'utf8'))).toMatchObject({ event: 'test', host: 'box' });
    expect(await readFile(`${out}.env`, 'utf8')).not.toContain('nxk_');
    expect(await readFile(`${out}.openclaw`, 'utf8')).toContain('--agent\nmain\n');
  });

  test('names the channel that failed, without its secret, and the others are told', async () => {
    await machine.configure({
      alerts: {
        channels: [
          { kind: 'webhook', url: `${receiver.url}/one` },
          { kind: 'webhook', url: 'http://127.0.0.1:2/s3cret' },
          { kind: 'webhook', url: { file: '/nonexistent/url' } },
          { kind: 'email', to: 'root' },
          { kind: 'command', command: ['/bin/sh', '-c', 'echo no luck >&2; exit 7'] },
          { kind: 'agent', agent: 'nobody' },
        ],
      },
    });
    const { status, answer, stdout } = await machine.json(['alerts', 'test'], {
      env: { PATH: '/nonexistent' },
    });
    expect(status).toBe(3);
    const answers = Object.values(answer['channels'] ?? {}).map((one) => fieldsOf(JSON.stringify(one)));
    expect(answers.map(({ ok }) => ok)).toEqual([true, false, false, false, false, false]);
    const said = answers.map(({ answer }) => answer).join('\n');
    expect(said).toMatch(/cannot be reached \(ECONNREFUSED\)/);
    expect(said).toMatch(/\/nonexistent\/url cannot be read \(ENOENT\)/);
    expect(said).toMatch(/There is no sendmail on this machine/);
    expect(said).toMatch(/\/bin\/sh ended with status 7: no luck/);
    expect(said).toMatch(/OpenClaw has no agent nobody on this host/);
    expect(stdout).not.toContain('s3cret');
    expect(receiver.received).toHaveLength(1);
  });

  test('without any channel says how to add one', async () => {
    const ran = await machine.nexus(['alerts', 'test']);
    expect(ran).toMatchObject({
      status: 78,
      stderr: expect.stringContaining('nexus config set alerts.channels'),
    });
  });
});

test('nexus alerts list shows what is latched and who was told, and makes nothing', async () => {
  await machine.configure(toReceiver());
  expect((await machine.json(['alerts', 'list'])).answer).toMatchObject({ ok: true, alerts: [] });
  for (let n = 0; n < 3; n++) await machine.nexus(['upload'], down);
  const { answer } = await machine.json(['alerts', 'list']);
  expect(answer['alerts']).toMatchObject([
    { subject: 'job/upload', number: 1, deliveries: [{ state: 'sent' }] },
  ]);
  const { stdout } = await machine.nexus(['alerts', 'list']);
  expect(stdout).toMatch(
    /job\/upload +lasts +(?:now|\d+ s ago) +webhook json +Nexus on box: upload has failed 3 times in a row\./,
  );
});

describe('nexus alerts unit-failed', () => {
  /** What systemd tells the unit that OnFailure= starts. */
  const monitor = (unit: string, invocation: string, status = '78') => ({
    PATH: '/nonexistent',
    MONITOR_UNIT: unit,
    MONITOR_SERVICE_RESULT: 'exit-code',
    MONITOR_EXIT_CODE: 'exited',
    MONITOR_EXIT_STATUS: status,
    MONITOR_INVOCATION_ID: invocation,
  });

  test('counts a run that could not begin, and tells after three of them', async () => {
    await machine.configure(toReceiver());
    const unit = 'nexus-upload.service';
    for (const [n, expected] of [[], [], ['failed'], ['failed']].entries()) {
      await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, `${n}`.repeat(32)) });
      expect(events()).toEqual(expected);
    }
    expect(lastNotice()['error']).toBe(
      'nexus-upload.service ended with status 78 (the configuration is wrong).',
    );
    await machine.nexus(['upload']);
    expect(events()).toEqual(['failed', 'recovered']);
  });

  test('does not count again a run that counted itself', async () => {
    await machine.configure(toReceiver());
    const unit = 'nexus-upload.service';
    for (let n = 0; n < 2; n++) {
      const invocation = `${n}`.repeat(32);
      await machine.nexus(['upload'], { env: { ...down.env, INVOCATION_ID: invocation } });
      for (let m = 0; m < 2; m++)
        await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, invocation, '69') });
    }
    expect(events()).toEqual([]);
  });

  test('counts a run that ended without saying that it failed, as one that was mistyped or took too long', async () => {
    await machine.configure({ ...quick, alerts: { channels: channels(), afterFailures: 1 } });
    const unit = 'nexus-upload.service';
    const env = { INVOCATION_ID: '1'.repeat(32) };
    expect((await machine.nexus(['upload', '--agent', 'nobody'], { env })).status).toBe(64);
    expect(events()).toEqual([]);
    await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, '1'.repeat(32), '64') });
    expect(events()).toEqual(['failed']);
    // One that was well and did not come to its end in time.
    await machine.nexus(['upload'], { env: { INVOCATION_ID: '2'.repeat(32) } });
    expect(events()).toEqual(['failed', 'recovered']);
    const late = { ...monitor(unit, '2'.repeat(32), '143'), MONITOR_SERVICE_RESULT: 'timeout' };
    await machine.nexus(['alerts', 'unit-failed', unit], { env: late });
    expect(events()).toEqual(['failed', 'recovered', 'failed']);
    expect(lastNotice()['error']).toBe('nexus-upload.service took too long and was ended.');
  });

  test('tells of a service at once, and once', async () => {
    await machine.configure(toReceiver());
    const unit = 'nexus-serve.service';
    for (let n = 0; n < 3; n++)
      await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, `${n}`.repeat(32), '1') });
    expect(events()).toEqual(['failed']);
    expect(lastNotice()).toMatchObject({
      subject: 'unit/nexus-serve.service',
      next: expect.stringContaining('systemctl restart'),
    });
  });

  test.each([
    ['a setting that is wrong', JSON.stringify({ settleMinutes: 'x' })],
    ['a file that is no JSON', '{"settleMinutes": 1,}'],
  ])('tells whom it should in spite of %s', async (_, broken) => {
    await machine.configure(toReceiver());
    await machine.nexus(['upload']);
    const settings = broken.includes('"x"') ? { ...toReceiver(), ...fieldsOf(broken) } : undefined;
    await writeFile(machine.configFile, settings === undefined ? broken : JSON.stringify(settings));
    expect((await machine.nexus(['upload'])).status).toBe(78);
    const unit = 'nexus-upload.service';
    for (let n = 0; n < 3; n++) {
      const env = monitor(unit, `${n}`.repeat(32));
      expect((await machine.nexus(['alerts', 'unit-failed', unit], { env })).status).toBe(78);
    }
    expect(events()).toEqual(['failed']);
    expect(lastNotice()['error']).toMatch(/settleMinutes|is not JSON/);
  });

  test('says that it cannot read whom the last job would have told', async () => {
    await machine.configure(toReceiver());
    await machine.nexus(['upload']);
    const kept = path.join(machine.dataDir, 'host', 'alertsettings.json');
    await unlink(kept);
    await mkdir(kept);
    await writeFile(machine.configFile, '{');
    const unit = 'nexus-upload.service';
    const ran = await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, '1'.repeat(32)) });
    expect(ran.stderr).toMatch(/alertsettings\.json: EISDIR/);
  });

  test('asks systemctl and the journal where systemd has not told', async () => {
    await machine.configure(toReceiver());
    const bin = path.join(machine.home, 'bin');
    await mkdir(bin);
    for (const [name, text] of [
      ['systemctl', 'echo Result=oom-kill; echo ExecMainCode=2; echo ExecMainStatus=9; echo InvocationID='],
      ['journalctl', 'case "$*" in *--priority=err*) ;; *) echo "it grew and grew";; esac'],
    ] as const) {
      await writeFile(path.join(bin, name), `#!/bin/sh\n${text}\n`);
      await chmod(path.join(bin, name), 0o755);
    }
    await machine.nexus(['alerts', 'unit-failed', 'nexus-serve.service'], { env: { PATH: bin } });
    expect(lastNotice()['error']).toBe(
      'nexus-serve.service was killed because memory ran out.\nit grew and grew',
    );
  });

  test('refuses what is no name of a unit', async () => {
    expect((await machine.nexus(['alerts', 'unit-failed', '--', '-x;y'])).status).toBe(64);
  });

  test('tells all the same where nothing can be latched', async () => {
    await machine.configure(toReceiver());
    await mkdir(path.join(machine.dataDir, 'host'), { recursive: true, mode: 0o700 });
    await writeFile(path.join(machine.dataDir, 'host', 'alerts'), 'in the way');
    const unit = 'nexus-serve.service';
    await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, '1'.repeat(32)) });
    expect(events()).toEqual(['failed']);
    // A timer that fails each minute is no reason to tell each minute.
    const again = await machine.nexus(['alerts', 'unit-failed', unit], {
      env: monitor(unit, '2'.repeat(32)),
    });
    expect(again.stderr).toContain('was sent within the last hour');
    expect(events()).toEqual(['failed']);
    const [told = ''] = (await readdir(path.join(machine.dataDir, 'host'))).filter((name) =>
      name.startsWith(`told-${unit}`),
    );
    await utimes(path.join(machine.dataDir, 'host', told), new Date(), new Date(Date.now() - 3_700_000));
    receiver.answer(410);
    for (let n = 3; n < 5; n++)
      await machine.nexus(['alerts', 'unit-failed', unit], { env: monitor(unit, `${n}`.repeat(32)) });
    expect(events()).toEqual(['failed', 'failed', 'failed']);
  });
});

describe('nexus status --alert', () => {
  test('ends the alert of a unit that is active again', async () => {
    await machine.configure(toReceiver());
    const bin = path.join(machine.home, 'bin');
    await mkdir(bin);
    await writeFile(path.join(bin, 'systemctl'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const env = { PATH: bin };
    await machine.nexus(['alerts', 'unit-failed', 'nexus-serve.service'], { env });
    await machine.nexus(['status', '--alert'], { env });
    expect(events()).toEqual(['failed']);
    await writeFile(path.join(bin, 'systemctl'), '#!/bin/sh\nexit 0\n');
    for (let n = 0; n < 2; n++) await machine.nexus(['status', '--alert'], { env });
    expect(events()).toEqual(['failed', 'recovered']);
  });

  test('ends the alert of a unit that was taken away, and of none that is only stopped', async () => {
    await machine.configure(toReceiver());
    const bin = path.join(machine.home, 'bin');
    await mkdir(bin);
    const systemctl = (state: string) =>
      writeFile(
        path.join(bin, 'systemctl'),
        `#!/bin/sh\ncase "$*" in --user*) exit 1;; *LoadState*) echo LoadState=${state};; *) exit 3;; esac\n`,
        { mode: 0o755 },
      );
    await systemctl('loaded');
    const env = { PATH: bin };
    await machine.nexus(['alerts', 'unit-failed', 'nexus-serve.service'], { env });
    await machine.nexus(['status', '--alert'], { env });
    expect(events()).toEqual(['failed']);
    await systemctl('not-found');
    for (let n = 0; n < 2; n++) await machine.nexus(['status', '--alert'], { env });
    expect(events()).toEqual(['failed', 'recovered']);
    expect(lastNotice()['title']).toBe('Nexus on box: nexus-serve.service was taken away.');
  });

  test('is 3 where Nexus is out of reach, which it has told, and fails where it could not look or tell', async () => {
    await machine.configure(toReceiver());
    await machine.nexus(['upload']);
    expect((await machine.nexus(['status'], down)).status).toBe(69);
    expect((await machine.nexus(['status', '--alert'], down)).status).toBe(3);
    const [alerts, ledger] = ['alerts', 'ledger.sqlite'].map((name) =>
      path.join(machine.dataDir, 'host', name),
    );
    await writeFile(alerts ?? '', 'in the way');
    expect((await machine.nexus(['status', '--alert'])).status).toBe(78);
    await unlink(alerts ?? '');
    await unlink(ledger ?? '');
    await mkdir(ledger ?? '');
    expect((await machine.nexus(['status', '--alert'])).status).toBe(69);
  });

  test('decides what a run did not live to decide', async () => {
    await machine.configure({
      ...quick,
      alerts: { afterFailures: 40, channels: channels() },
    });
    for (let n = 0; n < 3; n++) await machine.nexus(['upload'], down);
    await machine.configure(toReceiver());
    await machine.nexus(['status', '--alert']);
    expect(events()).toEqual(['failed']);
  });
});
