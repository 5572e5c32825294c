import { execFileSync } from 'node:child_process';
import {
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NexusError } from '../../src/errors.ts';
import { deliveriesFile } from '../../src/jobs/deliveries.ts';
import { fileNameOf, temporaryName } from '../../src/jobs/inbox.ts';
import { ledgerFile, openLedger } from '../../src/jobs/ledger.ts';
import { pullStatus } from '../../src/jobs/pullreport.ts';
import { blobsOf } from '../../src/webhookbodies.ts';
import { openWebhooks } from '../../src/webhooks.ts';
import { openLocalStore } from '../../src/stores/local.ts';
import { makePullHost, type PullHost } from './pullhost.ts';

let host: PullHost;
beforeEach(async () => {
  host = await makePullHost();
});
afterEach(() => host.remove());

const containing = (text: string): unknown => expect.stringContaining(text);
const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);
const nameOf = (id: string, source = 'github') => fileNameOf({ id, source });
const modeOf = async (file: string) => ((await lstat(file)).mode & 0o777).toString(8);

/** `undefined` for a directory. */
async function contentOf(file: string): Promise<string | undefined> {
  return (await lstat(file)).isDirectory() ? undefined : await readFile(file, 'utf8');
}

describe('an item', () => {
  test('lies in the inbox as one private file with all that came, and is acknowledged', async () => {
    const id = await host.receive();
    const report = await host.pull();
    expect(report).toMatchObject({ ok: true, delivered: 1, already: 0, failed: [] });
    expect(report.agents['main']).toMatchObject({ delivered: 1, acknowledged: 1, failed: 0 });
    expect(await host.files()).toEqual([nameOf(id)]);
    expect(await host.read(nameOf(id))).toEqual({
      id,
      source: 'github',
      receivedAt: matching(/^\d{4}-.*Z$/),
      contentType: 'application/json',
      headers: { 'x-github-event': 'push' },
      payload: { ref: 'refs/heads/main' },
    });
    expect(await modeOf(path.join(host.inbox(), nameOf(id)))).toBe('600');
    for (const directory of [host.inbox(), path.dirname(host.inbox()), path.join(host.inbox(), '.incoming')])
      expect(await modeOf(directory)).toBe('700');
    expect(await host.temps()).toEqual([]);
    expect(await host.pending()).toEqual([]);
  });

  test('keeps its numbers and its text exactly, and says where its payload is base64', async () => {
    const exact = '{"big":12345678901234567890,"small":1e-400,"text":"\\u0000é\\ud83d\\ude00","__proto__":1}';
    const id = await host.receive({ body: Buffer.from(exact) });
    const binary = await host.receive({
      contentType: 'application/octet-stream',
      body: Buffer.from([0, 255, 7]),
      source: 'camera',
    });
    await host.pull();
    const text = await readFile(path.join(host.inbox(), nameOf(id)), 'utf8');
    expect(text).toContain('"big":12345678901234567890');
    expect(text).toContain('"small":1e-400');
    expect(text).toContain('"__proto__":1');
    expect(text.startsWith('{\n  "id": "') && text.endsWith('}\n')).toBe(true);
    expect(await host.read(nameOf(binary, 'camera'))).toMatchObject({ payload: 'AP8H', encoding: 'base64' });
  });

  test('says which item it repeats when it was replayed, and is delivered once more', async () => {
    const id = await host.receive();
    await host.pull();
    const again = await host.webhooks.replay(id, 'request-1');
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.read(nameOf(again))).toMatchObject({ id: again, replayOf: id });
  });

  test('whose source tries to leave the inbox stays in it', async () => {
    const source = '../../../../etc/x';
    const id = await host.receive({ source });
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toEqual([`-..-..-..-etc-x_${id}.json`.replace(/^[.-]+/, '')]);
  });

  test('that was moved or deleted by the agent does not come again', async () => {
    const [first, second] = [await host.receive(), await host.receive()];
    await host.pull();
    await rename(path.join(host.inbox(), nameOf(first)), path.join(host.workspace(), 'done.json'));
    await rm(path.join(host.inbox(), nameOf(second)));
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 0, already: 0 });
    expect(await host.files()).toEqual([]);
  });

  test('for an agent with another id in Nexus comes from the mailbox of that id', async () => {
    const id = await host.receive({ agent: 'box-main' });
    const other = await host.receive();
    const report = await host.pull({ config: { agents: { main: { as: 'box-main' } } } });
    expect(report.agents['main']).toMatchObject({ as: 'box-main', delivered: 1 });
    expect(await host.files()).toEqual([nameOf(id)]);
    expect(await host.pending()).toEqual([other]);
  });

  test('of an agent that is to be left alone stays pending', async () => {
    const id = await host.receive();
    const report = await host.pull({ config: { agents: { main: { skip: true } } } });
    expect(report).toMatchObject({ ok: true, delivered: 0, agents: {} });
    expect(await host.pending()).toEqual([id]);
  });

  test('whose body is gone from the store is named and delays nobody', async () => {
    const broken = await host.receive({ body: Buffer.alloc(500_000, 'x'), contentType: 'text/plain' });
    const sound = await host.receive();
    const store = await openLocalStore(path.join(host.root, 'data', 'store'));
    for await (const { name } of store.list(blobsOf('main'))) await store.remove(name);
    await store.close();
    const report = await host.pull();
    expect(report).toMatchObject({ ok: false, delivered: 1 });
    expect(report.failed.map(({ item }) => item)).toEqual([broken]);
    expect(report.agents['main']?.failed).toBe(1);
    expect(await host.files()).toEqual([nameOf(sound)]);
  });
});

