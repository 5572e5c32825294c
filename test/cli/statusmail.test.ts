import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type Batch, type BatchChange, openDeliveries } from '../../src/jobs/deliveries.ts';
import { afterSending, beforeSending, givenUp } from '../../src/jobs/telling.ts';
import type { Outcome } from '../../src/openclaw/outcome.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

function ledgerOf(machine: OpenClawMachine): string {
  return path.join(machine.dataDir, 'host', 'deliveries.sqlite');
}

/** As if pulls had delivered one item each, and telling of it had come to this. */
function told(machine: OpenClawMachine, ...ends: ((batch: Batch) => BatchChange[])[]): void {
  const deliveries = openDeliveries(ledgerOf(machine));
  ends.forEach((end, index) => {
    const id = `main.0mq5x1k2a000${index}f3k9q2zd`;
    const item = { id, source: 'a', receivedAt: new Date().toISOString(), inbox: '/i', temp: id, name: id };
    deliveries.begin('main', [item]);
    deliveries.deliver('main', [id], Date.now() + index);
    deliveries.closeBatch('main', 'untold');
    const batch = deliveries.batches(['untold'], 'main').at(-1);
    if (batch === undefined) throw new Error('There is no batch.');
    for (const change of end(batch)) deliveries.updateBatch(batch.id, change);
  });
  deliveries.close();
}

/** As telling leaves a batch: while it is sent for the first time, and with how that ended. */
const sending = (batch: Batch) => [beforeSending(batch, 1, 'message', Date.now())];
const sent = (outcome: Outcome) => (batch: Batch) => [
  ...sending(batch),
  afterSending(batch, 1, outcome, Date.now()),
];
const done = sent({ state: 'done' });
const refused = sent({ state: 'failed', reason: 'The gateway answers 503.', refused: true });
const wentWrong = sent({ state: 'failed', reason: 'The run ended in an error.', refused: false });
const givenUpThen = (batch: Batch) => [
  ...wentWrong(batch),
  { attempts: 5 },
  givenUp({ ...batch, attempts: 5 }),
];

test('an agent that could not be told, or did not answer, is a problem with what to do', async () => {
  const machine = await newOpenClawMachine();
  told(machine, givenUpThen, refused);
  const { status, answer } = await machine.json(['status']);
  expect(status).toBe(3);
  expect(answer).toMatchObject({
    mail: [{ agent: 'main', pending: 0, untold: 1, admitted: 0, failed: 1 }],
    problems: [
      { problem: 'main could not be told of its webhooks: The gateway answers 503.' },
      { problem: expect.stringContaining('did not answer 1 message about its webhooks, sent 5 times') },
    ],
  });
});

test('a message that is being sent, or waits for its answer, is no problem', async () => {
  const machine = await newOpenClawMachine();
  told(machine, sending, sent({ state: 'admitted' }), () => []);
  const { status, answer } = await machine.json(['status']);
  expect(answer).toMatchObject({ mail: [{ untold: 1, admitted: 2 }], problems: [] });
  expect(status).toBe(0);
});

test('a message whose run went wrong is a problem until it is answered', async () => {
  const machine = await newOpenClawMachine();
  told(machine, wentWrong);
  expect((await machine.json(['status'])).answer['problems']).toMatchObject([
    { problem: 'main has not answered a message about its webhooks: The run ended in an error.' },
  ]);
});

test('what was given up is well again once the agent has answered a later message', async () => {
  const machine = await newOpenClawMachine();
  told(machine, givenUpThen, done);
  expect((await machine.nexus(['status'])).status).toBe(0);
});

test('a ledger of deliveries that is damaged is a problem, and left as it is', async () => {
  const machine = await newOpenClawMachine();
  await mkdir(path.dirname(ledgerOf(machine)), { recursive: true });
  await writeFile(ledgerOf(machine), 'not a database, and long enough to be none'.repeat(50), {
    mode: 0o600,
  });
  const { status, answer } = await machine.json(['status']);
  expect(status).toBe(3);
  expect(answer['problems']).toMatchObject([
    { problem: expect.stringContaining('is damaged'), next: expect.stringContaining('move it aside') },
  ]);
});

test('a key that may not see mail is a problem only where mail is pulled', async () => {
  const machine = await newOpenClawMachine();
  const server = await newOpenClawMachine();
  const key = (await server.nexus(['keys', 'add', 'k', '--scopes', 'upload'])).stdout.trim();
  const [, url = ''] = await server.start(['serve', '--port', '0']).shows(/Listening on (\S+?),/);
  const env = { NEXUS_ENDPOINT: url, NEXUS_API_KEY: key };
  expect(await machine.nexus(['status'], { env })).toMatchObject({ status: 0, stderr: '' });
  told(machine, done);
  const used = await machine.nexus(['status'], { env });
  expect(used.status).toBe(3);
  expect(used.stdout).toContain('How the mailboxes stand cannot be seen');
  expect(used.stdout).toContain('scopes pull and read');
});

/** Webhooks that came a while ago, as the store of the machine keeps them. */
async function received(machine: OpenClawMachine, hoursAgo: number, ...agents: string[]): Promise<void> {
  const then = new Date(Date.now() - hoursAgo * 3_600_000);
  const webhooks = openWebhooks(await openLocalStore(path.join(machine.dataDir, 'store')), {
    now: () => then,
  });
  for (const agent of agents)
    await webhooks.receive({ agent, source: 's', contentType: '', headers: {}, body: Buffer.from('x') });
  await webhooks.close();
}

test('mail for an agent that nobody pulls for is a problem on the machine of the store', async () => {
  const machine = await newOpenClawMachine();
  await received(machine, 2, 'mian');
  const { status, answer } = await machine.json(['status']);
  expect(status).toBe(3);
  expect(answer['problems']).toMatchObject([
    {
      problem: expect.stringMatching(/^mian: 1 webhook pending, .*no host has ever pulled it\.$/),
      next: expect.stringContaining('nexus webhooks drop --agent mian'),
    },
  ]);
});

test('mail for a host that does not pull is a problem on the machine of the store, also of an agent of this host', async () => {
  const machine = await newOpenClawMachine();
  await received(machine, 2, 'main', 'far');
  const webhooks = openWebhooks(await openLocalStore(path.join(machine.dataDir, 'store')));
  for (const agent of ['main', 'far']) await webhooks.claim(agent, 'gone');
  await webhooks.close();
  const { answer } = await machine.json(['status']);
  expect(answer['problems']).toMatchObject(
    ['far', 'main'].map((agent) => ({
      problem: expect.stringMatching(new RegExp(`^${agent}: .*the host gone does not pull it\\.$`)),
      next: expect.stringContaining(`nexus webhooks claim --agent ${agent}`),
    })),
  );
});

test('mail of this host is one problem, and what came a short while ago for others is none', async () => {
  const machine = await newOpenClawMachine();
  await received(machine, 2, 'main');
  await received(machine, 0.5, 'far');
  const { answer } = await machine.json(['status']);
  expect(answer['problems']).toMatchObject([{ next: 'Run `nexus pull-webhooks`.' }]);
});
