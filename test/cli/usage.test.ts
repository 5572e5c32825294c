import { readFile, rm, stat, truncate } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { usageLines } from '../../src/commands/usagetable.ts';
import { widthOf } from '../../src/table.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { composeMessage } from '../../src/openclaw/message.ts';
import { openSessions } from '../../src/sessions.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { indexPath } from '../../src/usagefile.ts';
import { startReceiver } from '../receiver.ts';
import { newSpendingMachine, type SpendingMachine } from '../usage/spending.ts';

const november = ['--from', '2026-11-01', '--to', '2026-11-30', '--tz', 'UTC'];

async function filled(): Promise<SpendingMachine> {
  const machine = await newSpendingMachine();
  const cron = (run: number) => ({ trigger: 'cron', sessionKey: `agent:main:cron:daily:run:${run}` });
  for (const [run, cost] of [1, 1, 1, 5].entries())
    await machine.spend(
      'main',
      `run${run}`,
      [{ at: `2026-11-1${run}T10:00:00Z`, tokens: 1_000_000, cost }],
      cron(run),
    );
  await machine.spend('work', 'chat', [
    { at: '2026-11-11T23:30:00Z', tokens: 2000, cost: 0.5 },
    { at: '2026-11-12T10:00:00Z', tokens: 3000, model: 'secret' },
  ]);
  return machine;
}

