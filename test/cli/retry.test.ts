import { DatabaseSync } from 'node:sqlite';
import path from 'node:path';
import { rm, symlink, writeFile } from 'node:fs/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;
let link: string;

beforeEach(async () => {
  machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  link = path.join(machine.openclaw.sessions(), `${ids.b}.jsonl`);
  await symlink('/etc/hostname', link);
  await machine.configure({ setAsideAfter: 2 });
  await machine.nexus(['upload']);
  await machine.nexus(['upload']);
  // As though the first of them were days ago.
  const db = new DatabaseSync(path.join(machine.dataDir, 'host', 'ledger.sqlite'));
  db.exec('UPDATE failures SET first_at = first_at - 172800000');
  db.close();
});

describe('what is set aside', () => {
  test('fails an upload no more, which says so, and is named by status until it is retried', async () => {
    const ran = await machine.nexus(['upload']);
    expect(ran.status).toBe(0);
    expect(ran.stderr).toContain('1 item failed too often and is set aside');
    const status = await machine.nexus(['status']);
    expect(status.status).toBe(3);
    expect(status.stdout).toContain(`${link} is set aside after 2 failures: Not shipped: a symbolic link.`);

    expect((await machine.json(['retry', ids.b])).answer).toMatchObject({ ok: true, items: [link] });
    expect((await machine.json(['upload'])).answer).toMatchObject({ ok: false, failed: [{ item: link }] });
    expect((await machine.nexus(['status'])).stdout).not.toContain('is set aside');
  });

  test('is all tried again with --all', async () => {
    expect((await machine.json(['retry', '--all'])).answer).toMatchObject({ items: [link] });
    expect((await machine.json(['retry', '--all'])).answer).toMatchObject({ items: [] });
    expect((await machine.nexus(['upload'])).status).toBe(3);
  });
});

describe('what no run would try', () => {
  test('because its agent is gone is neither a problem nor retried', async () => {
    await machine.openclaw.write(`${ids.c}.jsonl`, transcript(ids.c, 2), { agent: 'other' });
    await rm(path.join(machine.openclaw.stateDir, 'agents', 'main'), { recursive: true });
    await writeFile(
      path.join(machine.openclaw.stateDir, 'openclaw.json'),
      '{"agents":{"entries":{"other":{}}}}',
    );
    expect((await machine.nexus(['upload'])).status).toBe(0);
    expect((await machine.json(['status'])).answer).toMatchObject({ problems: [] });
    expect((await machine.json(['retry', '--all'])).answer).toMatchObject({ items: [] });
  });

  test('because its store is another is neither a problem nor retried', async () => {
    await rm(link);
    await rm(path.join(machine.dataDir, 'store'), { recursive: true });
    const db = new DatabaseSync(path.join(machine.dataDir, 'host', 'ledger.sqlite'));
    const before = db.prepare('SELECT count(*) AS n FROM failures').get()?.['n'];
    db.close();
    expect(before).toBe(1);
    expect((await machine.nexus(['upload'])).status).toBe(0);
    expect((await machine.nexus(['status'])).status).toBe(0);
    expect((await machine.json(['retry', '--all'])).answer).toMatchObject({ items: [] });
  });
});

test.each([[[]], [['']], [['nothing-of-that-name']], [['x', '--all']]])(
  'retry %j is refused',
  async (names) => {
    expect((await machine.nexus(['retry', ...names])).status).toBe(64);
  },
);
