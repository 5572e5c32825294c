import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { execa } from 'execa';
import * as fc from 'fast-check';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Found, Pieces, Wanted } from '../../src/usageparts.ts';
import { openReaders, type Readers } from '../../src/usagereaders.ts';
import type { Place } from '../../src/usagereaderthread.ts';
import { exhaust, rotAt, temporary, workersBegun } from './history.ts';

let workers: ReturnType<typeof workersBegun>;

beforeEach(() => {
  workers = workersBegun();
});

function line(nth: number, text = 'x'): string {
  const cost = [undefined, { total: 0 }, { total: 0.001 }][nth % 3];
  const usage = { input: 1 + nth, output: 2, cost };
  const timestamp = new Date(Date.UTC(2026, 10, 1) + nth * 1000).toISOString();
  const message = { role: 'assistant', content: [{ text }], provider: 'p', model: 'm', usage };
  return `${JSON.stringify({ type: 'message', id: String(nth), parentId: null, timestamp, message })}\n`;
}

function wantedOf(transcript: string, to: number, more: Partial<Wanted> = {}): Wanted {
  const before = { lines: 0, asked: false, latest: Number.POSITIVE_INFINITY };
  const blob = `sessions/inbox/main/${transcript}.jsonl`;
  return { agent: 'main', blob, from: 0, to, seam: new Uint8Array(), complete: false, before, ...more };
}

function opened(threads: number, place?: Place): Readers {
  const readers = openReaders(threads, place);
  onTestFinished(() => readers.close());
  return readers;
}

/** What is found of a transcript, and how many bytes were told of. */
async function foundBy(readers: Readers, wanted: Wanted, pieces: Pieces = none) {
  const found: (Found | 'moved')[] = [];
  let bytes = 0;
  for await (const one of readers.partsOf(wanted, pieces, (more) => (bytes += more))) found.push(one);
  return { found, bytes };
}

const none: Pieces = () => {
  throw new Error('A thread reads from the store itself.');
};

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield await Promise.resolve(Buffer.alloc(1000));
}

async function stored(texts: Record<string, string>) {
  const root = await temporary();
  const directory = path.join(root, 'store');
  const store = await openLocalStore(directory);
  onTestFinished(() => store.close());
  const place = { directory, id: await store.id() };
  const add = async (transcript: string, text: string): Promise<string> => {
    await store.append(`sessions/inbox/main/${transcript}.jsonl`, 0, Buffer.from(text));
    return path.join(directory, 'blobs', 'sessions', 'inbox', 'main', `${transcript}.jsonl`);
  };
  const files: Record<string, string> = {};
  for (const [transcript, text] of Object.entries(texts)) files[transcript] = await add(transcript, text);
  return { store, place, add, files };
}

const texts = fc.array(fc.oneof(fc.nat(99).map(line), fc.constantFrom('{\n', '\n', 'x')), { maxLength: 9 });

test('another thread reads the same, of several transcripts at once and in any pieces', async () => {
  const readers = { here: opened(0), there: opened(1) };
  const transcript = fc.record({
    text: texts.filter((lines) => lines.length > 0),
    size: fc.integer({ min: 1, max: 400 }),
    complete: fc.boolean(),
  });

  async function partsOf(
    { text, size, complete }: { text: string[]; size: number; complete: boolean },
    who: keyof typeof readers,
  ) {
    const bytes = Buffer.from(text.join(''));
    async function* pieces() {
      for (let at = 0; at < bytes.length; at += size) {
        const piece = bytes.subarray(at, at + size);
        // Of its own memory, and of memory that is shared with other pieces.
        yield await Promise.resolve(at % 2 === 0 ? new Uint8Array(piece) : piece);
      }
    }
    const parts = await foundBy(readers[who], wantedOf('any', bytes.length, { complete }), pieces);
    expect(bytes.toString()).toBe(text.join(''));
    return parts;
  }

  await fc.assert(
    fc.asyncProperty(fc.array(transcript, { maxLength: 4 }), async (given) => {
      const there = await Promise.all(given.map((one) => partsOf(one, 'there')));
      expect(there).toEqual(await Promise.all(given.map((one) => partsOf(one, 'here'))));
    }),
    { numRuns: 60 },
  );
});

test('threads read the same from the store, from where it was read to and as far as it is wanted', async () => {
  const { store, place, add } = await stored({});
  const readers = { here: opened(0), there: opened(2, place) };
  let nth = 0;
  const transcript = fc.record({
    text: texts.filter((lines) => lines.length > 0),
    from: fc.double({ min: 0, max: 1, noNaN: true }),
    to: fc.double({ min: 0, max: 1, noNaN: true }),
    moved: fc.constantFrom(false, false, true),
    complete: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(transcript, { minLength: 1, maxLength: 5 }), async (given) => {
      const wanted: Wanted[] = [];
      const isMoved: boolean[] = [];
      for (const { text, from, to, moved, complete } of given) {
        const whole = text.join('');
        const name = `t${nth++}`;
        await add(name, whole);
        const begin = text.slice(0, Math.floor(from * text.length)).join('').length;
        const seam = Buffer.from(whole.slice(Math.max(0, begin - 32), begin));
        if (moved && seam.length > 0) seam[0] = 1;
        isMoved.push(moved && seam.length > 0);
        const end = begin + Math.max(1, Math.floor(to * (whole.length - begin)));
        wanted.push(wantedOf(name, end, { from: begin, seam, complete }));
      }
      const there = await Promise.all(wanted.map((one) => foundBy(readers.there, one)));
      const here = await Promise.all(
        wanted.map((one) => foundBy(readers.here, one, (...asked) => store.open(...asked))),
      );
      expect(there).toEqual(here);
      expect(there.map(({ found }) => found[0] === 'moved')).toEqual(isMoved);
    }),
    { numRuns: 60 },
  );
});

