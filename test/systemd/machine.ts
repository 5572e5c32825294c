import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import { TestRunner } from 'vitest';

const project = path.resolve(import.meta.dirname, '..', '..');

/** `systemd-analyze` is at hand, as it is in CI. */
export const analyzes = existsSync('/usr/bin/systemd-analyze') || process.env['CI'] !== undefined;

/** A systemd can be run here, as it can in CI: it takes root. */
export const boots =
  (process.geteuid?.() === 0 && existsSync('/lib/systemd/systemd')) || process.env['CI'] !== undefined;

export interface Ran {
  status: number | undefined;
  stdout: string;
  stderr: string;
}

export interface Line {
  message: string;
  /** Of syslog: 3 error, 4 warning, 6 info. */
  priority: number;
  /** `nexus`, `systemd`, … */
  by: string;
}

/** A machine of its own, with a systemd of its own, for one test. */
export interface SystemdMachine {
  /** Runs a program there, as root unless said; the environment is that of a login. */
  run: (
    command: readonly string[],
    options?: { user?: string; env?: Record<string, string> },
  ) => Promise<Ran>;
  /** The same; throws where the status is not 0. Resolves with stdout. */
  must: (
    command: readonly string[],
    options?: { user?: string; env?: Record<string, string> },
  ) => Promise<string>;
  /** A shell's script, as root. */
  sh: (script: string) => Promise<string>;
  /** The built binary. */
  nexus: (args: readonly string[], options?: { user?: string; env?: Record<string, string> }) => Promise<Ran>;
  /** What the journal holds of a unit. */
  journal: (unit: string) => Promise<Line[]>;
  /** Properties of a unit, as `systemctl show` has them. */
  unit: (name: string) => Promise<Record<string, string>>;
  /** Resolves when the look answers something else than undefined or false; asks four times a second. */
  until: <T>(look: () => Promise<T | undefined | false>, ms?: number) => Promise<T>;
}

/** What it takes to end a machine. */
const graceMs = 5000;

/**
 * Boots a systemd in namespaces of its own over a copy of this machine, does the work, and ends it by its pid. What
 * the work writes is gone with it. No network but its own loopback. It throws before the test's time is up: a test that
 * times out is left where it stands, and the machine with it.
 */
export async function withSystemd<T>(
  work: (machine: SystemdMachine) => Promise<T>,
  limit = AbortSignal.timeout((TestRunner.getCurrentTest()?.timeout ?? 60_000) - graceMs),
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  limit.addEventListener('abort', () => reject(new Error('The work was not done in time.')));
  const mounts = await mkdtemp(path.join(tmpdir(), 'nexus-cgroup-'));
  const root = await cgroupRoot(mounts);
  const group = path.join(root, `nexus-test-${process.pid}-${Date.now()}`);
  const started = execa(
    '/bin/sh',
    [path.join(import.meta.dirname, 'boot.sh'), 'outer', project, process.execPath, group],
    { reject: false, stdin: 'ignore', all: true },
  );
  let ended = false;
  const end = started.then((result) => {
    ended = true;
    return result.all;
  });
  try {
    const init = await firstProcess(started.pid ?? -1, () => ended);
    const machine = machineAt(init, limit);
    const done = async () => {
      await machine.until(
        async () =>
          /^(running|degraded)/.test((await machine.run(['systemctl', 'is-system-running'])).stdout),
        20_000,
      );
      return await work(machine);
    };
    return await Promise.race([done(), late]);
  } catch (error) {
    if (!ended) throw error;
    throw new Error(`The machine ended: ${await end}`, { cause: error });
  } finally {
    // The namespace's first process goes with it, and with that one all others.
    started.kill('SIGKILL');
    await end;
    await removeGroups(group);
    if (root.startsWith(mounts)) await execa('umount', [root], { reject: false });
    await rm(mounts, { recursive: true, force: true });
  }
}

