import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { type Read, readJournal, readJsonLog } from '../logparse.ts';
import { binary } from './nexus.ts';

export type LogFormat = 'journal' | 'json' | 'people';

export interface Logged {
  status: number | undefined;
  stdout: string;
  stderr: string;
  /** What stderr says, read strictly; nothing of what is for people. */
  entries: Read[];
}

export interface LoggedOptions {
  format?: LogFormat;
  env?: Record<string, string>;
  /** stdout is the journal too, as in a unit. */
  asUnit?: boolean;
  /** Called when it runs; it is told to stop when that is over. */
  meanwhile?: (stderr: () => Promise<string>) => Promise<void>;
}

/**
 * Runs the built binary with files below stdout and stderr. Under `journal` JOURNAL_STREAM names the one below stderr,
 * as systemd would; else another, as a child of a service would inherit it.
 */
export async function logged(
  home: string,
  args: readonly string[],
  { format = 'journal', env = {}, asUnit = false, meanwhile }: LoggedOptions = {},
): Promise<Logged> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nexus-log-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const [out, err] = [path.join(directory, 'out'), path.join(directory, 'err')];
  const [stdout, stderr] = [await open(out, 'a'), await open(err, 'a')];
  try {
    const { dev, ino } = await stat(format === 'journal' ? err : directory, { bigint: true });
    const child = spawn(process.execPath, [binary, ...args], {
      cwd: home,
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        JOURNAL_STREAM: `${dev}:${ino}`,
        ...(format === 'json' ? { NEXUS_LOG_FORMAT: 'json' } : {}),
        ...env,
      },
      stdio: ['ignore', asUnit ? stderr.fd : stdout.fd, stderr.fd],
    });
    const ended = once(child, 'exit');
    if (meanwhile !== undefined) {
      try {
        await meanwhile(() => readFile(err, 'utf8'));
      } finally {
        child.kill('SIGTERM');
      }
    }
    await ended;
    const text = await readFile(err, 'utf8');
    return {
      status: child.exitCode ?? undefined,
      stdout: await readFile(out, 'utf8'),
      stderr: text,
      entries: format === 'journal' ? readJournal(text) : format === 'json' ? readJsonLog(text) : [],
    };
  } finally {
    await stdout.close();
    await stderr.close();
  }
}
