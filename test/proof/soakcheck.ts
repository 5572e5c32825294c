import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { openLocalStore } from '../../src/stores/local.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import type { Asking } from './asking.ts';
import type { Seen } from './soakactors.ts';
import { numberOf, webhookBody } from './soaklines.ts';
import type { World } from './world.ts';

/** What was compared. */
export interface Compared {
  webhooks: number;
  inboxFiles: number;
  transcripts: number;
  /** Of bodies and transcripts, as they were sent. */
  bytes: number;
}

/** Every webhook that was acknowledged is in the store once, as it was sent; what was pulled is in the inbox, once. */
export async function checkWebhooks(world: World, seen: Seen, compared: Compared): Promise<void> {
  const inbox = path.join(world.stateDir, 'workspace', 'inbox', 'webhooks');
  const files = new Set((await readdir(inbox)).filter((name) => name.endsWith('.json')));
  const states = new Map<string, string>();
  const numbers = new Set<number>();
  const webhooks = openWebhooks(await openLocalStore(path.join(world.dataDir, 'store')));
  try {
    for await (const { id, agent, state } of webhooks.list()) {
      if (states.has(id)) seen.wrong.push(`${id} is in the store twice, ${states.get(id)} and ${state}`);
      states.set(id, state);
      const expected = agent === 'main' || seen.taken.has(id) ? 'delivered' : 'pending';
      if (state !== expected) seen.wrong.push(`${id} is ${state} and should be ${expected}`);
    }
    for (const [id, number] of seen.accepted) {
      if (!states.has(id)) {
        seen.wrong.push(`${id}, acknowledged, is not in the store`);
        continue;
      }
      const sent = webhookBody(number);
      const { body } = await webhooks.body(id);
      if (!body.equals(sent)) seen.wrong.push(`${id} is not what was sent`);
      if (id.startsWith('main.')) await checkInboxFile(inbox, id, number, seen, files);
      compared.webhooks++;
      compared.bytes += sent.length;
    }
    // One without an answer of 202 may be there too, but none twice.
    for (const id of states.keys()) {
      if (seen.accepted.has(id)) continue;
      const number = numberOf(JSON.parse((await webhooks.body(id)).body.toString()));
      if (number === undefined) seen.wrong.push(`${id} is in the store and was not sent`);
      else numbers.add(number);
    }
    for (const number of seen.accepted.values())
      if (numbers.has(number)) seen.wrong.push(`webhook ${number} is in the store under two ids`);
  } finally {
    await webhooks.close();
  }
  compared.inboxFiles = files.size;
  const delivered = [...states.keys()].filter((id) => id.startsWith('main.')).length;
  if (files.size !== delivered)
    seen.wrong.push(`${files.size} files are in the inbox, and ${delivered} webhooks were delivered`);
}

async function checkInboxFile(
  inbox: string,
  id: string,
  number: number,
  seen: Seen,
  files: ReadonlySet<string>,
): Promise<void> {
  const name = `github_${id}.json`;
  if (!files.has(name)) {
    seen.wrong.push(`${id} is not in the inbox`);
    return;
  }
  const item: { id?: unknown; payload?: unknown } = JSON.parse(
    await readFile(path.join(inbox, name), 'utf8'),
  );
  if (item.id !== id || numberOf(item.payload) !== number) seen.wrong.push(`${name} is not what was sent`);
}

/** Every transcript is stored once, byte for byte, and nothing besides. */
export async function checkTranscripts(
  world: World,
  sessions: string,
  seen: Seen,
  compared: Compared,
): Promise<void> {
  const stored = path.join(world.dataDir, 'store', 'blobs', 'sessions', 'inbox');
  const grown = (await readdir(sessions)).filter((name) => name.endsWith('.jsonl'));
  for (const name of grown) {
    const [here, there] = await Promise.all(
      [path.join(sessions, name), path.join(stored, 'main', name)].map((file) => readIfThere(file)),
    );
    if (here === undefined || there === undefined || !here.equals(there))
      seen.wrong.push(`${name} has ${here?.length} bytes, and ${there?.length ?? 'none'} of them are stored`);
    compared.transcripts++;
    compared.bytes += here?.length ?? 0;
  }
  for (const [id, transcript] of seen.posted) {
    const there = await readIfThere(path.join(stored, 'poster', `${id}.jsonl`));
    if (there?.toString() !== transcript) seen.wrong.push(`${id}, posted, is not stored as it was sent`);
    compared.transcripts++;
    compared.bytes += transcript.length;
  }
  const all = (await readdir(path.join(stored, 'main'))).filter((name) => name.endsWith('.jsonl')).length;
  if (all !== grown.length) seen.wrong.push(`${all} transcripts are stored of ${grown.length}`);
}

async function readIfThere(file: string): Promise<Buffer | undefined> {
  return (await stat(file).catch(() => undefined)) === undefined ? undefined : await readFile(file);
}

/** The ledger of spending counts each call, once. */
export async function checkSpending(asking: Asking, seen: Seen): Promise<void> {
  const { calls, tokens } = seen.spent;
  let said = '';
  // Until the index has read what came last.
  for (let tries = 0; tries < 20; tries++) {
    const { body } = await asking.ask('GET', '/api/usage');
    said = body.toString();
    const { totals, complete }: { totals?: { calls: number; total: number }; complete?: boolean } =
      JSON.parse(said);
    if (complete === true && totals?.calls === calls && totals.total === tokens) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  seen.wrong.push(`${calls} calls used ${tokens} tokens, and /api/usage says ${said.slice(0, 300)}`);
}