/** Where control groups of version 2 are; mounted for this where they are not. */
async function cgroupRoot(mounts: string): Promise<string> {
  for (const line of (await readFile('/proc/self/mounts', 'utf8')).split('\n')) {
    const [, place, type, options = ''] = line.split(' ');
    if (type === 'cgroup2' && place !== undefined && /(^|,)rw(,|$)/.test(options)) return place;
  }
  await execa('mount', ['-t', 'cgroup2', 'none', mounts]);
  return mounts;
}

async function removeGroups(group: string): Promise<void> {
  if (!existsSync(group)) return;
  const below = (await readdir(group, { withFileTypes: true, recursive: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => path.join(entry.parentPath, entry.name));
  // The kernel takes a moment to bury the last processes.
  for (const directory of [...below.toSorted((a, b) => b.length - a.length), group])
    for (let tries = 0; tries < 40 && existsSync(directory); tries++)
      await rmdir(directory).catch(() => delay(50));
}

/** The pid, here, of the machine's first process. */
async function firstProcess(outer: number, ended: () => boolean): Promise<number> {
  for (let tries = 0; tries < 100 && !ended(); tries++) {
    try {
      const children = await readFile(`/proc/${outer}/task/${outer}/children`, 'utf8');
      const child = Number(children.trim().split(' ')[0]);
      if (child > 0 && (await readFile(`/proc/${child}/comm`, 'utf8')).trim() === 'systemd') return child;
    } catch (error) {
      if (ended()) throw error;
    }
    await delay(50);
  }
  throw new Error('No systemd came up.');
}

function machineAt(init: number, limit: AbortSignal): SystemdMachine {
  const inside = ['-t', String(init), '--mount', '--pid', '--uts', '--ipc', '--net', '--cgroup'];
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

  async function run(
    command: readonly string[],
    { user, env = {} }: { user?: string; env?: Record<string, string> } = {},
  ): Promise<Ran> {
    limit.throwIfAborted();
    const home = user === undefined ? '/root' : `/home/${user}`;
    const given = Object.entries({ PATH: path, HOME: home, LANG: 'C.UTF-8', ...env });
    const as = user === undefined ? [] : ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--init-groups'];
    const all = ['env', '-i', ...given.map(([name, value]) => `${name}=${value}`), ...as, ...command];
    const { exitCode, stdout, stderr } = await execa('nsenter', [...inside, '--wd=/', '--', ...all], {
      reject: false,
      stdin: 'ignore',
    });
    return { status: exitCode, stdout, stderr };
  }
  async function must(
    command: readonly string[],
    options?: { user?: string; env?: Record<string, string> },
  ): Promise<string> {
    const ran = await run(command, options);
    if (ran.status !== 0) throw new Error(`${command.join(' ')}: ${ran.status} ${ran.stdout}${ran.stderr}`);
    return ran.stdout;
  }
  return {
    run,
    must,
    sh: (script) => must(['/bin/sh', '-euc', script]),
    nexus: (args, options) => run(['/opt/node/node', '/opt/nexus/bin/nexus.js', ...args], options),
    async journal(unit) {
      await must(['journalctl', '--sync']);
      const text = await must(['journalctl', '-u', unit, '-o', 'json', '--all', '--no-pager']);
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => {
          const entry: Record<string, unknown> = JSON.parse(line);
          return {
            message: String(entry['MESSAGE']),
            priority: Number(entry['PRIORITY']),
            by: String(entry['SYSLOG_IDENTIFIER']),
          };
        });
    },
    async unit(name) {
      const text = await must(['systemctl', 'show', name]);
      return Object.fromEntries(
        text.split('\n').map((line) => {
          const at = line.indexOf('=');
          return [line.slice(0, at), line.slice(at + 1)];
        }),
      );
    },
    async until(look, ms = 15_000) {
      for (const end = Date.now() + ms; ; await delay(250)) {
        const found = await look();
        if (found !== undefined && found !== false) return found;
        if (Date.now() > end) throw new Error(`Not within ${ms} ms: ${look.toString()}`);
      }
    },
  };
}