describe('nexus usage', () => {
  test('shows a table by day, totals, what the cost rests on, and that all was read', async () => {
    const { status, stdout, stderr } = await (await filled()).nexus(['usage', ...november]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.replace(/As of .*?\):/, 'As of T:')).toBe(
      [
        'Usage by day, from 2026-11-01 to 2026-11-30, UTC',
        '',
        'DAY         CALLS      INPUT  OUTPUT  CACHE READ  CACHE WRITE     TOKENS     COST',
        '2026-11-10      1  1,000,000       0           0            0  1,000,000    $1.00',
        '2026-11-11      2  1,002,000       0           0            0  1,002,000    $1.50',
        '2026-11-12      2  1,003,000       0           0            0  1,003,000  ≥ $1.00',
        '2026-11-13      1  1,000,000       0           0            0  1,000,000    $5.00',
        'total           6  4,005,000       0           0            0  4,005,000  ≥ $8.50',
        '',
        '6 calls: cost recorded of 5, ≥ unpriced and in no cost: 1.',
        expect.stringMatching(/^As of T: all of 5 transcripts, /),
        '',
      ]
        .map((line) =>
          typeof line === 'string'
            ? line
            : stdout
                .split('\n')
                .at(-2)
                ?.replace(/As of .*?\):/, 'As of T:'),
        )
        .join('\n'),
    );
  });

  test('orders what has no order in time by cost, and never shows $0 for what has no price', async () => {
    const { stdout } = await (await filled()).nexus(['usage', '--by', 'agent,model', ...november]);
    const rows = stdout.split('\n').slice(3, 6);
    expect(rows.map((row) => row.split(/ {2,}/).slice(0, 2))).toEqual([
      ['main', 'opus'],
      ['work', 'opus'],
      ['work', 'secret'],
    ]);
    expect(rows[2]).toMatch(/unpriced$/);
  });

  test('takes days in the time zone that is asked for', async () => {
    const { answer } = await (await filled()).json([
      'usage',
      '--agent',
      'work',
      '--from',
      '2026-11-12',
      '--to',
      '2026-11-12',
      '--tz',
      'Europe/Berlin',
    ]);
    expect(answer).toMatchObject({ totals: { calls: 2 }, rows: [{ day: '2026-11-12', calls: 2 }] });
  });

  test('is one JSON object, or CSV as it is', async () => {
    const machine = await filled();
    const { status, answer } = await machine.json(['usage', '--by', 'agent', ...november]);
    expect([status, answer]).toMatchObject([
      0,
      { command: 'usage', ok: true, schemaVersion: 1, totals: { calls: 6 }, complete: true },
    ]);
    const csv = await machine.nexus(['usage', '--by', 'agent', '--csv', ...november]);
    expect(csv.stdout.split('\r\n').slice(1)).toEqual([
      'main,4,4000000,0,0,0,4000000,8,8,0,4,0,0',
      'work,2,5000,0,0,0,5000,0.5,0.5,0,1,0,1',
      '',
    ]);
  });

  test('shows the last 30 days when no time is said', async () => {
    const machine = await newSpendingMachine();
    const ago = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
    await machine.spend('main', 'a', [
      { at: ago(1), cost: 1 },
      { at: ago(28), cost: 2 },
      { at: ago(31), cost: 4 },
    ]);
    expect((await machine.json(['usage'])).answer).toMatchObject({ totals: { cost: 3 } });
    expect((await machine.json(['usage', '--by', 'month'])).answer).toMatchObject({ totals: { cost: 7 } });
    expect((await machine.json(['usage', '--last', '2d'])).answer).toMatchObject({ totals: { cost: 1 } });
  });

  test.each([
    [['--by', 'colour'], /by must be of agent, day/],
    [['--from', '2026-02-30'], /from must be a date/],
    [['--last', 'long'], /last must be a number of days/],
    [['--last', '3d', '--to', '2026-11-11'], /either/],
    [['--tz', 'Mars/X'], /"Mars\/X" is no time zone/],
    [['--json', '--csv'], /either CSV or JSON/],
    [['--live'], /needs a terminal/],
    [['colour'], /./],
    [['top', '--by', 'day'], /`nexus usage top` has no --by/],
    [['rebuild', '--agent', 'main'], /`nexus usage rebuild` has no --agent/],
  ])('refuses %j with a sentence', async (args, sentence) => {
    const { status, stderr } = await (await newSpendingMachine()).nexus(['usage', ...args]);
    expect([status, stderr]).toEqual([64, expect.stringMatching(sentence)]);
  });

  test('says what is missing, and ends with 3, where a part cannot be read', async () => {
    const machine = await filled();
    await machine.nexus(['usage']);
    await machine.spend('main', 'broken', [{ at: '2026-11-14T10:00:00Z', cost: 64 }]);
    await truncate(
      path.join(machine.dataDir, 'store', 'blobs', 'sessions', 'inbox', 'main', 'broken.jsonl'),
      10,
    );
    const { status, stdout } = await machine.nexus(['usage', ...november]);
    expect([status, stdout]).toEqual([
      3,
      expect.stringContaining('not all is read yet, the sums are too low'),
    ]);
    expect(stdout).toMatch(/main\/broken/);
    expect((await machine.json(['usage', ...november])).answer).toMatchObject({ ok: false, complete: false });
    const csv = await machine.nexus(['usage', '--csv', ...november]);
    expect([csv.status, csv.stderr]).toEqual([3, expect.stringMatching(/not all is read yet/)]);
  });

  test('names what is odd in transcripts', async () => {
    const machine = await filled();
    const store = await openLocalStore(path.join(machine.dataDir, 'store'));
    await openSessions(store).append('main', 'odd', 0, Buffer.from('{broken\n'), {
      complete: true,
      about: {},
    });
    await store.close();
    const { status, stdout } = await machine.nexus(['usage', ...november]);
    expect(stdout).toContain('Odd: 1 × a line that is no JSON object; the first is line 1 of main/odd.');
    expect(stdout).toContain('The sums may be too low: 1 line could not be counted.');
    expect(status).toBe(3);
    // Not of these sessions.
    expect(await machine.json(['usage', '--agent', 'work', ...november])).toMatchObject({
      status: 0,
      answer: { ok: true, complete: true, uncounted: 0 },
    });
    expect((await machine.json(['status'])).answer['notes']).toEqual([
      '1 line of the archive could not be counted as usage; `nexus usage` names what is odd.',
    ]);
  });

  test('with --live --json ends when nobody reads it any more', async () => {
    const machine = await filled();
    const live = machine.start(['usage', '--live', '--json', ...november]);
    await live.shows(/"calls":6.*\n/);
    live.stopReading();
    expect((await live.ended).status).toBe(0);
  }, 20_000);

  test('with --live --json tells a line every few seconds, also of what came meanwhile', async () => {
    const machine = await filled();
    const live = machine.start(['usage', '--live', '--json', ...november]);
    await live.shows(/"calls":6.*\n/);
    await machine.spend('main', 'late', [{ at: '2026-11-15T10:00:00Z', cost: 1 }]);
    await live.shows(/"totals":\{"calls":7.*\n/);
    live.kill('SIGINT');
    expect((await live.ended).status).toBe(130);
  });
});

