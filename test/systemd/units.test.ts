import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { marked, standingOf, writeMarked } from '../../src/systemd/unitfiles.ts';
import { commandWord, pathWord, plainWord, restOfLine, word } from '../../src/systemd/units.ts';
import { analyzes } from './machine.ts';
import { newDryMachine } from './installed.ts';

/** How exposed a unit may be, of 10. */
const bar = 1.5;

async function written(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ directory: string; files: string[] }> {
  const { units } = await newDryMachine();
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-units-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const files: string[] = [];
  for (const [unit, text] of await units(args, env)) {
    files.push(path.join(directory, unit));
    await writeFile(path.join(directory, unit), text);
  }
  return { directory, files };
}

test.skipIf(!analyzes)(
  'systemd finds nothing wrong with the units, of the system and of a user',
  async () => {
    for (const args of [
      ['--system', '--role', 'both'],
      ['--user', '--role', 'both'],
    ]) {
      const { directory, files } = await written(args);
      const scope = args[0] === '--user' ? ['--user'] : [];
      const { exitCode, all } = await execa('systemd-analyze', ['verify', '--man=no', ...scope, ...files], {
        reject: false,
        all: true,
        env: { SYSTEMD_UNIT_PATH: `${directory}:`, XDG_RUNTIME_DIR: directory },
      });
      expect(all).toBe('');
      expect(exitCode).toBe(0);
      expect(files).toHaveLength(9);
    }
  },
);

test.skipIf(!analyzes)('every service is as closed as it is meant to be', async () => {
  // With as much network as any configuration needs.
  const env = { NEXUS_ENDPOINT: 'https://nexus.example.com' };
  const { files } = await written(['--system', '--role', 'both'], env);
  const scores: Record<string, number> = {};
  for (const file of files.filter((one) => one.endsWith('.service'))) {
    const { stdout } = await execa('systemd-analyze', ['security', '--offline=yes', '--no-pager', file], {
      reject: false,
    });
    scores[path.basename(file)] = Number(/exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
  }
  process.stderr.write(`${JSON.stringify(scores)}\n`);
  expect(Object.keys(scores)).toHaveLength(6);
  for (const score of Object.values(scores)) expect(score).toBeLessThanOrEqual(bar);
});

test('whatever a path holds, systemd reads it as one word', () => {
  expect(word('/a b/"c"\\')).toBe('"/a b/\\"c\\"\\\\"');
  expect(word('/a%b')).toBe('/a%%b');
  expect(commandWord('/a$b')).toBe('"/a$$b"');
  expect(pathWord('/a:b')).toBe('"-/a:b"');
  expect(restOfLine('/a b%c"')).toBe('/a b%%c"');
  expect(() => restOfLine('/a\nUser=root')).toThrow('cannot stand in a unit file');
  expect(() => word('/a\nUser=root')).toThrow('cannot stand in a unit file');
  for (const text of ['/plain', '/a b', '/a%b"c\\d', "/it's"]) expect(plainWord(word(text))).toBe(text);
});

test('a unit that somebody changed is told from one that Nexus wrote', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-units-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await mkdir(directory, { recursive: true });
  const file = path.join(directory, 'nexus-x.service');
  expect(await standingOf(file, 'one\n')).toBe('absent');
  await writeMarked(file, 'one\n');
  expect(await standingOf(file, 'one\n')).toBe('same');
  expect(await standingOf(file, 'two\n')).toBe('older');
  await writeFile(file, `${marked('one\n')}mine\n`);
  expect(await standingOf(file, 'one\n')).toBe('edited');
  expect(await standingOf(file, 'two\n')).toBe('outdated');
  await writeFile(file, 'mine\n');
  expect(await standingOf(file, 'one\n')).toBe('foreign');
});
