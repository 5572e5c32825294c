import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fileNameOf, fileTextOf, openInbox, temporaryName } from '../../src/jobs/inbox.ts';

const row = fc.stringMatching(/^[0-9a-z]{9,32}$/);
const agent = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/);
const id = fc.tuple(agent, row).map(([agent, row]) => `${agent}.${row}`);
const source = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({
    unit: fc.constantFrom('.', '/', '\\', '-', '_', '\0', 'a', '..', '%2e', '\n', '💥'),
    maxLength: 80,
  }),
);

describe('the name of a file', () => {
  test('is one plain visible name, whatever the source is called', () => {
    fc.assert(
      fc.property(source, id, (source, id) => {
        const name = fileNameOf({ id, source });
        expect(name).toMatch(/^[A-Za-z0-9][A-Za-z0-9.-]{0,63}_[A-Za-z0-9_.-]+\.json$/);
        expect(path.basename(path.join('/inbox', name))).toBe(name);
        expect(name.length).toBeLessThanOrEqual(200);
      }),
      { numRuns: 2000 },
    );
  });

  test('tells any two items apart', () => {
    fc.assert(
      fc.property(source, source, id, id, (one, other, a, b) => {
        fc.pre(a !== b);
        expect(fileNameOf({ id: a, source: one })).not.toBe(fileNameOf({ id: b, source: other }));
      }),
    );
  });

  test('ends with the id as it is, which nothing of the source can look like', () => {
    fc.assert(
      fc.property(source, id, (source, id) => {
        const name = fileNameOf({ id, source });
        expect(name.slice(name.indexOf('_') + 1)).toBe(`${id}.json`);
      }),
    );
  });

  test.each([
    ['github', 'github'],
    ['My Shop/€', 'My-Shop--'],
    ['...', 'webhook'],
    ['', 'webhook'],
    ['-rf', 'rf'],
    ['a_b', 'a-b'],
    ['x'.repeat(100), 'x'.repeat(32)],
  ])('of %j begins with %j', (source, begin) => {
    expect(fileNameOf({ id: 'main.000000001', source })).toBe(`${begin}_main.000000001.json`);
  });

  test('is refused to an id that is none', () => {
    const bad = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('../x.000000001', 'main.000000001/../x', 'main.000000001\n', 'main', ''),
    );
    fc.assert(
      fc.property(bad, (id) => {
        fc.pre(!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.[0-9a-z]{9,32}$/.test(id) || id.endsWith('\n'));
        expect(() => fileNameOf({ id, source: 'github' })).toThrow('is no id');
      }),
    );
  });
});

test('the content of a file reads as what came, with its numbers as they were written', () => {
  fc.assert(
    fc.property(fc.json({ noUnicodeString: false }), id, (json, id) => {
      const item = {
        id,
        source: 's',
        receivedAt: '2026-11-23T00:00:00.000Z',
        contentType: 'application/json',
        headers: { a: 'b' },
      };
      const text = fileTextOf({ ...item, payloadText: json });
      expect(JSON.parse(text)).toEqual({ ...item, payload: JSON.parse(json) as unknown });
      expect(text).toContain(`\n  "payload": ${json}\n}\n`);
      expect(fileTextOf({ ...item, payloadText: json })).toBe(text);
    }),
  );
});

describe('an inbox', () => {
  async function withInbox(work: (inbox: Awaited<ReturnType<typeof openInbox>>) => Promise<void>) {
    const workspace = await mkdtemp(path.join(tmpdir(), 'nexus-inbox-'));
    const inbox = await openInbox(workspace);
    try {
      await work(inbox);
    } finally {
      await inbox.close();
      await rm(workspace, { recursive: true });
    }
  }

  test('takes no name that leads out of it', async () => {
    await withInbox(async (inbox) => {
      await inbox.write(temporaryName(), 'x');
      for (const name of ['../x', 'a/b', '..', '.', '', '/etc/x']) {
        await expect(inbox.write(name, 'x')).rejects.toThrow('no plain file name');
        await expect(inbox.place(temporaryName(), name)).rejects.toThrow('no plain file name');
      }
    });
  });

  test('never writes over a temporary file or over a file of the inbox', async () => {
    await withInbox(async (inbox) => {
      const [one, two] = [temporaryName(), temporaryName()];
      await inbox.write(one, 'first');
      await expect(inbox.write(one, 'second')).rejects.toThrow('EEXIST');
      await inbox.write(two, 'second');
      expect(await inbox.place(one, 'a.json')).toBe('placed');
      await expect(inbox.place(two, 'a.json')).rejects.toMatchObject({ code: 'conflict' });
      expect(await inbox.holds(two)).toBe(true);
      expect((await readdir(inbox.directory)).sort()).toEqual(['.incoming', 'a.json']);
    });
  });

  test('holds none of its directories open when it is closed', async () => {
    const open = async () => (await readdir('/proc/self/fd')).length;
    const before = await open();
    for (let n = 0; n < 20; n++) await withInbox(() => Promise.resolve());
    expect(await open()).toBeLessThanOrEqual(before + 1);
  });
});