describe('the report', () => {
  test('is kept, and says with an exit status how it went', async () => {
    await host.receive();
    const { report, unavailable } = await host.outcome();
    expect(pullStatus(report, unavailable)).toBe(0);
    const ledger = openLedger(ledgerFile(host.config()), () => undefined);
    expect(ledger.runs('pull-webhooks', 5)).toMatchObject([{ ok: true, report: { delivered: 1 } }]);
    ledger.close();
  });

  test('of an unreachable Nexus ends with 69', async () => {
    const { report, unavailable } = await host.outcome({
      mailbox: (mailbox) => ({
        ...mailbox,
        pending: () => Promise.reject(new NexusError('unavailable', 'Nobody answers.')),
      }),
    });
    expect(report.failed).toEqual([{ item: 'agent main', reason: 'Nobody answers.' }]);
    expect(pullStatus(report, unavailable)).toBe(69);
  });

  test('refuses an agent that OpenClaw does not have, and two agents of one name', async () => {
    await expect(host.pull({ agents: ['nobody'] })).rejects.toMatchObject({ code: 'usage' });
    await host.remove();
    host = await makePullHost(['main', 'other']);
    await expect(host.pull({ config: { agents: { other: { as: 'main' } } } })).rejects.toMatchObject({
      code: 'config',
    });
  });
});

describe('a mailbox of another host', () => {
  test('fails its agent alone, with the way to take it over', async () => {
    await host.remove();
    host = await makePullHost(['main', 'other']);
    const [mine] = [await host.receive({ agent: 'other' }), await host.receive()];
    await host.webhooks.claim('main', 'elsewhere');
    const report = await host.pull();
    expect(report).toMatchObject({ ok: false, delivered: 1 });
    expect(report.failed).toEqual([{ item: 'agent main', reason: containing('nexus webhooks claim') }]);
    expect(await host.files('other')).toEqual([nameOf(mine ?? '')]);
    await host.webhooks.claim('main', 'box');
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
  });
});

