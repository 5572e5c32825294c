import path from 'node:path';
import { execa } from 'execa';
import * as fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { openSessions } from '../../src/sessions.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import type { Part } from '../../src/usagereader.ts';
import { openReaders } from '../../src/usagereaders.ts';
import { temporary } from './history.ts';

const before = { lines: 0, asked: false, latest: Number.POSITIVE_INFINITY };

function line(nth: number, text = 'x'): string {
  const usage = { input: 1 + nth, output: 2, cost: { total: 0.001 } };
  const timestamp = new Date(Date.UTC(2026, 10, 1) + nth * 1000).toISOString();
  const message = { role: 'assistant', content: [{ text }], provider: 'p', model: 'm', usage };
  return `${JSON.stringify({ type: 'message', id: String(nth), parentId: null, timestamp, message })}\n`;
}

function opened(withThread: boolean): ReturnType<typeof openReaders> {
  const readers = openReaders(withThread);
  onTestFinished(() => readers.close());
  return readers;
}

test('another thread reads the same, of several transcripts at once and in any pieces', async () => {
  const readers = { here: opened(false), there: opened(true) };
  const text = fc.array(fc.oneof(fc.nat(99).map(line), fc.constantFrom('{\n', '\n', 'x')), { maxLength: 9 });
  const transcript = fc.record({ text, size: fc.integer({ min: 1, max: 400 }), complete: fc.boolean() });

  async function partsOf(
    { size, ...given }: { text: string[]; size: number; complete: boolean },
    who: keyof typeof readers,
  ) {
    const reader = readers[who].open(before);
    const bytes = Buffer.from(given.text.join(''));
    const parts: (Part | undefined)[] = [];
    for (let at = 0; at <= bytes.length; at += size) {
      const last = at + size > bytes.length;
      // Of its own memory, and of memory that is shared with other pieces.
      const piece =
        at % 2 === 0 ? new Uint8Array(bytes.subarray(at, at + size)) : bytes.subarray(at, at + size);
      parts.push(await reader.read(piece, !last ? 'more' : given.complete ? 'never' : 'nothing'));
    }
    reader.close();
    expect(bytes.toString()).toBe(given.text.join(''));
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

test('who waits for a thread that has ended is told, and so is who comes later', async () => {
  const readers = opened(true);
  const reader = readers.open(before);
  const reading = reader.read(Buffer.alloc(1000), 'more');
  await Promise.all([expect(reading).rejects.toMatchObject({ code: 'unavailable' }), readers.close()]);
  await expect(readers.open(before).read(Buffer.alloc(0), 'nothing')).rejects.toMatchObject({
    code: 'unavailable',
  });
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
