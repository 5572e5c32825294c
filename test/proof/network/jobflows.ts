import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { Store } from '../../../src/stores/store.ts';
import { openSessions } from '../../../src/sessions.ts';
import { openWebhooks } from '../../../src/webhooks.ts';
import type { Box, Doors, Job, Outcome } from './box.ts';

/** One job over what it would find on a day: what is new, what grew, what was written anew. */
export interface JobFlow {
  name: string;
  job: Job;
  prepare(box: Box, store: Store): Promise<Expected>;
}

/** How it has to be in the end. */
export interface Expected {
  /** By transcript. */
  stored: Map<string, Buffer>;
  /** By item, its payload. */
  items: Map<string, string>;
}

const ids = [
  'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa',
  'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb',
  'cccccccc-cccc-4ccc-8ccc-cccccccccccc',
] as const;
const [grown, large, anew] = ids;

export const jobFlows: readonly JobFlow[] = [
  { name: 'upload', job: 'upload', prepare: (box, store) => transcripts(box, store, 'upload') },
  { name: 'backfill', job: 'backfill', prepare: (box, store) => transcripts(box, store, 'backfill') },
  { name: 'pull-webhooks', job: 'pull-webhooks', prepare: mail },
];

/** Nothing was ever stored, and the store is not asked before the job does. */
export const firstUpload: JobFlow = {
  name: 'first upload',
  job: 'upload',
  async prepare(box) {
    const stored = new Map([
      [grown, transcript(grown, 2)],
      [large, transcript(large, 40)],
    ]);
    await box.current([grown]);
    for (const [name, bytes] of stored) await box.write(`${name}.jsonl`, bytes);
    return { stored, items: new Map() };
  },
};

/** Three runs of a history: what was shipped before, and then growth, a large one, a reset and a rewrite. */
async function transcripts(box: Box, store: Store, job: Job): Promise<Expected> {
  const first = transcript(grown, 2);
  const old = transcript(anew, 2);
  const tail = lines(3);
  const other = transcript(anew, 3);
  const whole = transcript(large, 40);
  await box.current([grown]);
  await box.write(`${grown}.jsonl`, first);
  await box.write(`${anew}.jsonl`, old);
  await box.run('upload', direct(store));
  await box.write(`${grown}.jsonl`, Buffer.concat([first, tail]));
  await box.write(`${large}.jsonl`, whole);
  await box.write(`${anew}.jsonl.deleted.2026-11-20T11-00-00.000Z`, old);
  await box.write(`${anew}.jsonl`, other);
  // Of what was shipped, nothing is known to a host that lost its ledger: then all is settled anew.
  if (job === 'backfill') await forgetLedger(box);
  return {
    items: new Map(),
    stored: new Map([
      [grown, Buffer.concat([first, tail])],
      [large, whole],
      [anew, old],
      [`${anew}~2`, other],
    ]),
  };
}

async function mail(box: Box, store: Store): Promise<Expected> {
  const items = new Map<string, string>();
  const webhooks = openWebhooks(store);
  for (const length of [20, 60_000, 30]) {
    const payload = `{"n":1.50,"text":"${randomBytes(length).toString('hex')}"}`;
    const { id } = await webhooks.receive({
      agent: box.agent,
      source: 'github',
      contentType: 'application/json',
      headers: {},
      body: Buffer.from(payload),
    });
    items.set(id, payload);
  }
  return { stored: new Map(), items };
}

/** Past every fault. */
export function direct(store: Store): Doors {
  const keepOpen = { close: () => Promise.resolve() };
  return {
    openNexus: () => Promise.resolve({ ...openSessions(store), ...keepOpen }),
    openMailbox: () => Promise.resolve({ ...openWebhooks(store), ...keepOpen }),
  };
}