describe('an inbox that cannot be used', () => {
  test('because the workspace is not there leaves the items pending and makes nothing', async () => {
    const id = await host.receive();
    await rm(host.workspace(), { recursive: true });
    const report = await host.pull();
    expect(report).toMatchObject({ ok: false, delivered: 0 });
    expect(report.failed).toEqual([{ item: id, reason: containing('is not there') }]);
    await expect(stat(host.workspace())).rejects.toThrow('ENOENT');
    expect(await host.pending()).toEqual([id]);
    await mkdir(host.workspace());
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
  });

  test.each(['inbox', 'inbox/webhooks', 'inbox/webhooks/.incoming'])(
    'because %s is a symbolic link is refused, and nothing is written where it leads',
    async (place) => {
      const id = await host.receive();
      const outside = path.join(host.root, 'outside');
      await mkdir(path.join(outside, 'webhooks', '.incoming'), { recursive: true });
      await mkdir(path.dirname(path.join(host.workspace(), place)), { recursive: true });
      await symlink(outside, path.join(host.workspace(), place));
      const report = await host.pull();
      expect(report.failed).toEqual([{ item: id, reason: containing('symbolic link') }]);
      expect(await host.pending()).toEqual([id]);
      const found = await readdir(outside, { recursive: true, withFileTypes: true });
      expect(found.filter((entry) => !entry.isDirectory())).toEqual([]);
    },
  );

  test('because a file has its place is refused', async () => {
    const id = await host.receive();
    await writeFile(path.join(host.workspace(), 'inbox'), '');
    expect((await host.pull()).failed).toEqual([{ item: id, reason: containing('not a directory') }]);
  });

  test('in the middle of a page, where the agent swaps it for a link, takes the files where they were opened', async () => {
    const id = await host.receive();
    const outside = path.join(host.root, 'outside');
    await mkdir(outside);
    await host.pull({
      inbox: (inbox) => ({
        ...inbox,
        async place(...given) {
          await rename(host.inbox(), `${host.inbox()}-moved`);
          await symlink(outside, host.inbox());
          return await inbox.place(...given);
        },
      }),
    });
    expect(await readdir(outside)).toEqual([]);
    expect(await readdir(`${host.inbox()}-moved`)).toContain(nameOf(id));
  });

  test.runIf(process.geteuid?.() === 0)('by root belongs to the owner of the workspace', async () => {
    const id = await host.receive();
    await chown(host.workspace(), 1234, 1235);
    await host.pull();
    for (const place of ['', '.incoming', nameOf(id)])
      expect(await lstat(path.join(host.inbox(), place))).toMatchObject({ uid: 1234, gid: 1235 });
    expect(await lstat(path.dirname(host.inbox()))).toMatchObject({ uid: 1234, gid: 1235 });
  });
});

describe('a file of that name', () => {
  test('with the same content counts as delivered: the ledger was lost', async () => {
    const id = await host.receive();
    await host
      .pull({
        mailbox: (mailbox) => ({
          ...mailbox,
          acknowledge: () => Promise.reject(new NexusError('unavailable', 'No.')),
        }),
      })
      .catch(() => undefined);
    await rm(path.join(host.root, 'data', 'host'), { recursive: true });
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toEqual([nameOf(id)]);
    expect(await host.temps()).toEqual([]);
    expect(await host.pending()).toEqual([]);
  });

  test.each(['other content', undefined])(
    'with other content (%s) fails that item, is not touched, and does not stop the others',
    async (content) => {
      const [id, other] = [await host.receive(), await host.receive()];
      const file = path.join(host.inbox(), nameOf(id));
      await mkdir(content === undefined ? file : host.inbox(), { recursive: true });
      if (content !== undefined) await writeFile(file, content);
      for (let n = 0; n < 2; n++) {
        const report = await host.pull();
        expect(report).toMatchObject({ ok: false, delivered: n === 0 ? 1 : 0 });
        expect(report.failed).toEqual([{ item: id, reason: containing('other content') }]);
      }
      expect(await contentOf(file)).toBe(content);
      expect(await host.pending()).toEqual([id]);
      expect((await host.files()).sort()).toEqual([nameOf(id), nameOf(other)].sort());
      expect(await host.temps()).toEqual([]);
      await rm(file, { recursive: true });
      expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    },
  );
});

