import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { failedWith } from '../../src/errors.ts';
import { checkMovable, lookAtFile, moveToArchive } from '../../src/openclaw/archive.ts';

let directory: string;
let file: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-archive-'));
  file = path.join(directory, 'x.jsonl');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

/** Everything that lies in the directory and in its archive/. */
async function contents(): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) found.push(await readFile(path.join(entry.parentPath, entry.name), 'utf8'));
  return found;
}

test('a file keeps its bytes and times, and its old name is free', async () => {
  await writeFile(file, 'one');
  const { mtimeMs } = await stat(file);
  const { place } = await moveToArchive(file, (await lookAtFile(file)).identity);
  expect(place).toBe(path.join(directory, 'archive', 'x.jsonl'));
  expect((await stat(place)).mtimeMs).toBe(mtimeMs);
  expect(await readdir(directory)).toEqual(['archive']);
  expect(await readdir(path.dirname(place))).toEqual(['x.jsonl']);
});

test('a file that is not the one that was compared stays', async () => {
  await writeFile(file, 'one');
  const { identity } = await lookAtFile(file);
  await writeFile(file, 'other');
  await expect(moveToArchive(file, identity)).rejects.toMatchObject({ code: 'changed' });
  expect(await readFile(file, 'utf8')).toBe('other');
});

test('what OpenClaw puts in its place while it is moved is never lost', async () => {
  for (let round = 0; round < 25; round++) {
    const [old, fresh] = [`old ${round}`, `fresh ${round}`];
    await writeFile(file, old);
    const { identity } = await lookAtFile(file);
    const beside = path.join(directory, 'beside.tmp');
    await writeFile(beside, fresh);
    const moving = moveToArchive(file, identity).catch((error: unknown) => {
      if (!failedWith(error, 'changed')) throw error;
    });
    await sleep(round / 5);
    await rename(beside, file);
    await moving;
    expect(await contents(), `round ${round}`).toContain(fresh);
  }
});

test('a directory that is closed, or an archive that is none, is refused before anything is read', async () => {
  await writeFile(file, 'one');
  await writeFile(path.join(directory, 'archive'), 'a file');
  await expect(checkMovable(file)).rejects.toMatchObject({ code: 'forbidden' });
  await rm(path.join(directory, 'archive'));
  await mkdir(path.join(directory, 'archive'));
  await expect(checkMovable(file)).resolves.toBeUndefined();
});
