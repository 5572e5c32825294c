import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test } from 'vitest';
import { newMachine } from './nexus.ts';

const demo = path.resolve(import.meta.dirname, '..', 'demo', 'demo.mjs');

/** Processes whose environment names this directory, as Linux tells. */
async function processesOf(directory: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    // A process that has ended meanwhile, or another user's, is none of the demo's.
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (environment.includes(directory)) found.push(Number(pid));
  }
  return found;
}

test('the demo archives, serves, ships and finds all well, names the transcripts, and is gone with all its processes', async () => {
  const { home } = await newMachine();
  onTestFinished(async () => {
    for (const pid of await processesOf(home)) process.kill(pid, 'SIGKILL');
  });
  const ran = await execa(process.execPath, [demo], {
    cwd: home,
    env: { PATH: process.env['PATH'] ?? '', TMPDIR: home },
    extendEnv: false,
    reject: false,
    timeout: 15_000,
    stdin: 'ignore',
  });
  expect(ran).toMatchObject({ exitCode: 0 });
  const { stdout } = ran;
  expect(stdout).toContain(
    'backfill: 45 transcripts stored (112 KiB), 28 already there, 0 skipped, 0 failed',
  );
  expect(stdout).toMatch(/^200 \{"status":"ok",.*"path":"inbox\/flickclaw\//m);
  expect(stdout).toContain('\nAll is well.\n');

  const [, inbox = ''] = /\n {2}\$ ls (\S+)\n/.exec(stdout) ?? [];
  expect((await stat(inbox)).isDirectory()).toBe(true);
  for (const agent of ['flickclaw', 'main', 'research']) {
    const [, count, name = ''] =
      new RegExp(`^${agent}: (\\d+) transcripts, e\\.g\\. (\\S+)$`, 'm').exec(stdout) ?? [];
    const files = await readdir(path.join(inbox, agent));
    expect(files).toHaveLength(Number(count));
    expect(files).toContain(name);
  }
  const [, endpoint = ''] = /\$ curl -X POST (http:\/\/127\.0\.0\.1:\d+)/.exec(stdout) ?? [];
  await expect(fetch(`${endpoint}/healthz`)).rejects.toThrow('fetch failed');
  expect(await processesOf(home)).toEqual([]);
});
