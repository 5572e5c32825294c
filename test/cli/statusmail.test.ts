import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type BatchChange, openDeliveries } from '../../src/jobs/deliveries.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

function ledgerOf(machine: OpenClawMachine): string {
  return path.join(machine.dataDir, 'host', 'deliveries.sqlite');
}

/** As if pulls had delivered one item each, and telling of it had come to this. */
function told(machine: OpenClawMachine, ...ends: BatchChange[]): void {
  const deliveries = openDeliveries(ledgerOf(machine));
  ends.forEach((end, index) => {
    const id = `main.0mq5x1k2a000${index}f3k9q2zd`;
    const item = { id, source: 'a', receivedAt: new Date().toISOString(), inbox: '/i', temp: id, name: id };
    deliveries.begin('main', [item]);
    deliveries.deliver('main', [id], Date.now() + index);
    deliveries.closeBatch('main', 'untold');
    const batch = deliveries.batches(['untold'], 'main').at(-1);
    deliveries.updateBatch(batch?.id ?? '', end);
  });
  deliveries.close();
}

test('an agent that could not be told, or did not answer, is a problem with what to do', async () => {
  const machine = await newOpenClawMachine();
  told(
    machine,
    { state: 'failed', attempts: 5, lastError: 'The agent was told 5 times' },
    { attempts: 2, lastError: 'The gateway answers 503.' },
  );
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

test('what was given up is well again once the agent has answered a later message', async () => {
  const machine = await newOpenClawMachine();
  told(machine, { state: 'failed', attempts: 5 }, { state: 'done', attempts: 1 });
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
  told(machine, { state: 'done' });
  const used = await machine.nexus(['status'], { env });
  expect(used.status).toBe(3);
  expect(used.stdout).toContain('How the mailboxes stand cannot be seen');
  expect(used.stdout).toContain('scopes pull and read');
});