/** What is not as it was said to be, of a run that faults befell, in sentences. */
export async function untrue(box: Box, store: Store, said: Outcome, expected: Expected): Promise<string[]> {
  const wrong: string[] = [];
  if (said.bug !== undefined) wrong.push(`ended with a bug: ${said.bug}`);
  if (said.ok !== (said.status === 0)) wrong.push(`says ok ${said.ok} with status ${said.status}`);
  if (!said.ok && said.failed.length === 0) wrong.push('did not end well and names nothing that failed');
  const stored = await storedOf(store, box.agent);
  for (const [name, bytes] of stored) {
    const whole = expected.stored.get(name);
    if (whole === undefined || !whole.subarray(0, bytes.length).equals(bytes))
      wrong.push(`${name} is stored with ${bytes.length} bytes that are not its own`);
  }
  const missing = [...expected.stored].filter(([name, bytes]) => stored.get(name)?.equals(bytes) !== true);
  // Each is a place of its own, and each place that is not stored must be named.
  if (missing.length > 0 && said.ok)
    wrong.push(`says it went well without ${missing.map(([name]) => name).join()}`);
  const named = (name: string): boolean =>
    said.failed.some(({ item }) => item.includes(name.slice(0, 36)) || !item.includes('/'));
  if (said.skipped === 0)
    for (const [name] of missing)
      if (!named(name)) wrong.push(`${name} is not stored, and not named as failed`);
  const inbox = await box.inbox();
  wrong.push(...(await mailWrong(box, store, inbox, expected)));
  if (said.delivered > inbox.length)
    wrong.push(`says ${said.delivered} delivered, and ${inbox.length} are there`);
  if (said.ok && inbox.length < expected.items.size) wrong.push('says it went well and left mail');
  return wrong;
}

/** What is not as it has to be, after runs without a fault. */
export async function unfinished(box: Box, store: Store, expected: Expected): Promise<string[]> {
  const wrong: string[] = [];
  const stored = await storedOf(store, box.agent);
  for (const [name, bytes] of expected.stored)
    if (stored.get(name)?.equals(bytes) !== true) wrong.push(`${name} is not stored as it is here`);
  for (const name of stored.keys()) if (!expected.stored.has(name)) wrong.push(`${name} is stored beside it`);
  const inbox = await box.inbox();
  wrong.push(...(await mailWrong(box, store, inbox, expected)));
  if (inbox.length !== expected.items.size)
    wrong.push(`${inbox.length} of ${expected.items.size} were delivered`);
  for await (const { id, state } of openWebhooks(store).list({ agent: box.agent }))
    if (state !== 'delivered') wrong.push(`${id} is ${state} after all`);
  return wrong;
}

async function mailWrong(
  box: Box,
  store: Store,
  inbox: readonly string[],
  { items }: Expected,
): Promise<string[]> {
  const wrong: string[] = [];
  if (new Set(inbox).size !== inbox.length) wrong.push(`something came twice: ${inbox.join()}`);
  const pending = new Set<string>();
  for await (const { id } of openWebhooks(store).list({ agent: box.agent, state: 'pending' }))
    pending.add(id);
  for (const id of items.keys())
    if (!inbox.includes(id) && !pending.has(id)) wrong.push(`${id} is neither pending nor delivered`);
  for (const id of inbox) {
    const text = await box.file(id).catch(() => undefined);
    if (text !== undefined && !text.endsWith(`"payload": ${items.get(id) ?? ''}\n}\n`))
      wrong.push(`${id} is in the inbox with other content`);
  }
  return wrong;
}

async function storedOf(store: Store, agent: string): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  const below = `sessions/inbox/${agent}/`;
  for await (const { name } of store.list(below)) {
    const pieces: Uint8Array[] = [];
    for await (const piece of store.open(name)) pieces.push(piece);
    if (pieces.length > 0) found.set(name.slice(below.length, -'.jsonl'.length), Buffer.concat(pieces));
  }
  return found;
}

async function forgetLedger({ world }: Box): Promise<void> {
  await rm(`${world.dataDir}/host`, { recursive: true });
}

function transcript(id: string, count: number): Buffer {
  const header = {
    type: 'session',
    version: 3,
    id,
    timestamp: new Date().toISOString(),
    made: Math.random(),
  };
  return Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), lines(count)]);
}

function lines(count: number): Buffer {
  const line = (): string =>
    JSON.stringify({
      type: 'message',
      id: randomBytes(4).toString('hex'),
      timestamp: new Date().toISOString(),
      message: { role: 'user', content: randomBytes(600).toString('base64') },
    });
  return Buffer.from(Array.from({ length: count }, () => `${line()}\n`).join(''));
}
