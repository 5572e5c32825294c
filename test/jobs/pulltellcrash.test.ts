import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readDelivered } from '../../src/jobs/delivered.ts';
import {
  connect,
  type Fault,
  faults,
  finished,
  full,
  type Gateway,
  isRepeat,
  makeGateway,
  makeTeller,
  noWord,
  nth,
  nthOf,
  type Teller,
  type Turn,
  wentWrong,
  withCommandLine,
} from './pulltellhost.ts';

const mostAttempts = 5;

/** One batch that was told and had no answer, and is due again; one that was refused; and one that has just come. */
async function prepare(hooks: Gateway): Promise<{ teller: Teller; ids: string[] }> {
  const teller = await makeTeller('hooks');
  await connect(hooks, teller);
  hooks.answer = noWord;
  const ids = [await teller.host.receive({ source: 'asked' })];
  await teller.pull();
  teller.later(14);
  hooks.answer = full;
  ids.push(await teller.host.receive({ source: 'refused' }));
  await teller.pull();
  teller.later(2);
  hooks.answer = finished;
  ids.push(await teller.host.receive({ source: 'fresh' }), await teller.host.receive({ source: 'fresh' }));
  return { teller, ids };
}

/** Runs until nothing is to be told, as time goes by. */
async function settle(teller: Teller, where: string): Promise<void> {
  for (const minutes of [1, 15, 15, 30, 60, 120, 120]) {
    teller.later(minutes);
    const report = await teller.pull();
    expect(report, where).toMatchObject({ delivered: 0 });
    if (teller.batches('open', 'untold', 'admitted').length === 0) return;
  }
}

/** Each item is in the inbox once and in one batch, and the agent got each batch, more than once only as it may be. */
async function expectTold({ host, batches }: Teller, turns: Turn[], ids: string[], where: string) {
  expect(await host.files(), where).toHaveLength(ids.length);
  expect(await host.pending(), where).toEqual([]);
  const deliveries = host.deliveries();
  const every = batches('open', 'untold', 'admitted', 'done', 'failed', 'none');
  const items = new Map(every.map(({ id }) => [id, deliveries.itemsOf(id).map((item) => item.id)]));
  deliveries.close();
  expect([...items.values()].flat().sort(), where).toEqual(ids.toSorted());
  expect(new Set(turns.map(({ batch }) => batch)), where).toEqual(new Set(items.keys()));
  for (const { id, attempts } of every) {
    const [first, ...more] = turns.filter(({ batch }) => batch === id);
    for (const item of items.get(id) ?? []) expect(first?.message, where).toContain(item);
    for (const turn of more) expect(turn.message, where).toSatisfy(isRepeat);
    expect(more.length + 1, where).toBeLessThanOrEqual(mostAttempts);
    expect(attempts, where).toBeLessThanOrEqual(mostAttempts);
  }
}

/** What telling of one batch does, in no order. */
const steps: [name: string, at: number][] = [
  ['closeBatch', 1],
  ['batches', 1],
  ['messageOf', 1],
  ['itemsOf', 1],
  ['read', 1],
  ['updateBatch', 1],
  ['hook', 1],
  ['updateBatch', 2],
];

describe.each([
  ['a process that dies', true],
  ['an answer that is lost', false],
])('%s', (_, dead) => {
  test.each<Fault>(['before', 'after'])(
    '%s any call to the ledger, the files or the hooks: the agent is told of every batch, again only as a repeat',
    async (fault) => {
      const hooks = await makeGateway();
      for (let at = 1, counted = Number.POSITIVE_INFINITY; at <= counted; at++) {
        const { teller, ids } = await prepare(hooks);
        const faulty = faults(nth(at), fault, dead);
        hooks.faulty = faulty;
        await teller.pull(faulty);
        hooks.faulty = undefined;
        if (at > 0 && faulty.failed() === undefined) counted = at;
        const where = `${fault} call ${at}, ${faulty.failed()}`;
        await settle(teller, where);
        expect(teller.batches('done'), where).toHaveLength(3);
        await expectTold(teller, hooks.turns, ids, where);
        await teller.host.remove();
      }
    },
    60_000,
  );

  test.each<Fault>(['before', 'after'])(
    '%s any call to the ledger or to `openclaw agent`: the agent is told, again only as a repeat',
    async (fault) => {
      // The first is a fault of the command line itself.
      for (let at = 0, counted = Number.POSITIVE_INFINITY; at <= counted; at++) {
        const { teller, command } = await withCommandLine();
        const ids = [await teller.host.receive(), await teller.host.receive()];
        if (at === 0) await command.failOnce(fault);
        const faulty = faults(nth(at), fault, dead, () => at === 0 && command.wasCalled());
        await teller.pull(faulty);
        if (at > 0 && faulty.failed() === undefined) counted = at;
        const where = `${fault} call ${at}, ${faulty.failed()}`;
        await settle(teller, where);
        expect(teller.batches('done'), where).toHaveLength(1);
        await expectTold(teller, await command.turns(), ids, where);
        await teller.host.remove();
      }
    },
    60_000,
  );
});

