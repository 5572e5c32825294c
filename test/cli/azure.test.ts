import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ids, transcript } from '../jobs/host.ts';
import { type Azurite, connectionStringOf, freshPrefix, startAzurite } from '../stores/azurite.ts';
import { newMachine } from './nexus.ts';
import { auditsOf, newOpenClawMachine } from './openclaw.ts';

let azurite: Azurite;
beforeAll(async () => {
  azurite = await startAzurite();
}, 60_000);
afterAll(async () => {
  await azurite.stop();
});

function onAzure(prefix = freshPrefix()): { store: Record<string, string> } {
  return { store: { kind: 'azure', connectionString: azurite.connectionString, prefix } };
}

test('four commands lead from the embedded store to Azure, and nothing is shipped twice', async () => {
  const { openclaw, nexus, json, configure } = await newOpenClawMachine();
  await configure({ store: { prefix: freshPrefix() } });
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  await openclaw.write(`${ids.b}.jsonl.reset.2026-11-20T11-00-00.000Z`, transcript(ids.b, 400));
  expect((await json(['backfill'])).answer).toMatchObject({ ok: true, done: 2 });

  expect((await nexus(['config', 'set', 'store.connectionString', azurite.connectionString])).status).toBe(0);
  expect((await nexus(['config', 'set', 'store.kind', 'azure'])).status).toBe(0);
  const checked = await nexus(['store', 'check']);
  expect(checked).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^All is well with Azure storage/),
  });
  const copied = await json(['store', 'copy', '--from', 'local', '--to', 'azure']);
  expect(copied).toMatchObject({
    status: 0,
    answer: { ok: true, blobs: { found: 2, copied: 2 }, failed: [] },
  });

  const first = await json(['backfill', '--verify']);
  expect(first.answer).toMatchObject({ ok: true, done: 0, already: 2, bytes: 0, failed: [] });
  expect(auditsOf(first.answer)['main']).toMatchObject({ found: 2, verified: 2 });
  expect((await json(['backfill'])).answer).toMatchObject({ ok: true, done: 0, already: 2, bytes: 0 });
  const { sessions } = (await json(['sessions', 'list'])).answer;
  expect(sessions).toHaveLength(2);
  const read = await nexus(['sessions', 'get', `main/${ids.a}`]);
  expect(read.stdout).toBe(transcript(ids.a, 3));
  const status = await json(['status']);
  expect(status.answer['nexus']).toMatchObject({ kind: 'azure', reachable: true });
  const everything = [checked, copied, status].map(({ stdout, stderr }) => stdout + stderr).join();
  expect(everything).not.toContain('AccountKey');
});

test('a run with nothing to do but look is a dry run on Azure too', async () => {
  const { openclaw, json, configure } = await newOpenClawMachine();
  await configure(onAzure());
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  expect((await json(['backfill', '--dry-run'])).answer).toMatchObject({ ok: true, done: 1, dryRun: true });
  expect((await json(['sessions', 'list'])).answer).toMatchObject({ ok: true });
  expect((await json(['backfill'])).answer).toMatchObject({ ok: true, done: 1 });
});

test('who only looks makes nothing in the account', async () => {
  const { openclaw, json, configure } = await newOpenClawMachine();
  const prefix = freshPrefix();
  await configure(onAzure(prefix));
  await openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  expect((await json(['backfill', '--dry-run'])).answer).toMatchObject({ ok: true, done: 1 });
  expect((await json(['status'])).answer['nexus']).toMatchObject({ kind: 'azure', reachable: true });
  const nothing = await json(['store', 'copy', '--from', 'azure', '--to', 'local']);
  expect(nothing).toMatchObject({ status: 69, answer: { ok: false, error: { code: 'not_found' } } });
  const absent = await json(['store', 'copy', '--from', 'local', '--to', 'azure']);
  expect(absent).toMatchObject({ status: 69, answer: { ok: false, error: { code: 'not_found' } } });
  const account = BlobServiceClient.fromConnectionString(azurite.connectionString);
  const made: string[] = [];
  for await (const { name } of account.listContainers({ prefix })) made.push(name);
  expect(made).toEqual([]);
});

