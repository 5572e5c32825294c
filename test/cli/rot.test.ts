import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { newOpenClawMachine, type OpenClawMachine } from './openclaw.ts';

let machine: OpenClawMachine;

beforeEach(async () => {
  machine = await newOpenClawMachine();
  for (const id of [ids.a, ids.b]) await machine.openclaw.write(`${id}.jsonl`, transcript(id, 2));
  await machine.configure({ afterUpload: 'keep', retry: { tries: 1, baseMs: 1, maxMs: 1 } });
  const { status, stderr } = await machine.nexus(['backfill']);
  if (status !== 0) throw new Error(stderr);
});

const stored = (id: string) =>
  path.join(machine.dataDir, 'store', 'blobs', 'sessions', 'inbox', 'main', `${id}.jsonl`);

async function rotBytes(id: string): Promise<void> {
  const bytes = await readFile(stored(id));
  bytes[20] = (bytes[20] ?? 0) ^ 1;
  await writeFile(stored(id), bytes);
}

function rotCard(id: string): void {
  const db = new DatabaseSync(path.join(machine.dataDir, 'store', 'store.sqlite'));
  db.prepare("UPDATE rows SET json = replace(json, 'box', 'bax') WHERE tbl = 'Sessions' AND id = ?").run(id);
  db.close();
}

async function serving(): Promise<string> {
  const started = machine.start(['serve', '--port', '0']);
  return (await started.shows(/Listening on (http:\S+),/))[1] ?? '';
}

describe.each(['here', 'at an endpoint'])('what rotted %s', (where) => {
  const env = async (): Promise<{ env: Record<string, string> }> => ({
    env: where === 'here' ? {} : { NEXUS_ENDPOINT: await serving() },
  });

  test('is named by backfill --verify, also where the host has it no more', async () => {
    await rotBytes(ids.a);
    await rm(path.join(machine.openclaw.sessions(), `${ids.a}.jsonl`));
    const ran = await machine.json(['backfill', '--verify'], await env());
    expect(ran.status).toBe(3);
    expect(JSON.stringify(ran.answer['failed'])).toContain(ids.a);
    expect(JSON.stringify(ran.answer['failed'])).not.toContain(ids.b);
  });

  test('of the cards is named by a listing of the others', async () => {
    rotCard(ids.a);
    const ran = await machine.json(['sessions', 'list'], await env());
    expect(ran).toMatchObject({
      status: 3,
      answer: {
        ok: false,
        sessions: [{ transcript: ids.b }],
        damaged: [{ item: `main/${ids.a}`, reason: expect.stringContaining('not what was stored') }],
      },
    });
  });
});

test('a transcript that rotted is answered with 500, and the log names it', async () => {
  await rotBytes(ids.a);
  const url = await serving();
  const answer = await fetch(`${url}/api/sessions/main/${ids.a}`);
  expect(answer.status).toBe(500);
  expect(answer.headers.get('nexus-error')).toBe('corrupt');
  expect((await fetch(`${url}/api/sessions/main/${ids.b}`)).status).toBe(200);
});

test('a card that rotted is told anew with the next bytes', async () => {
  rotCard(ids.a);
  await machine.openclaw.append(`${ids.a}.jsonl`, `${JSON.stringify({ type: 'message', id: 'more' })}\n`, {
    ageMs: 3_600_000,
  });
  expect((await machine.nexus(['upload'])).status).toBe(0);
  expect((await machine.nexus(['sessions', 'list'])).status).toBe(0);
});