describe('temporary files', () => {
  test('that nobody knows of are removed after an hour, and others are left', async () => {
    await host.receive();
    await host.pull();
    const hidden = path.join(host.inbox(), '.incoming');
    const [old, young] = [temporaryName(), temporaryName()];
    for (const name of [old, young, 'notes.txt']) await writeFile(path.join(hidden, name), 'x');
    const before = new Date(Date.now() - 2 * 3_600_000);
    for (const name of [old, 'notes.txt']) await utimes(path.join(hidden, name), before, before);
    await host.receive();
    await host.pull();
    expect(await host.temps()).toEqual([young, 'notes.txt'].sort());
  });

  test('taken away before they are renamed are written anew', async () => {
    const id = await host.receive();
    let taken = 0;
    const report = await host.pull({
      inbox: (inbox) => ({
        ...inbox,
        async place(temp, name) {
          if (taken++ === 0) await rm(path.join(host.inbox(), '.incoming', temp));
          return await inbox.place(temp, name);
        },
      }),
    });
    expect(report).toMatchObject({ ok: true, delivered: 1, failed: [] });
    expect(await host.files()).toEqual([nameOf(id)]);
  });

  test('taken away again and again leave the item pending', async () => {
    const id = await host.receive();
    const report = await host.pull({
      inbox: (inbox) => ({
        ...inbox,
        async place(temp, name) {
          await rm(path.join(host.inbox(), '.incoming', temp));
          return await inbox.place(temp, name);
        },
      }),
    });
    expect(report).toMatchObject({ ok: false, delivered: 0 });
    expect(await host.pending()).toEqual([id]);
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
  });
});

describe('the ledger of deliveries', () => {
  const file = () => deliveriesFile(host.config());

  test('is private', async () => {
    await host.pull();
    expect(await modeOf(file())).toBe('600');
    expect(await modeOf(path.dirname(file()))).toBe('700');
  });

  test.each([
    ['is no database', 'this is no database, and long enough to be looked at as one'.repeat(50)],
    ['has lost its content', ''],
  ])('that %s is refused and stays as it is', async (_, content) => {
    const id = await host.receive();
    await host.pull();
    for (const suffix of ['-wal', '-shm']) await rm(file() + suffix, { force: true });
    await writeFile(file(), content);
    for (let n = 0; n < 2; n++)
      await expect(host.pull()).rejects.toMatchObject({
        code: 'corrupt',
        hint: containing('second time'),
      });
    // A file without content gets the header of a database from being opened, and nothing more.
    expect((await readFile(file(), 'utf8')).startsWith(content)).toBe(true);
    expect(await host.files()).toEqual([nameOf(id)]);
  });

  test('of a newer nexus is refused', async () => {
    await host.pull();
    const { DatabaseSync } = await import('node:sqlite');
    const db = new DatabaseSync(file());
    db.exec('PRAGMA user_version = 99');
    db.close();
    await expect(host.pull()).rejects.toMatchObject({ code: 'config' });
  });

  test('takes a delivery and its batch as one, or nothing of them', async () => {
    const item = { source: 's', receivedAt: '', inbox: '/inbox', temp: 't', name: 'n' };
    const deliveries = host.deliveries();
    deliveries.begin('main', [
      { ...item, id: 'main.000000001' },
      { ...item, id: 'main.000000002' },
    ]);
    const { DatabaseSync } = await import('node:sqlite');
    const db = new DatabaseSync(file());
    db.exec(`CREATE TRIGGER refusing BEFORE UPDATE ON deliveries WHEN NEW.id = 'main.000000002'
      BEGIN SELECT RAISE(ABORT, 'refused'); END`);
    db.close();
    const ids = ['main.000000001', 'main.000000002'];
    expect(() => deliveries.deliver('main', ids, 1)).toThrow('refused');
    expect([...deliveries.known(ids).values()]).toEqual(['delivering', 'delivering']);
    expect(deliveries.batches(['open'])).toEqual([]);
    deliveries.close();
  });

  test('forgets what was acknowledged more than a year ago', async () => {
    const id = await host.receive();
    await host.pull();
    const after = (days: number) => () => new Date(Date.now() + days * 86_400_000);
    await host.pull({ now: after(364) });
    let deliveries = host.deliveries();
    expect(deliveries.known([id]).get(id)).toBe('delivered');
    deliveries.close();
    await host.pull({ now: after(367) });
    deliveries = host.deliveries();
    expect(deliveries.known([id]).size).toBe(0);
    expect(deliveries.batches(['none'])).toEqual([]);
    deliveries.close();
  });
});

