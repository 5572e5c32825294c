import { rm } from 'node:fs/promises';
import path from 'node:path';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Card } from '../../src/nexus.ts';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { openUsage, type Usage } from '../../src/usage.ts';
import { openCounting } from '../../src/usagecount.ts';
import { openIndexFile } from '../../src/usagefile.ts';
import { readLines } from '../../src/usagelines.ts';
import { sumUp } from '../../src/usagequery.ts';
import { openStates } from '../../src/usagestate.ts';
import { histories, type History, interleaved } from './arbitrary.ts';
import { countedBy, countSlowly, figuresOf, countUnparsable, type Stored, temporary } from './history.ts';

function cardOf(agent: string, transcript: string): Card {
  const [path, storedAt] = ['', new Date(0).toISOString()];
  return { agent, transcript, path, length: 0, complete: true, storedAt, updatedAt: storedAt };
}

function storedOf(given: readonly History[]): Stored {
  return new Map(
    given.map(({ agent, transcript, text, complete }) => [`${agent}/${transcript}`, { text, complete }]),
  );
}

test('whatever the order and the pieces in which transcripts come, what counts is what they hold', async () => {
  const directory = await temporary();
  let run = 0;
  await fc.assert(
    fc.asyncProperty(histories, fc.infiniteStream(fc.nat()), async (given, random) => {
      const root = path.join(directory, String(run++));
      const store = await openLocalStore(path.join(root, 'store'));
      const file = path.join(root, 'usage', 'index.sqlite');
      const nexus = openSessions(store);
      const next = (among: number): number => Number(random.next().value) % among;
      const readers: Usage[] = [await openUsage({ store, file }), await openUsage({ store, file })];
      try {
        for (const { agent, transcript, offset, bytes, complete } of interleaved(given, next)) {
          const append = () => nexus.append(agent, transcript, offset, bytes, { complete, about: {} });
          const look = () => readers[next(2)]?.catchUp();
          const what = next(6);
          if (what === 0) await Promise.all([append(), ...readers.map((reader) => reader.catchUp())]);
          else await append();
          if (what === 1) await look();
          if (what === 2) await Promise.all(readers.map((reader) => reader.catchUp()));
          if (what === 3 && next(3) === 0) await rm(path.dirname(file), { recursive: true, force: true });
        }
        const wanted = countSlowly(storedOf(given));
        for (const reader of readers) {
          const { complete, coverage } = await reader.catchUp();
          // Calls have an identity; a line that two readers take up would show here.
          const unparsable = coverage.oddities.find(({ kind }) => kind === 'unparsable')?.count ?? 0;
          expect(unparsable).toBe(countUnparsable(storedOf(given)));
          expect(await countedBy(reader)).toEqual(wanted);
          const partial = given.some(({ text, complete: ended }) => !ended && !/(^|\n)$/.test(text));
          expect(complete).toBe(!partial);
        }
      } finally {
        for (const reader of readers) await reader.close();
        await store.close();
      }
    }),
    { numRuns: 40, endOnFailure: true },
  );
}, 120_000);

test('a call counts once, wherever it stands and whichever place is read first', async () => {
  const file = path.join(await temporary(), 'index.sqlite');
  const index = await openIndexFile(file, 'store');
  const counting = openCounting(index.db);
  const states = openStates(index.db, counting);
  await fc.assert(
    fc.asyncProperty(histories, fc.infiniteStream(fc.nat()), async (given, random) => {
      await index.empty();
      const whole = given.map((history) => ({ ...history, complete: true }));
      const readings = new Map(
        whole.map(({ agent, transcript }) => [
          `${agent}/${transcript}`,
          readLines({ lines: 0, asked: false }),
        ]),
      );
      const cut = whole.map((history) => ({
        ...history,
        cuts: history.cuts.map(({ at }) => ({ at, complete: false })),
      }));
      const next = (among: number): number => Number(random.next().value) % among;
      for (const { agent, transcript, offset, bytes, complete } of interleaved(cut, next)) {
        const reading = readings.get(`${agent}/${transcript}`);
        reading?.read(bytes);
        const history = whole.find((one) => one.agent === agent && one.transcript === transcript);
        const ended = complete && offset + bytes.length === Buffer.byteLength(history?.text ?? '');
        if (ended) reading?.end();
        const lines = reading?.take();
        if (lines === undefined) continue;
        await index.write(() => {
          counting.begin();
          const state = states.made({ agent, transcript });
          states.apply(state, cardOf(agent, transcript), {
            from: state.readTo,
            lines,
            seam: new Uint8Array(),
            tail: ended,
            mail: undefined,
          });
          counting.flush();
        });
        if (next(8) === 0) {
          // Read anew, as when the store was set back.
          const again = readLines({ lines: 0, asked: false });
          await index.write(() => {
            counting.begin();
            const state = states.made({ agent, transcript });
            states.reset(state);
            again.read(Buffer.from(history?.text ?? '').subarray(0, offset + bytes.length));
            if (ended) again.end();
            const fresh = states.made({ agent, transcript });
            states.apply(fresh, cardOf(agent, transcript), {
              from: 0,
              lines: again.take(),
              seam: new Uint8Array(),
              tail: ended,
              mail: undefined,
            });
            counting.flush();
          });
        }
        if (next(10) === 0 && ended && whole.length > 1) {
          // Another process takes a transcript away that is no longer stored.
          await index.write(() => {
            counting.begin();
            states.drop(states.made({ agent, transcript }));
            counting.flush();
          });
          whole.splice(
            whole.findIndex((one) => one === history),
            1,
          );
        }
      }
      const surroundings = { now: new Date(), timeZone: 'UTC' };
      const { rows, totals } = sumUp(
        index.db,
        { by: ['agent', 'session', 'day', 'model'] },
        { own: [], seen: [] },
        surroundings,
      );
      const wanted = countSlowly(storedOf(whole));
      expect(figuresOf(rows)).toEqual(wanted);
      expect(totals.calls).toBe([...wanted.values()].reduce((sum, [calls]) => sum + calls, 0));
      // No row is left behind that counts nothing.
      expect(index.db.prepare('SELECT count(*) AS n FROM rollup WHERE calls <= 0').get()).toEqual({ n: 0 });
    }),
    { numRuns: 300, endOnFailure: true },
  );
  index.close();
}, 120_000);