test('with an endpoint it shows the same, and leaves rebuilding to it', async () => {
  const machine = await filled();
  const commands = [
    ['usage', '--by', 'agent,day', '--csv', ...november],
    ['usage', '--by', 'model', ...november],
    ['usage', 'top', ...november],
  ];
  const timeless = (text: string) => text.replace(/As of .*?\):/g, 'As of T:');
  const here = [];
  for (const command of commands) here.push(timeless((await machine.nexus(command)).stdout));
  const serve = machine.start(['serve', '--port', '0']);
  const [, url = ''] = await serve.shows(/Listening on (http:\S+),/);
  const env = { NEXUS_ENDPOINT: url, NEXUS_DATA_DIR: path.join(machine.home, 'elsewhere') };
  const there = [];
  for (const command of commands) there.push(timeless((await machine.nexus(command, { env })).stdout));
  expect(there).toEqual(here);
  expect((await machine.nexus(['usage', 'rebuild'], { env })).status).toBe(64);
  // At its machine, beside it.
  expect((await machine.nexus(['usage', 'rebuild'])).status).toBe(0);
  expect(timeless((await machine.nexus(['usage', '--by', 'model', ...november], { env })).stdout)).toBe(
    here[1],
  );
  serve.kill('SIGTERM');
  expect((await serve.ended).status).toBe(143);
});

test('usage top names the costliest sessions and cron jobs, and runs over twice the median', async () => {
  const machine = await filled();
  const { answer } = await machine.json(['usage', 'top', ...november]);
  expect(answer).toMatchObject({
    command: 'usage top',
    ok: true,
    jobs: [{ agent: 'main', job: 'daily', runs: 4, medianCost: 1, cost: 8 }],
    outliers: [{ agent: 'main', job: 'daily', session: 'run3', cost: 5, median: 1 }],
  });
  const { status, stdout } = await machine.nexus(['usage', 'top', ...november]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/main\/run3\s+cron daily .* \$5\.00\n/);
  expect(stdout).toMatch(/main +daily +run3 +\$5\.0000 +\$1\.0000 +× 5\.0\n/);
});

test('usage rebuild reads everything again, also where the index is damaged or gone', async () => {
  const machine = await filled();
  const before = (await machine.json(['usage', ...november])).answer;
  const index = indexPath(machine.dataDir);
  expect((await stat(index)).size).toBeGreaterThan(0);
  const { status, answer } = await machine.json(['usage', 'rebuild']);
  expect([status, answer]).toMatchObject([
    0,
    { command: 'usage rebuild', ok: true, coverage: { transcripts: 5 } },
  ]);
  expect((await machine.json(['usage', ...november])).answer).toMatchObject({ rows: before['rows'] });
  await rm(path.dirname(index), { recursive: true });
  expect((await machine.json(['usage', ...november])).answer).toMatchObject({ rows: before['rows'] });
});

