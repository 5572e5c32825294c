import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { startReceiver } from '../receiver.ts';
import { newOpenClawMachine } from './openclaw.ts';

test('what could not be latched is told again when it fails in another way, and once more when it works again', async () => {
  const [machine, receiver] = await Promise.all([newOpenClawMachine(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await machine.configure({
    retry: { tries: 1, baseMs: 1, maxMs: 1 },
    alerts: { afterFailures: 9, channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
  });
  const notices = () =>
    receiver.received.map(({ body }) => {
      const { event, subject }: Record<string, unknown> = Object(JSON.parse(body));
      return `${String(event)} ${String(subject)}`;
    });
  const inTheWay = path.join(machine.dataDir, 'host', 'alerts');
  await mkdir(path.dirname(inTheWay), { recursive: true, mode: 0o700 });
  await writeFile(inTheWay, 'in the way');
  const unit = 'nexus-upload.service';
  const fails = (start: string, status: string) =>
    machine.nexus(['alerts', 'unit-failed', unit], {
      env: {
        MONITOR_UNIT: unit,
        MONITOR_SERVICE_RESULT: 'exit-code',
        MONITOR_EXIT_CODE: 'exited',
        MONITOR_EXIT_STATUS: status,
        MONITOR_INVOCATION_ID: start.repeat(32),
      },
    });
  for (const start of ['1', '2']) await fails(start, '69');
  expect(notices()).toHaveLength(1);
  await fails('3', '77');
  expect(notices()).toHaveLength(2);

  await rm(inTheWay);
  await machine.nexus(['status', '--alert']);
  expect(notices()).toHaveLength(2);
  await machine.nexus(['upload']);
  for (let n = 0; n < 2; n++) await machine.nexus(['status', '--alert']);
  expect(notices().slice(2)).toEqual(['recovered job/upload']);
});
