import { cp, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fileNameOf } from '../../src/jobs/inbox.ts';
import { makePullHost, type PullHost, type PullHostOptions } from './pullhost.ts';

let host: PullHost;
beforeEach(async () => {
  host = await makePullHost();
});
afterEach(() => host.remove());

const containing = (text: string): unknown => expect.stringContaining(text);
const nameOf = (id: string) => fileNameOf({ id, source: 'github' });
const dead = () => Promise.reject(new Error('The process is dead.'));

/** A process that dies when its files have, or have not, got their names, before it can note that. */
function dying(renamed: boolean): PullHostOptions {
  return {
    inbox: (inbox) => ({
      ...inbox,
      place: renamed ? (...given) => inbox.place(...given) : dead,
      holds: dead,
      sync: dead,
      discard: dead,
    }),
  };
}

/** One item that such a process leaves. */
async function left(renamed: boolean): Promise<string> {
  const id = await host.receive();
  await host.pull(dying(renamed));
  const deliveries = host.deliveries();
  expect(deliveries.known([id]).get(id)).toBe('delivering');
  deliveries.close();
  return id;
}

/** What is seen where the disk of the workspace is not mounted: its mount point. */
async function unmount(): Promise<() => Promise<void>> {
  const aside = path.join(host.root, 'unmounted');
  await rename(host.workspace(), aside);
  await mkdir(host.workspace());
  return async () => {
    await rm(host.workspace(), { recursive: true });
    await rename(aside, host.workspace());
  };
}

async function moveTo(workspace: string): Promise<void> {
  await writeFile(
    path.join(host.root, 'openclaw', 'openclaw.json'),
    JSON.stringify({ agents: { entries: { main: { workspace } } } }),
  );
}

const filesIn = async (workspace: string) =>
  (await readdir(path.join(workspace, 'inbox', 'webhooks'))).filter((name) => name !== '.incoming');

describe('where the disk of the workspace is not mounted', () => {
  test.each([false, true])(
    'what a dead process began (renamed: %s) stays pending, and is in the inbox once when it is mounted',
    async (renamed) => {
      const id = await left(renamed);
      const mount = await unmount();
      const report = await host.pull();
      expect(report).toMatchObject({ ok: false, delivered: 0, already: 0 });
      expect(report.failed).toEqual([{ item: id, reason: containing('is its disk mounted?') }]);
      expect(await readdir(host.workspace())).toEqual([]);
      expect(await host.pending()).toEqual([id]);
      await mount();
      expect(await host.pull()).toMatchObject({ ok: true });
      expect(await host.files()).toEqual([nameOf(id)]);
      expect(await host.pending()).toEqual([]);
    },
  );

  test('fresh mail stays pending and nothing is made in the mount point', async () => {
    await host.receive();
    await host.pull();
    const mount = await unmount();
    const id = await host.receive();
    expect((await host.pull()).failed).toEqual([{ item: id, reason: containing('is its disk mounted?') }]);
    expect(await readdir(host.workspace())).toEqual([]);
    await mount();
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toHaveLength(2);
  });

  test('what a dead process began is not taken for delivered by a mount point that is not empty', async () => {
    const id = await left(false);
    await unmount();
    await writeFile(path.join(host.workspace(), 'notes.txt'), '');
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toEqual([nameOf(id)]);
  });

  test('a workspace that was emptied on purpose is used again when it has its inbox', async () => {
    await host.receive();
    await host.pull();
    await rm(host.workspace(), { recursive: true });
    await mkdir(path.join(host.workspace(), 'inbox'), { recursive: true });
    const id = await host.receive();
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toEqual([nameOf(id)]);
  });
});

test('a workspace that is empty and was never delivered into is used', async () => {
  await host.receive();
  expect(await readdir(host.workspace())).toEqual([]);
  expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
});

describe('after a process that died', () => {
  test.each(['inbox', 'inbox/webhooks', 'inbox/webhooks/.incoming'])(
    'what it had not yet renamed is delivered though %s was removed meanwhile',
    async (place) => {
      const id = await left(false);
      await rm(path.join(host.workspace(), place), { recursive: true });
      await writeFile(path.join(host.workspace(), 'notes.txt'), '');
      expect(await host.pull()).toMatchObject({ ok: true, delivered: 1, failed: [] });
      expect(await host.files()).toEqual([nameOf(id)]);
      expect(await host.pending()).toEqual([]);
    },
  );

  test('what it had renamed and the agent took from the same inbox does not come again', async () => {
    const id = await left(true);
    await rm(path.join(host.inbox(), nameOf(id)));
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await host.files()).toEqual([]);
    expect(await host.pending()).toEqual([]);
  });

  test.each([false, true])(
    'and a workspace that was moved since, what it began (renamed: %s) is there once',
    async (renamed) => {
      const id = await left(renamed);
      const moved = path.join(host.root, 'elsewhere');
      await rename(host.workspace(), moved);
      await moveTo(moved);
      if (renamed) await rm(path.join(moved, 'inbox', 'webhooks', nameOf(id)));
      expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
      expect(await filesIn(moved)).toEqual(renamed ? [] : [nameOf(id)]);
      expect(await host.pending()).toEqual([]);
    },
  );

  test('and a workspace that was copied to another disk, what it had not yet renamed is there', async () => {
    const id = await left(false);
    const moved = path.join(host.root, 'elsewhere');
    await cp(host.workspace(), moved, { recursive: true });
    await rm(host.workspace(), { recursive: true });
    await moveTo(moved);
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await filesIn(moved)).toEqual([nameOf(id)]);
  });

  test('and a workspace that is another one since, while the old one is empty, it is delivered into the new', async () => {
    const id = await left(false);
    const moved = path.join(host.root, 'elsewhere');
    await mkdir(moved);
    await moveTo(moved);
    await unmount();
    expect(await host.pull()).toMatchObject({ ok: true, delivered: 1 });
    expect(await filesIn(moved)).toEqual([nameOf(id)]);
    expect(await readdir(host.workspace())).toEqual([]);
  });
});
