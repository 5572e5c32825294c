import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { type AgentLag, fewAgents, type HostReport, mostAgents, seriesOf } from '../../src/jobreports.ts';
import { textOf, writeTextfile } from '../../src/jobs/textfile.ts';
import { readExposition } from '../prometheus.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'nexus-textfile-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
});

test('whatever a host is called, what is read is what was written', () => {
  // What means something in the format, often, and anything else.
  const letter = fc.oneof(
    fc.constantFrom('"', '\\', '\n', '\r', 'n', '{', '}', ',', '=', ' '),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
  );
  const reports = fc.uniqueArray(
    fc.record({
      host: fc.string({ unit: letter, minLength: 1, maxLength: 30 }),
      failures: fc.nat(),
      endedAt: fc.nat(),
      seconds: fc.double({ min: 0, max: 1e9, noNaN: true }),
    }),
    { selector: ({ host }) => host, minLength: 1 },
  );
  fc.assert(
    fc.property(reports, (some) => {
      const full = some.map((one): HostReport => ({ ...one, job: 'upload', failedItems: 0, agents: [] }));
      const seen = readExposition(textOf(seriesOf(full)));
      for (const { host, failures, endedAt, seconds } of some) {
        const labels = { host, job: 'upload' };
        expect(seen.value('nexus_job_consecutive_failures', labels)).toBe(failures);
        expect(seen.value('nexus_job_last_run_timestamp_seconds', labels)).toBe(endedAt / 1000);
        expect(seen.value('nexus_job_last_run_duration_seconds', labels)).toBe(seconds);
      }
    }),
  );
});

test('more agents than a report takes are one, and nothing of them is left out', () => {
  const lags: AgentLag[] = Array.from({ length: 300 }, (_, n) => ({
    agent: `a${n}`,
    unshipped: n,
    ...(n % 2 === 0 ? { oldestAt: 1000 + n } : {}),
    untold: 1,
  }));
  const few = fewAgents(lags);
  expect(few).toHaveLength(mostAgents);
  expect(new Set(few.map(({ agent }) => agent)).size).toBe(mostAgents);
  const sum = (of: AgentLag[]) => of.reduce((total, { unshipped, untold }) => total + unshipped + untold, 0);
  expect(sum(few)).toBe(sum(lags));
  expect(few[0]).toMatchObject({ agent: 'a0', oldestAt: 1000 });
  expect(few.at(-1)).toMatchObject({ agent: '_other' });
});

test('anybody may read it, whatever the umask, and nothing else is left beside it', async () => {
  const file = path.join(directory, 'nexus.prom');
  const before = process.umask(0o077);
  onTestFinished(() => void process.umask(before));
  await writeTextfile(file, 'one\n');
  await writeTextfile(file, 'two\n');
  expect(await readFile(file, 'utf8')).toBe('two\n');
  expect((await stat(file)).mode & 0o777).toBe(0o644);
  expect(await readdir(directory)).toEqual(['nexus.prom']);
});

test('who reads while it is written finds the one or the other, whole', async () => {
  const file = path.join(directory, 'nexus.prom');
  const texts = ['a', 'b'].map((letter) => letter.repeat(200_000));
  await writeTextfile(file, texts[0] ?? '');
  const writing = Promise.all(Array.from({ length: 100 }, (_, n) => writeTextfile(file, texts[n % 2] ?? '')));
  for (let n = 0; n < 100; n++) expect(texts).toContain(await readFile(file, 'utf8'));
  await writing;
  expect(await readdir(directory)).toEqual(['nexus.prom']);
});

test('one that cannot be written says which and why, and leaves nothing', async () => {
  await expect(writeTextfile(path.join(directory, 'none', 'nexus.prom'), 'x')).rejects.toThrow(
    /cannot be written to .*none\/nexus\.prom \(ENOENT\)/,
  );
  await mkdir(path.join(directory, 'nexus.prom'));
  await writeFile(path.join(directory, 'nexus.prom', 'in the way'), '');
  await expect(writeTextfile(path.join(directory, 'nexus.prom'), 'x')).rejects.toThrow('cannot be written');
  expect(await readdir(directory)).toEqual(['nexus.prom']);
});