test.each<Fault>(['before', 'after'])(
  'a process that dies %s any call: what the agent has answered in a transcript is not told again',
  async (fault) => {
    const hooks = await makeGateway();
    for (let at = 1, counted = Number.POSITIVE_INFINITY; at <= counted; at++) {
      const { teller, ids } = await prepare(hooks);
      hooks.sessions = path.join(teller.host.root, 'openclaw', 'agents', 'main', 'sessions');
      hooks.answer = noWord;
      const faulty = faults(nth(at), fault, true);
      hooks.faulty = faulty;
      await teller.pull(faulty);
      hooks.faulty = undefined;
      if (at > 0 && faulty.failed() === undefined) counted = at;
      const where = `${fault} call ${at}, ${faulty.failed()}`;
      await settle(teller, where);
      expect(teller.batches('done'), where).toHaveLength(3);
      await expectTold(teller, hooks.turns, ids, where);
      // The first of the one that had no answer, and one of each that has.
      expect(hooks.turns, where).toHaveLength(4);
      await teller.host.remove();
    }
  },
  60_000,
);

test.each<[Fault, name: string, at: number]>(
  (['before', 'after'] as const).flatMap((fault) =>
    steps.map(([name, at]): [Fault, string, number] => [fault, name, at]),
  ),
)(
  'a process that dies every time %s %s (%i) of an agent that never answers: it is told five times at most, and then it has failed',
  async (fault, name, at) => {
    const hooks = await makeGateway();
    const teller = await makeTeller('hooks');
    await connect(hooks, teller);
    hooks.answer = wentWrong;
    await teller.host.receive();
    let failures = 0;
    for (let run = 0; run < 8; run++) {
      const faulty = faults(nthOf(name, at), fault, true);
      hooks.faulty = faulty;
      await teller.pull(faulty);
      if (faulty.failed() !== undefined) failures++;
      // While the gateway remembers the key, when it has just forgotten it, and then whenever a repeat is due.
      teller.later([1, 5][run] ?? 121);
    }
    expect(failures).toBeGreaterThan(0);
    hooks.faulty = undefined;
    while (teller.batches('failed').length === 0) {
      await teller.pull();
      teller.later(121);
    }
    expect(teller.batches('failed')).toMatchObject([{ attempts: mostAttempts }]);
    // Where it is noted that it is sent and it never is, each counts as an attempt: it may have been sent.
    const neverSent = ['after updateBatch 1', 'before hook 1'].includes(`${fault} ${name} ${at}`);
    expect(hooks.turns.length === 0).toBe(neverSent);
    expect(hooks.turns.length).toBeLessThanOrEqual(mostAttempts);
    for (const turn of hooks.turns.slice(1)) expect(turn.message).toSatisfy(isRepeat);
    await teller.host.remove();
  },
);

test.runIf(process.platform === 'linux')(
  'a file that a bad disk does not give is named in the message as one that is gone',
  async () => {
    const hooks = await makeGateway();
    const teller = await makeTeller('hooks');
    await connect(hooks, teller);
    const id = await teller.host.receive();
    // A regular file that opens and cannot be read.
    const file = '/proc/self/mem';
    const report = await teller.pull({
      ...faults(nth(0), 'before', false),
      ledger: (deliveries) => ({
        ...deliveries,
        itemsOf: (batch) => deliveries.itemsOf(batch).map((item) => ({ ...item, file })),
      }),
    });
    expect(report).toMatchObject({ ok: true, notified: { done: 1 } });
    expect(hooks.turns[0]?.message).toMatch(new RegExp(`${id} .*its file is gone`));
    expect(await readDelivered(file, 1000)).toEqual({});
    await teller.host.remove();
  },
);