test('webhooks show says what handling an item has cost', async () => {
  const machine = await newSpendingMachine();
  const store = await openLocalStore(path.join(machine.dataDir, 'store'));
  const webhooks = openWebhooks(store);
  const { id } = await webhooks.receive({
    agent: 'main',
    source: 'github',
    contentType: 'application/json',
    headers: {},
    body: Buffer.from('{}'),
    delivery: 'd1',
  });
  await webhooks.acknowledge([id]);
  const item = {
    id,
    source: 'github',
    receivedAt: '2026-11-10T10:00:00.000Z',
    bytes: 2,
    file: `/x/github_${id}.json`,
  };
  const content = composeMessage({
    batch: 'b',
    items: [item],
    sees: { directory: '/x', writable: true },
    inlineBytes: 0,
  });
  const asked = {
    type: 'message',
    id: '0',
    timestamp: '2026-11-10T10:00:00Z',
    message: { role: 'user', content },
  };
  await openSessions(store).append('main', 'hook', 0, Buffer.from(`${JSON.stringify(asked)}\n`), {
    complete: false,
    about: {},
  });
  await store.close();
  await machine.spend('main', 'hook', [{ at: '2026-11-10T10:01:00Z', tokens: 1234, cost: 0.25 }]);
  const { stdout } = await machine.nexus(['webhooks', 'show', id]);
  expect(stdout).toMatch(/\nsession +main\/hook\ntokens +1,234 in 1 call\ncost +\$0\.2500\n/);
  expect((await machine.json(['webhooks', 'show', id])).answer).toMatchObject({
    item: { id, handling: { sessions: ['main/hook'], sums: { cost: 0.25 } } },
  });
});

describe('a budget', () => {
  test('that uploads cross is told once at each step, by two replicas and over restarts', async () => {
    const [machine, receiver] = await Promise.all([newSpendingMachine(), startReceiver()]);
    await machine.configure({
      budgets: [{ agent: 'main', per: 'month', dollars: 10 }],
      alerts: { channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
    });
    const told = () =>
      receiver.received
        .map(({ body }) => /"subject":"([^"]*)"/.exec(body)?.[1]?.split('/').at(-1))
        // Depends on the day of the month.
        .filter((step) => step !== 'pace');
    const expected: string[] = [];
    for (const [cost, step] of [
      [4, undefined],
      [2, '50'],
      [1, undefined],
      [1, '80'],
      [9, '100'],
    ] as const) {
      if (step !== undefined) expected.push(step);
      await machine.spend('main', `s${cost}${step}`, [{ cost }]);
      const replicas = [1, 2].map(() => machine.start(['serve', '--port', '0']));
      await Promise.all(replicas.map((replica) => replica.shows(/Listening/)));
      await expect.poll(told, { timeout: 15_000 }).toEqual(expected);
      // Looks too, and ends when it has.
      await machine.nexus(['status', '--alert']);
      for (const replica of replicas) replica.kill('SIGTERM');
      await Promise.all(replicas.map(({ ended }) => ended));
      expect(told()).toEqual(expected);
    }
    const { answer } = await machine.json(['alerts', 'list']);
    const alerts = Array.isArray(answer['alerts']) ? answer['alerts'] : [];
    expect(alerts.map((alert) => /\/(\w+)$/.exec(String(Object(alert).subject))?.[1])).toEqual(
      expect.arrayContaining(['50', '80', '100']),
    );
  }, 90_000);

  test('is told by a status with --alert where there is no endpoint', async () => {
    const [machine, receiver] = await Promise.all([newSpendingMachine(), startReceiver()]);
    await machine.configure({
      budgets: [{ per: 'day', tokens: 100 }],
      alerts: { channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
    });
    await machine.spend('main', 'a', [{ tokens: 150, cost: 0, model: 'known' }]);
    await machine.nexus(['status']);
    expect(receiver.received).toEqual([]);
    const { stderr } = await machine.nexus(['status', '--alert', '--log-format', 'json']);
    const entries = stderr.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as unknown]));
    expect(entries).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        message: expect.stringContaining('all of it is spent'),
        subject: expect.stringMatching(/^budget\/.*\/100$/),
        event: 'warning',
      }),
    );
    await machine.nexus(['status', '--alert']);
    const notices = receiver.received.map(({ body }): unknown => JSON.parse(body));
    expect(notices.filter((one) => String(Object(one).subject).startsWith('budget/'))).toMatchObject([
      {
        event: 'warning',
        host: 'box',
        title: expect.stringMatching(
          /^all spending, 100 tokens a day: all of it is spent in .*, 150 tokens of 100 tokens\.$/,
        ),
        next: expect.stringContaining('nexus usage top'),
      },
    ]);
  });

  test('of which a channel was not told is a problem of that channel', async () => {
    const [machine, receiver] = await Promise.all([newSpendingMachine(), startReceiver()]);
    await machine.configure({
      budgets: [{ per: 'day', tokens: 100 }],
      alerts: { channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
    });
    receiver.answer(404);
    await machine.spend('main', 'a', [{ tokens: 150, cost: 0, model: 'known' }]);
    await machine.nexus(['status', '--alert']);
    const { problems } = (await machine.json(['status'])).answer;
    expect(problems).toContainEqual({
      problem: expect.stringMatching(/ did not go out by webhook json, the oldest from .*404/),
      next: expect.stringContaining('nexus alerts test'),
    });
  });
});

