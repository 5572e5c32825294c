import { closeSync, openSync, writeSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { type Receiver, startReceiver } from '../receiver.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;
let receiver: Receiver;

/** Runs at an endpoint that is not there. */
const down = { env: { NEXUS_ENDPOINT: 'http://127.0.0.1:9' } };

beforeEach(async () => {
  [machine, receiver] = await Promise.all([newOpenClawMachine(), startReceiver()]);
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await machine.configure({
    retry: { tries: 1, baseMs: 1, maxMs: 1 },
    alerts: { afterFailures: 1, channels: [{ kind: 'webhook', url: `${receiver.url}/hook` }] },
  });
  await machine.nexus(['backfill']);
});

const host = (...names: string[]) => path.join(machine.dataDir, 'host', ...names);
const events = () =>
  receiver.received.map(({ body }) => {
    const { event, subject }: Record<string, unknown> = Object(JSON.parse(body));
    return `${String(event)} ${String(subject)}`;
  });

/** Overwrites where a table's rows begin, as a disk that goes bad does: the file can be opened all the same. */
function damage(file: string, table: string): void {
  const db = new DatabaseSync(file);
  db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  const root = Number(
    db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = ?').get(table)?.['rootpage'],
  );
  const size = Number(db.prepare('PRAGMA page_size').get()?.['page_size']);
  db.close();
  const descriptor = openSync(file, 'r+');
  writeSync(descriptor, Buffer.alloc(size, 0xab), 0, size, (root - 1) * size);
  closeSync(descriptor);
}

const aside = async (...names: string[]) =>
  (await readdir(host(...names))).filter((name) => /\.unreadable-\d+$/.test(name));

test.each(['runs', 'shipped', 'failures'])(
  'a ledger whose %s are damaged is put aside by the next run, which does its work and counts its failures',
  async (table) => {
    damage(host('ledger.sqlite'), table);
    const ran = await machine.nexus(['upload']);
    expect(ran.status).toBe(0);
    expect(ran.stderr).toContain('The ledger could not be read');
    expect(await aside()).toHaveLength(1);
    const failed = await machine.nexus(['upload'], down);
    expect(failed.status).toBe(69);
    expect(failed.stderr).not.toContain('ledger');
    expect(events()).toEqual(['failed job/upload']);
    expect((await machine.nexus(['upload'])).status).toBe(0);
    expect((await machine.nexus(['status'])).status).toBe(0);
  },
);

test('status goes on without a ledger that is damaged, and names it', async () => {
  damage(host('ledger.sqlite'), 'runs');
  const ran = await machine.nexus(['status']);
  expect(ran.status).toBe(3);
  expect(ran.stdout).toMatch(/not well: .*The ledger could not be read/);
  expect(ran.stdout).toContain('host      box');
  expect(await aside()).toHaveLength(1);
});

test('alerts that are damaged are put aside, and what fails is told', async () => {
  await machine.nexus(['upload'], down);
  damage(host('alerts', 'store.sqlite'), 'rows');
  const looked = await machine.nexus(['status']);
  expect(looked.status).toBe(3);
  expect(looked.stdout).toContain('Who was alerted cannot be seen');
  expect((await machine.nexus(['alerts', 'list'])).status).toBe(69);
  expect(await aside()).toEqual([]);

  const ran = await machine.nexus(['upload'], down);
  expect(ran.stderr).toContain('The alerts of this host could not be read');
  expect(await aside()).toHaveLength(1);
  expect(events()).toEqual(['failed job/upload', 'failed job/upload']);
  expect((await machine.nexus(['upload'])).status).toBe(0);
  expect(events().at(-1)).toBe('recovered job/upload');
  expect((await machine.nexus(['status'])).status).toBe(0);
});

test('status --alert begins damaged alerts anew', async () => {
  await machine.nexus(['upload'], down);
  damage(host('alerts', 'store.sqlite'), 'rows');
  await machine.nexus(['status', '--alert']);
  expect(await aside()).toHaveLength(1);
  expect((await machine.nexus(['alerts', 'list'])).status).toBe(0);
});
