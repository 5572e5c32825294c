import { execFile } from 'node:child_process';
import { cpus, release, totalmem, type } from 'node:os';
import { promisify } from 'node:util';

/** What the figures were measured on. */
export interface Machine {
  node: string;
  sqlite: string;
  system: string;
  cpu: string;
  cpus: number;
  memoryGiB: number;
  /** Of what was proved; with `+changed` where files differed from it. Absent outside a clone. */
  commit?: string;
}

export async function machineOf(): Promise<Machine> {
  const commit = await commitHere();
  return {
    node: process.version,
    sqlite: process.versions.sqlite ?? '',
    system: `${type()} ${release()}`,
    cpu: cpus()[0]?.model ?? '',
    cpus: cpus().length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    ...(commit === undefined ? {} : { commit }),
  };
}

async function commitHere(): Promise<string | undefined> {
  const git = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)('git', args, { cwd: import.meta.dirname })).stdout.trim();
  try {
    const changed = await git(
      'status',
      '--porcelain',
      '--untracked-files=no',
      '--',
      ':!REPORT.md',
      ':!report.json',
    );
    return `${await git('rev-parse', '--short=12', 'HEAD')}${changed === '' ? '' : '+changed'}`;
  } catch {
    // An unpacked archive has no git.
    return undefined;
  }
}
