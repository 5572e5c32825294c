import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Fault, failing } from './faults.ts';
import { type Host, ids, makeHost, messageLines, transcript } from './host.ts';

const large = transcript(ids.b, 3000, 'large');

/** A history in three runs: some stored before, then growth, a reset, a rewrite and a large one to ship. */
async function prepare(): Promise<{ host: Host; expected: Record<string, string> }> {
  const host = await makeHost();
  await host.current([ids.a]);
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  await host.write(`${ids.c}.jsonl`, transcript(ids.c, 2));
  await host.upload();
  const tail = messageLines(3, 'tail');
  await host.append(`${ids.a}.jsonl`, tail);
  await host.write(`${ids.b}.jsonl`, large);
  await host.write(`${ids.c}.jsonl`, transcript(ids.c, 2, 'rewritten'), { ageMs: 1_700_000 });
  await host.write(`${ids.c}.jsonl.deleted.2026-11-20T11-00-00.000Z`, transcript(ids.c, 2));
  return {
    host,
    expected: {
      [`main/${ids.a}`]: transcript(ids.a, 2) + tail,
      [`main/${ids.b}`]: large,
      [`main/${ids.c}`]: transcript(ids.c, 2),
      [`main/${ids.c}~2`]: transcript(ids.c, 2, 'rewritten'),
    },
  };
}

async function stored(host: Host): Promise<Record<string, string>> {
  return Object.fromEntries([...(await host.stored())].map(([name, bytes]) => [name, bytes.toString()]));
}

describe.each([
  ['a process that dies', true],
  ['an answer that is lost', false],
])('%s', (_, dead) => {
  test.each<Fault>(['before', 'after'])(
    '%s any call to Nexus leaves a state that the next run finishes, nothing lost and nothing twice',
    async (fault) => {
      // Until a run makes fewer calls than the one that was to fail.
      for (let at = 1, counted = 0; counted >= at - 1; at++) {
        const { host, expected } = await prepare();
        try {
          const through: Parameters<Host['upload']>[0] = {
            concurrency: 1,
            through: (nexus) => {
              const faulty = failing(nexus, at, fault, dead);
              return { ...faulty.nexus, close: () => ((counted = faulty.calls()), nexus.close()) };
            },
          };
          const outcome = await host.upload(through).catch((failure: unknown) => failure);
          const died = at <= counted && dead;
          expect(died && outcome, `at call ${at}`).not.toMatchObject({ ok: true });
          const again = await host.upload();
          expect(again, `after a fault at call ${at}`).toMatchObject({ ok: true });
          expect(await stored(host), `after a fault at call ${at}`).toEqual(expected);
          expect(await host.upload(), `after a fault at call ${at}`).toMatchObject({ done: 0, bytes: 0 });
          expect(await host.backfill({ verify: true }), `after ${at}`).toMatchObject({ ok: true, done: 0 });
        } finally {
          await host.remove();
        }
      }
    },
    120_000,
  );
});

test('a run stopped in the middle reports that, stores no half of a small transcript, and the next one goes on', async () => {
  const { host, expected } = await prepare();
  const stop = new AbortController();
  const report = await host.upload({
    concurrency: 1,
    signal: stop.signal,
    through: (nexus) => ({
      ...nexus,
      async append(...given) {
        const length = await nexus.append(...given);
        if (given[1] === ids.b) stop.abort();
        return length;
      },
    }),
  });
  expect(report.ok).toBe(false);
  expect(report.interrupted).toBeDefined();
  const after = await stored(host);
  const begun = after[`main/${ids.b}`] ?? '';
  expect(begun.length).toBeLessThan(large.length);
  expect(large.startsWith(begun)).toBe(true);
  const rest = await host.upload();
  expect(rest.ok).toBe(true);
  expect(await stored(host)).toEqual(expected);
  await host.remove();
});

test('the ledger may be lost at any time', async () => {
  const { host, expected } = await prepare();
  await host.upload();
  await rm(`${host.dataDir}/host`, { recursive: true });
  expect(await host.upload()).toMatchObject({ done: 0, bytes: 0, ok: true });
  expect(await stored(host)).toEqual(expected);
  await host.remove();
});

test('a store set back to the middle of a run that died gets what it has lost', async () => {
  const host = await makeHost();
  await host.current([]);
  await host.write(`${ids.a}.jsonl`, transcript(ids.a, 2));
  const database = path.join(host.dataDir, 'store', 'store.sqlite');
  const middle = new Map<string, Buffer>();
  await host
    .upload({
      through: (nexus) => {
        let marks = 0;
        return {
          ...nexus,
          async setMark(...given) {
            if (++marks === 2) throw new Error('The process died here.');
            await nexus.setMark(...given);
            for (const suffix of ['', '-wal']) middle.set(suffix, await readFile(database + suffix));
          },
        };
      },
    })
    .catch(() => undefined);
  expect((await host.stored()).size).toBe(1);
  // Over the same files, so that the store keeps its id.
  await rm(`${database}-shm`, { force: true });
  for (const [suffix, bytes] of middle) await writeFile(database + suffix, bytes);
  expect((await host.stored()).size).toBe(0);
  // A run that looks at other things, and ends, makes what the dead one noted no truer.
  await host.write(`${ids.b}.jsonl`, transcript(ids.b, 1), { agent: 'main', ageMs: 10 * 86_400_000 });
  await host.backfill({ until: Date.now() - 5 * 86_400_000 });
  expect([...(await host.stored()).keys()]).toEqual([`main/${ids.b}`]);
  expect(await host.upload()).toMatchObject({ done: 1, ok: true });
  expect((await host.stored()).get(`main/${ids.a}`)?.toString()).toBe(transcript(ids.a, 2));
  await host.remove();
});