describe('batches', () => {
  test('hold what one run delivered to one agent, once, and are not told where nobody is to be', async () => {
    const [first, second] = [await host.receive(), await host.receive()];
    await host.pull();
    const third = await host.receive();
    await host.pull({ config: { agents: { main: { notify: 'auto' } } } });
    const deliveries = host.deliveries();
    const [quiet] = deliveries.batches(['none'], 'main');
    const [loud] = deliveries.batches(['untold'], 'main');
    expect(deliveries.itemsOf(quiet?.id ?? '').map(({ id }) => id)).toEqual([first, second]);
    expect(deliveries.itemsOf(loud?.id ?? '')).toEqual([
      {
        id: third,
        source: 'github',
        receivedAt: matching(/Z$/),
        file: path.join(host.inbox(), nameOf(third)),
      },
    ]);
    expect(deliveries.batches(['open'])).toEqual([]);
    deliveries.close();
  });

  test('are handed to be told after they were acknowledged, and what cannot be told undoes nothing', async () => {
    const id = await host.receive();
    const report = await host.pull({
      config: { agents: { main: { notify: 'hooks' } } },
      async tell({ deliveries, agent }) {
        expect(await host.pending()).toEqual([]);
        expect(deliveries.batches(['untold'], agent.id)).toHaveLength(1);
        return {
          notified: { done: 0, admitted: 0, repeated: 0, failed: 1, waiting: 0 },
          failed: [{ item: 'batch 1', reason: 'Nobody listens.' }],
        };
      },
    });
    expect(report).toMatchObject({ ok: false, delivered: 1, notified: { failed: 1 } });
    expect(report.failed).toEqual([{ item: 'batch 1', reason: 'Nobody listens.' }]);
    expect(pullStatus(report, false)).toBe(3);
    expect(await host.files()).toEqual([nameOf(id)]);
  });
});

describe('two pulls at once', () => {
  test('deliver each item once, and the second says who is at work', async () => {
    for (let n = 0; n < 20; n++) await host.receive();
    const at = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const first = host.outcome({
      inbox: (inbox) => ({
        ...inbox,
        async syncTemps() {
          at.resolve();
          await go.promise;
          await inbox.syncTemps();
        },
      }),
    });
    await at.promise;
    const second = await host.outcome();
    go.resolve();
    expect((await first).report.delivered).toBe(20);
    expect(second.report.busy).toEqual([{ item: 'agent main', reason: containing('nexus pull-webhooks') }]);
    expect(pullStatus(second.report, second.unavailable)).toBe(75);
    expect(await host.files()).toHaveLength(20);
  });
});

test('mail that came over several pages is delivered, acknowledged and told as one batch', async () => {
  const body = Buffer.alloc(3 * 1024 * 1024, 'x');
  const ids: string[] = [];
  for (let n = 0; n < 8; n++) ids.push(await host.receive({ body, contentType: 'text/plain' }));
  let pages = 0;
  const report = await host.pull({
    mailbox: (mailbox) => ({
      ...mailbox,
      pending: (request) => (pages++, mailbox.pending(request)),
    }),
  });
  expect(report).toMatchObject({ ok: true, delivered: 8 });
  expect(pages).toBeGreaterThan(1);
  expect(await host.files()).toEqual(ids.map((id) => nameOf(id)).sort());
  const deliveries = host.deliveries();
  const [batch, ...others] = deliveries.batches(['none']);
  expect(others).toEqual([]);
  expect(deliveries.itemsOf(batch?.id ?? '').map(({ id }) => id)).toEqual(ids);
  deliveries.close();
});