test('an account beside a connection string is refused, so that nothing goes to the other one', async () => {
  const { nexus, configure } = await newOpenClawMachine();
  const { store } = onAzure();
  await configure({ store: { ...store, account: 'another' } });
  expect(await nexus(['store', 'check'])).toMatchObject({
    status: 78,
    stderr: expect.stringMatching(/both a connectionString and an account/),
  });
});

test('what cannot be used is told with its exit status', async () => {
  const machine = await newOpenClawMachine();
  await machine.openclaw.write(`${ids.a}.jsonl`, transcript(ids.a, 3));
  const wrong = connectionStringOf(azurite.blobs, azurite.tables, Buffer.alloc(64, 7).toString('base64'));
  await machine.configure({ store: { kind: 'azure', connectionString: wrong } });
  const refused = await machine.json(['upload']);
  expect(refused).toMatchObject({ status: 77, answer: { ok: false, error: { code: 'forbidden' } } });
  expect((await machine.nexus(['store', 'check'])).status).toBe(3);
  const nobody = connectionStringOf('http://127.0.0.1:1', 'http://127.0.0.1:1');
  await machine.configure({ store: { kind: 'azure', connectionString: nobody, timeoutMs: 500 } });
  expect(await machine.json(['upload'])).toMatchObject({
    status: 69,
    answer: { error: { code: 'unavailable' } },
  });
  await machine.configure({ store: { kind: 'azure' } });
  const unset = await machine.nexus(['upload']);
  expect(unset).toMatchObject({
    status: 78,
    stderr: expect.stringMatching(/connectionString or an account/),
  });
});

test('two endpoints on one account take 200 uploads at once: one winner each, nothing lost, nothing double', async () => {
  const settings = JSON.stringify(onAzure());
  const endpoints = await Promise.all(
    [0, 1].map(async () => {
      const machine = await newMachine();
      const env = { NEXUS_CONFIG: `${machine.home}/config.json` };
      await writeFile(env.NEXUS_CONFIG, settings, { mode: 0o600 });
      const started = machine.start(['serve', '--port', '0'], { env });
      const [, url = ''] = await started.shows(/Listening on (\S+?),/);
      return url;
    }),
  );
  const post = async (endpoint: string, sessionId: string, text: string): Promise<number> => {
    const answer = await fetch(`${endpoint}/api/sessions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ agentId: 'main', sessionId, transcript: text }),
    });
    await answer.arrayBuffer();
    return answer.status;
  };
  const [one = '', other = ''] = endpoints;
  const contested = Array.from({ length: 50 }, () => randomUUID());
  const apart = Array.from({ length: 100 }, () => randomUUID());
  const [races, alone] = await Promise.all([
    Promise.all(
      contested.map((id) => Promise.all([post(one, id, `one ${id}\n`), post(other, id, `other ${id}\n`)])),
    ),
    Promise.all(apart.map((id, i) => post(i % 2 ? one : other, id, `alone ${id}\n`))),
  ]);
  expect(races.filter((race) => race.toSorted((a, b) => a - b).join() !== '200,409')).toEqual([]);
  expect(alone.filter((status) => status !== 200)).toEqual([]);

  const get = async (endpoint: string, id: string): Promise<string> =>
    await (await fetch(`${endpoint}/api/sessions/main/${id}`)).text();
  const wrong: string[] = [];
  for (const [i, id] of contested.entries())
    if ((await get(other, id)) !== `${races[i]?.[0] === 200 ? 'one' : 'other'} ${id}\n`) wrong.push(id);
  for (const [i, id] of apart.entries())
    if ((await get(i % 2 ? other : one, id)) !== `alone ${id}\n`) wrong.push(id);
  expect(wrong).toEqual([]);
  const listed = await fetch(`${one}/api/sessions?agentId=main&limit=1000`);
  expect(await listed.text()).toSatisfy((text: string) => text.split('"transcript":').length === 151);
}, 60_000);