describe('the table', () => {
  const sums = (cost: number | null, total: number) => ({
    calls: 12_345,
    input: total,
    output: 0,
    cacheRead: 0,
    cacheWrite: 0,
    total,
    cost,
    costRecorded: cost ?? 0,
    costEstimated: 0,
    costCoverage: { recorded: 12_345, estimated: 0, unpriced: 0 },
  });
  const rows = [
    { day: '2026-11-10', ...sums(1, 1_000_000) },
    { day: '2026-11-11', ...sums(2, 2_000_000) },
  ];
  const at = (width: number | undefined) =>
    usageLines(['day'], rows, sums(3, 3_000_000), width).map(({ text }) => text);

  test('fits a terminal of any width, and cuts neither a date nor a cost', () => {
    for (let width = 28; width <= 140; width++) {
      const lines = at(width);
      expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(width);
      for (const row of [1, 2]) expect(lines[row]).toMatch(/^2026-11-1\d .*\$[12]\.00/);
    }
  });

  test('leaves out the cache first, then writes short numbers, then shows tokens and cost alone', () => {
    expect(at(100)[0]).toContain('CACHE READ');
    expect(at(75)[0]).toMatch(/CALLS +INPUT +OUTPUT +TOKENS +COST$/);
    expect(at(75)[1]).toContain('1,000,000');
    expect(at(50)[1]).toContain('1.0M');
    expect(at(35)[0]).toBe('DAY         TOKENS   COST');
  });

  test('draws bars in what is left, as long as the cost is great', () => {
    const [, one = '', two = '', total = ''] = at(120);
    const bar = (line: string) => line.split('█').length - 1;
    expect(bar(two)).toBeGreaterThan(10);
    expect(bar(one)).toBe(Math.floor(bar(two) / 2));
    expect(bar(total)).toBe(0);
    expect(at(undefined).join('')).not.toContain('█');
  });
});

test('README answers three questions by one command each, and each works', async () => {
  const readme = await readFile(path.join(import.meta.dirname, '..', '..', 'README.md'), 'utf8');
  const [, block = ''] = /## What it cost\n[^]*?```sh\n([^]*?)```/.exec(readme) ?? [];
  const commands = block.split('\n').flatMap((line) => /^nexus (.*?) +#/.exec(line)?.[1] ?? []);
  expect(commands).toHaveLength(3);
  const machine = await filled();
  for (const command of commands) expect((await machine.nexus(command.split(' '))).status).toBe(0);
});