test('a thousand pending are drained within seconds', async () => {
  await Promise.all(Array.from({ length: 1000 }, () => host.receive()));
  const began = performance.now();
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 1000 });
  expect(performance.now() - began).toBeLessThan(10_000);
  expect(await host.files()).toHaveLength(1000);
  expect(await host.pending()).toEqual([]);
});

test('a signal ends it after the page in hand, which is acknowledged', async () => {
  await Promise.all(Array.from({ length: 30 }, () => host.receive()));
  const stop = new AbortController();
  const report = await host.pull({
    signal: stop.signal,
    mailbox: (mailbox) => ({ ...mailbox, pending: (request) => mailbox.pending({ ...request, limit: 10 }) }),
    inbox: (inbox) => ({
      ...inbox,
      syncTemps: () => (stop.abort(), inbox.syncTemps()),
    }),
  });
  expect(report).toMatchObject({ ok: false, delivered: 10, interrupted: 'SIGINT' });
  expect(report.agents['main']?.acknowledged).toBe(10);
  expect(await host.pending()).toHaveLength(20);
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 20 });
});

test('a workspace that has another place now gets what was not yet in the old inbox, once', async () => {
  const [first, second] = [await host.receive(), await host.receive()];
  let placed = 0;
  const dead = () => Promise.reject(new Error('The process is dead.'));
  await host.pull({
    inbox: (inbox) => ({
      ...inbox,
      place: (...given) => (placed++ === 0 ? inbox.place(...given) : dead()),
      holds: dead,
      sync: dead,
    }),
  });
  const moved = path.join(host.root, 'elsewhere');
  const delivered = await host.files();
  expect(delivered).toHaveLength(1);
  await mkdir(moved);
  await writeFile(
    path.join(host.root, 'openclaw', 'openclaw.json'),
    JSON.stringify({ agents: { entries: { main: { workspace: moved } } } }),
  );
  expect(await host.pull()).toMatchObject({ ok: true });
  const there = (await readdir(path.join(moved, 'inbox', 'webhooks'))).filter((name) => name !== '.incoming');
  expect([...delivered, ...there].sort()).toEqual([nameOf(first), nameOf(second)].sort());
  expect(await host.pending()).toEqual([]);
});

describe.skipIf(process.geteuid?.() !== 0 || process.platform !== 'linux')(
  'on a file system of its own (needs root)',
  () => {
    beforeEach(() => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', host.workspace()]);
    });
    afterEach(() => {
      execFileSync('umount', ['-l', host.workspace()]);
    });

    test('that is full, what does not fit stays pending, is named, and comes when there is room', async () => {
      const large = await host.receive({ body: Buffer.alloc(300_000, 'x'), contentType: 'text/plain' });
      const small = await host.receive();
      const report = await host.pull();
      expect(report).toMatchObject({ ok: false, delivered: 1 });
      expect(report.failed).toEqual([{ item: large, reason: matching(/ENOSPC.*Free space/) }]);
      expect(await host.files()).toEqual([nameOf(small)]);
      expect(await host.temps()).toEqual([]);
      expect(await host.pending()).toEqual([large]);
      execFileSync('mount', ['-o', 'remount,size=4m', host.workspace()]);
      expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    });

    test('that is read only, items stay pending and are named', async () => {
      await host.receive();
      await host.pull();
      const id = await host.receive();
      execFileSync('mount', ['-o', 'remount,ro', host.workspace()]);
      expect((await host.pull()).failed).toEqual([{ item: id, reason: containing('EROFS') }]);
      execFileSync('mount', ['-o', 'remount,rw', host.workspace()]);
      expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    });
  },
);

test('mail of a store that another process received is found', async () => {
  const other = openWebhooks(await openLocalStore(path.join(host.root, 'data', 'store')));
  await other.receive({ agent: 'main', source: 's', contentType: '', headers: {}, body: Buffer.from('') });
  await other.close();
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
});
