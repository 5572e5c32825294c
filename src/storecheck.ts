import { randomUUID } from 'node:crypto';
import { describe, failedWith, NexusError } from './errors.ts';
import { containers, tables } from './storecontents.ts';
import { type Store, rowOf } from './stores/store.ts';

/** One thing that was tried in one container or table. */
export interface Step {
  place: string;
  step: string;
  ok: boolean;
  /** What went wrong. */
  error?: string;
  /** The permission that Azure did not grant. */
  missing?: string;
}

const racers = 8;
const agent = 'nexus-check';

const needs: Record<string, { blobs: string; rows: string }> = {
  write: {
    blobs: 'create, add and write blobs, and make containers (sp=acw, srt=co)',
    rows: 'add entities and make tables (sp=ac, srt=co)',
  },
  race: { blobs: 'create, add and write blobs (sp=acw)', rows: 'add entities (sp=a)' },
  replace: { blobs: 'write blobs (sp=w)', rows: 'add and update entities (sp=au)' },
  read: { blobs: 'read blobs (sp=r)', rows: 'read entities (sp=r)' },
  list: { blobs: 'list blobs (sp=l, srt=c)', rows: 'read entities (sp=r)' },
  remove: { blobs: 'delete blobs (sp=d)', rows: 'delete entities (sp=d)' },
};

/**
 * Tries in every container and table what Nexus does there, with probes of a random name that are removed again.
 * Never throws for what does not work: that is what it answers.
 */
export async function checkStore(store: Store): Promise<Step[]> {
  const id = await attempt('store', 'id', () => store.id());
  const places = [
    ...Object.entries(containers).map(([container, how]) => checkContainer(store, container, how)),
    ...tables.map((table) => checkTable(store, table)),
  ];
  return [id, ...(await Promise.all(places)).flat()];
}

async function checkContainer(store: Store, container: string, how: 'append' | 'create'): Promise<Step[]> {
  const place = `container ${container}`;
  const probe = randomUUID();
  const directory = how === 'append' ? `${container}/inbox/${agent}/` : `${container}/${agent}/`;
  const [name, other] = [`${directory}${probe}.jsonl`, `${directory}${probe}-race.jsonl`];
  const body = (text: string): Uint8Array => Buffer.from(text);
  const make = (to: string, text: string): Promise<unknown> =>
    how === 'append' ? store.append(to, 0, body(text)) : store.create(to, body(text));
  const wrote = await attempt(place, 'write', async () => {
    await make(name, 'probe');
    if (how === 'append') await store.append(name, 5, body(' again'));
  });
  const steps = [
    wrote,
    await attempt(place, 'race', () => race((n) => make(other, `racer ${n}`))),
    await attempt(place, 'read', async () => {
      if (!wrote.ok) return await store.stat(name);
      const pieces: Uint8Array[] = [];
      for await (const piece of store.open(name)) pieces.push(piece);
      return expect(Buffer.concat(pieces).toString() === (how === 'append' ? 'probe again' : 'probe'));
    }),
    await attempt(place, 'list', async () => {
      const found = new Set<string>();
      for await (const blob of store.list(`${directory}${probe}`)) found.add(blob.name);
      expect(found.has(name) === wrote.ok);
    }),
    await attempt(place, 'remove', async () => {
      await store.remove(name);
      await store.remove(other);
      expect((await store.stat(name)) === undefined);
    }),
  ];
  return steps.map((step) => withPermission(step, 'blobs'));
}

async function checkTable(store: Store, table: string): Promise<Step[]> {
  const place = `table ${table}`;
  const [id, other] = [randomUUID(), randomUUID()];
  const row = (id: string, n: number) => ({ partition: agent, id, n });
  const wrote = await attempt(place, 'write', () => store.insert(table, row(id, 1)));
  const raced = await attempt(place, 'race', () => race((n) => store.insert(table, row(other, n))));
  const replaced = await attempt(place, 'replace', () => store.put(table, row(id, 2)));
  const there = replaced.ok ? 2 : wrote.ok ? 1 : undefined;
  const steps = [
    wrote,
    raced,
    replaced,
    await attempt(place, 'read', async () => expect((await rowOf(store, table, agent, id))?.['n'] === there)),
    await attempt(place, 'list', async () => {
      const found = new Set<string>();
      for await (const one of store.rows(table, agent)) found.add(one.id);
      expect(found.has(id) === (there !== undefined));
    }),
    await attempt(place, 'remove', async () => {
      await store.removeRows(table, agent, [id]);
      await store.removeRows(table, agent, [other]);
      expect((await rowOf(store, table, agent, id)) === undefined);
    }),
  ];
  return steps.map((step) => withPermission(step, 'rows'));
}

/** Of many who make the same thing at once exactly one may be told that it did. */
async function race(make: (n: number) => Promise<unknown>): Promise<void> {
  const results = await Promise.allSettled(Array.from({ length: racers }, async (_, n) => await make(n)));
  for (const result of results)
    if (result.status === 'rejected' && !failedWith(result.reason, 'conflict')) throw result.reason;
  expect(results.filter(({ status }) => status === 'fulfilled').length === 1);
}

function expect(holds: boolean): void {
  if (!holds)
    throw new NexusError('corrupt', 'The store does not keep its promise here.', {
      hint: 'What holds the data is not used by nexus as it was made: report it.',
    });
}

async function attempt(
  place: string,
  step: string,
  work: () => Promise<unknown>,
): Promise<Step & { code?: string }> {
  try {
    await work();
    return { place, step, ok: true };
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    return { place, step, ok: false, error: describe(error), code: error.code };
  }
}

function withPermission({ code, ...step }: Step & { code?: string }, kind: 'blobs' | 'rows'): Step {
  const missing = needs[step.step]?.[kind];
  return code === 'forbidden' && missing !== undefined ? { ...step, missing } : step;
}
