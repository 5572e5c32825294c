import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { linesOfPage, mostLineBytes, pageBytes } from '../../src/http/dashboard/lines.ts';
import type { Nexus } from '../../src/nexus.ts';
import { openSessions } from '../../src/sessions.ts';
import type { Store } from '../../src/stores/store.ts';

/** The archive's reading alone, from bytes in memory, in pieces of any size. */
function reading(bytes: Buffer, piece: number): { sessions: Nexus; read: () => number } {
  let most = 0;
  const open: Store['open'] = async function* (_, from = 0, to = bytes.length) {
    for (let at = from; at < to; at += piece) {
      const end = Math.min(to, at + piece);
      most = Math.max(most, end);
      yield await Promise.resolve(bytes.subarray(at, end));
    }
  };
  const sessions = openSessions(Object.assign(Object.create(null), { open, rows: () => [] }));
  return { sessions, read: () => most };
}

async function allPages(bytes: Buffer, piece: number) {
  const { sessions } = reading(bytes, piece);
  const lines: { at: number; text: string | undefined }[] = [];
  const { pages } = await linesOfPage(sessions, 'main', 'x', bytes.length, 1);
  for (let page = 1; page <= pages; page++) {
    const found = await linesOfPage(sessions, 'main', 'x', bytes.length, page);
    lines.push(...found.lines.map(({ at, text }) => ({ at, text })));
  }
  return lines;
}

test('every line is on one page, the one that it begins on, wherever pages and pieces end', async () => {
  const size = fc.oneof(
    fc.integer({ min: 0, max: 40 }),
    fc.constantFrom(pageBytes - 2, pageBytes - 1, pageBytes, pageBytes + 1, 3 * pageBytes),
    fc.integer({ min: 60_000, max: 300_000 }),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(size, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      fc.constantFrom(1000, 65_536, pageBytes, 1_000_000),
      async (sizes, ended, piece) => {
        const lines = sizes.map((length, nth) => String(nth % 10).repeat(length));
        const bytes = Buffer.from(lines.join('\n') + (ended ? '\n' : ''));
        let at = 0;
        const wanted = lines.flatMap((text) => {
          const line = { at, text };
          at += text.length + 1;
          return text === '' ? [] : [line];
        });
        expect(await allPages(bytes, piece)).toEqual(wanted);
      },
    ),
    { numRuns: 60 },
  );
});

test('a page reads no further than the end of its last line', async () => {
  const bytes = Buffer.from(`${'x'.repeat(999)}\n`.repeat(2000));
  const { sessions, read } = reading(bytes, 65_536);
  await linesOfPage(sessions, 'main', 'x', bytes.length, 3);
  expect(read()).toBeLessThan(3 * pageBytes + 2 * 65_536);
});

test('of a line longer than can be kept there is the beginning and its size, and the next page is behind it', async () => {
  const long = mostLineBytes + 5;
  const bytes = Buffer.concat([Buffer.from('first\n'), Buffer.alloc(long, 'y'), Buffer.from('\nlast\n')]);
  const { sessions } = reading(bytes, 1_000_000);
  const { lines, next, pages } = await linesOfPage(sessions, 'main', 'x', bytes.length, 1);
  expect(lines.map(({ length, text }) => [length, text])).toEqual([
    [5, 'first'],
    [long, undefined],
  ]);
  expect(lines[1]?.start).toMatch(/^y{2000}$/);
  expect(next).toBe(pages);
  const between = await linesOfPage(sessions, 'main', 'x', bytes.length, 3);
  expect(between).toMatchObject({ lines: [], within: true });
  const last = await linesOfPage(sessions, 'main', 'x', bytes.length, pages);
  expect(last.lines.map(({ text }) => text)).toEqual(['last']);
  expect(last.next).toBeUndefined();
});