test('a thread reads on when it is asked to, and to the sum of the whole', async () => {
  const text = Array.from({ length: 2500 }, (_, nth) => line(nth, 'y'.repeat(1000))).join('');
  const { place, files } = await stored({ whole: text, rots: text });
  const readers = opened(1, place);
  const { found, bytes } = await foundBy(readers, wantedOf('whole', text.length));
  expect(found.map((one) => one !== 'moved' && [one.part.lines.calls.length > 0, one.last])).toEqual([
    [true, false],
    [true, true],
  ]);
  expect(bytes).toBe(text.length);

  const large = text.repeat(3);
  const { place: other, files: there } = await stored({ rots: large });
  const parts = opened(1, other).partsOf(wantedOf('rots', large.length), none, () => {});
  const iterator = parts[Symbol.asyncIterator]();
  expect(await iterator.next()).toMatchObject({ value: { last: false } });
  await rotAt(there['rots'] ?? '', large.length - 2);
  await expect(exhaust(iterator)).rejects.toMatchObject({ code: 'corrupt' });

  await rotAt(files['rots'] ?? '', 7);
  await expect(foundBy(readers, wantedOf('rots', text.length))).rejects.toMatchObject({
    code: 'corrupt',
    message: `${files['rots']} is not what was stored: its bytes have changed.`,
    hint: 'Restore it from a backup.',
  });
});

test('what a thread does not find is said as the store says it', async () => {
  const { place, files } = await stored({ a: line(1), b: line(2) });
  const readers = opened(2, place);
  const reading = (wanted: Wanted) => foundBy(readers, wanted);
  await expect(reading(wantedOf('absent', 9))).rejects.toMatchObject({ code: 'not_found' });
  const beyond = wantedOf('a', 9999, { from: 999 });
  await expect(reading(beyond)).rejects.toMatchObject({ code: 'range', length: line(1).length });
  await rm(files['b'] ?? '');
  await expect(reading(wantedOf('b', 9))).rejects.toMatchObject({ code: 'corrupt' });
  // None of that is the end of the thread.
  expect((await reading(wantedOf('a', line(1).length))).found).toHaveLength(1);
  expect(readers.hasEnded()).toBe(false);
});

test('a thread reads from no other store than the one it was told of, and makes none', async () => {
  const { place } = await stored({ a: line(1) });
  const another = opened(1, { ...place, id: 'another' });
  await expect(foundBy(another, wantedOf('a', 9))).rejects.toMatchObject({ code: 'unavailable' });
  const directory = path.join(await temporary(), 'store');
  const nowhere = opened(1, { ...place, directory });
  await expect(foundBy(nowhere, wantedOf('a', 9))).rejects.toMatchObject({ code: 'unavailable' });
  await expect(stat(directory)).rejects.toMatchObject({ code: 'ENOENT' });
});

test('who waits for a thread that has ended is told, and so is who comes later', async () => {
  const { place } = await stored({ a: line(1) });
  for (const [readers, pieces] of [
    [opened(1), endless],
    [opened(1, place), none],
  ] as const) {
    // A thread is told of in the next turn.
    await setImmediate();
    const reading = foundBy(readers, wantedOf('a', 1_000_000), pieces);
    await Promise.all([
      expect(reading).rejects.toMatchObject({ code: 'unavailable' }),
      workers.shift()?.terminate(),
    ]);
    expect(readers.hasEnded()).toBe(true);
    await expect(foundBy(readers, wantedOf('a', 9), pieces)).rejects.toMatchObject({ code: 'unavailable' });
  }
});

test('the built program counts a history that is large enough for a thread', async () => {
  const root = await temporary();
  const store = await openLocalStore(path.join(root, 'store'));
  const nexus = openSessions(store);
  const [transcripts, each] = [40, 500];
  for (let nth = 0; nth < transcripts; nth++) {
    const lines = Array.from({ length: each }, (_, at) => line(nth * each + at, 'y'.repeat(1000)));
    const about = { sessionKey: `agent:main:s${nth}` };
    await nexus.append('main', `s${nth}`, 0, Buffer.from(lines.join('')), { complete: nth % 2 === 0, about });
  }
  await store.close();
  const binary = path.resolve(import.meta.dirname, '..', '..', 'bin', 'nexus.js');
  const env = { HOME: root, NEXUS_DATA_DIR: root };
  const { stdout } = await execa(process.execPath, [binary, 'usage', '--json'], { env });
  const calls = transcripts * each;
  expect(JSON.parse(stdout)).toMatchObject({
    complete: true,
    totals: { calls, input: (calls * (calls + 1)) / 2, output: 2 * calls },
  });
});
