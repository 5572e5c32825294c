// `npm run bench [-- archive idle memory start azure webhooks usage]`: figures are ratios against a peer or a limit of the same run.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type Measured, measure, medians } from './measure.ts';
import { makeState } from './state.ts';

export interface Figure {
  what: string;
  value: string;
  against: string;
  ratio?: number;
  goal?: string;
  met?: boolean;
}

const project = path.resolve(import.meta.dirname, '..', '..');
const binary = path.join(project, 'bin', 'nexus.js');
const root = await mkdtemp(path.join(tmpdir(), 'nexus-bench-'));
const figures: Figure[] = [];
const left: string[] = [];
const suites: Record<string, () => Promise<void>> = {
  archive,
  idle,
  memory,
  start,
  azure,
  webhooks,
  usage,
};

const wanted = process.argv.slice(2).filter((name) => !name.startsWith('-'));
const unknown = wanted.filter((name) => suites[name] === undefined);
if (unknown.length > 0) {
  process.stderr.write(
    `There is no bench ${unknown.join(', ')}; there are ${Object.keys(suites).join(', ')}.\n`,
  );
  process.exitCode = 64;
} else
  try {
    for (const name of wanted.length > 0 ? wanted : Object.keys(suites)) {
      process.stderr.write(`bench: ${name}\n`);
      await suites[name]?.();
    }
    await print();
  } finally {
    await rm(root, { recursive: true, force: true });
  }

/** To Azurite; `--quick` takes a twentieth, for who changes the bench. */
async function azure(): Promise<void> {
  const { azureFigures } = await import('./azure.ts');
  const part = process.argv.includes('--quick') ? 20 : 1;
  const counts = { plain: 5_000 / part, faulty: 50_000 / part };
  figures.push(...(await azureFigures(place, counts, (reason) => left.push(reason))));
}

/** Signed webhooks at the door, and a full mailbox on its way to the inbox. */
async function webhooks(): Promise<void> {
  const { webhookFigures } = await import('./webhooks.ts');
  const part = process.argv.includes('--quick') ? 10 : 1;
  const counts = { requests: 30_000 / part, azure: 3_000 / part, pending: 10_000 / part };
  figures.push(...(await webhookFigures(place, counts)));
}

/** The first index of 1.3 GB, a warm query over it, and an append beside the feed. */
async function usage(): Promise<void> {
  const { usageFigures } = await import('./usage.ts');
  const part = process.argv.includes('--quick') ? 20 : 1;
  figures.push(...(await usageFigures(place, 1.3e9 / part, (reason) => left.push(reason))));
  await rm(path.join(root, 'usage'), { recursive: true });
}

/** 1 GiB in 5,000 transcripts into a fresh embedded store, beside rclone and cp of the same files. */
async function archive(): Promise<void> {
  const { stateDir, nexus } = place('archive');
  const sessions = await makeState(stateDir, 5_000, 214_748);
  const ours = await nexus(['backfill', '--json'], { afterUpload: 'keep' });
  const { bytes }: { bytes: number } = JSON.parse(ours.stdout);
  const speed = `${(bytes / 1024 / 1024 / (ours.ms / 1000)).toFixed(0)} MiB/s, every byte synced`;
  const copied = path.join(root, 'archive', 'copied');
  const cp = await measure('sh', ['-c', `cp -r "$0" "$1" && sync`, sessions, copied]);
  const what = 'backfill of 5,000 transcripts, 1 GiB';
  figures.push({
    what,
    value: `${seconds(ours)} (${speed})`,
    against: `cp -r and sync: ${seconds(cp)}`,
    ratio: ours.ms / cp.ms,
  });
  if (spawnSync('rclone', ['version']).status !== 0) left.push('rclone is not installed (Debian: rclone)');
  else {
    const target = path.join(root, 'archive', 'rclone');
    const rclone = await measure('rclone', ['copy', '--config', '/dev/null', sessions, target]);
    figures.push({
      what,
      value: seconds(ours),
      against: `rclone copy, nothing synced: ${seconds(rclone)}`,
      ratio: ours.ms / rclone.ms,
    });
  }
  await rm(path.join(root, 'archive'), { recursive: true });
}

/** A run with nothing to do over 50,000 shipped transcripts. */
async function idle(): Promise<void> {
  const { stateDir, nexus } = place('idle');
  await makeState(stateDir, 50_000, 300);
  const settings = { afterUpload: 'keep', concurrency: 16 };
  await nexus(['backfill', '--json'], settings);
  const runs = await medians(3, { idle: () => nexus(['upload', '--json'], settings) });
  const ms = runs['idle']?.median ?? 0;
  figures.push({
    what: 'upload with nothing to do over 50,000',
    value: `${(ms / 1000).toFixed(2)} s`,
    against: '1 s',
    ratio: ms / 1000,
    goal: '<= 1',
    met: ms <= 1000,
  });
  await rm(path.join(root, 'idle'), { recursive: true });
}

/** One transcript of 1 GiB, into the embedded store and over HTTP. */
async function memory(): Promise<void> {
  const { stateDir, nexus, serve } = place('memory');
  await makeState(stateDir, 1, 1024 ** 3);
  const note = (how: string, run: Measured) =>
    figures.push({
      what: `peak memory, a transcript of 1 GiB, ${how}`,
      value: `${run.peakMiB.toFixed(0)} MiB in ${seconds(run)}`,
      against: '150 MiB',
      ratio: run.peakMiB / 150,
      goal: '<= 1',
      met: run.peakMiB <= 150,
    });
  note('embedded', await nexus(['backfill', '--json'], { afterUpload: 'keep' }));
  const endpoint = await serve(path.join(root, 'memory', 'endpoint'));
  try {
    note('over HTTP', await nexus(['backfill', '--json'], { afterUpload: 'keep', endpoint: endpoint.url }));
  } finally {
    await endpoint.stop();
  }
  await rm(path.join(root, 'memory'), { recursive: true });
}

/** From nothing to the first answer. */
async function start(): Promise<void> {
  const { stateDir, nexus } = place('start');
  await makeState(stateDir, 10, 300);
  await nexus(['upload', '--json'], {});
  const runs = await medians(15, {
    bare: () => measure(process.execPath, ['-e', '0']),
    version: () => measure(process.execPath, [binary, '--version']),
    upload: () => nexus(['upload'], {}),
  });
  const bare = runs['bare']?.median ?? 1;
  for (const [name, goal] of [
    ['version', 2],
    ['upload', 4],
  ] as const) {
    const ms = runs[name]?.median ?? 0;
    const what = name === 'version' ? 'nexus --version' : 'nexus upload, nothing to do';
    figures.push({
      what,
      value: `${ms.toFixed(0)} ms`,
      against: `node -e 0: ${bare.toFixed(0)} ms`,
      ratio: ms / bare,
      goal: `<= ${goal}`,
      met: ms / bare <= goal,
    });
  }
}

/** A directory of its own, and nexus run in it. */
export interface Place {
  stateDir: string;
  nexus: (args: string[], settings: object) => Promise<Measured>;
  /** An endpoint over a store in this directory, on a free port of loopback. */
  serve: (dataDir: string) => Promise<{ url: string; stop: () => Promise<void> }>;
}

function place(name: string): Place {
  const home = path.join(root, name);
  const stateDir = path.join(home, '.openclaw');
  return {
    stateDir,
    async nexus(args, settings) {
      const config = path.join(home, 'config.json');
      await mkdir(home, { recursive: true });
      await writeFile(config, JSON.stringify(settings), { mode: 0o600 });
      const env = {
        PATH: process.env['PATH'],
        HOME: home,
        NEXUS_CONFIG: config,
        OPENCLAW_STATE_DIR: stateDir,
      };
      const run = await measure(process.execPath, [binary, ...args], env);
      if (run.status !== 0)
        throw new Error(`nexus ${args.join(' ')} ended with status ${run.status}: ${run.stdout}`);
      return run;
    },
    async serve(dataDir) {
      const env = { PATH: process.env['PATH'], HOME: home, NEXUS_DATA_DIR: dataDir };
      const child = spawn(process.execPath, [binary, 'serve', '--port', '0'], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const ended = once(child, 'exit');
      for await (const line of createInterface({ input: child.stderr })) {
        const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
        if (url === undefined) continue;
        child.stderr.resume();
        return {
          url,
          stop: async () => {
            child.kill('SIGTERM');
            await ended;
          },
        };
      }
      throw new Error('nexus serve ended before it listened.');
    },
  };
}

function seconds({ ms }: Measured): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

async function print(): Promise<void> {
  const rows = figures.map(({ what, value, against, ratio, goal, met }) => [
    what,
    value,
    against,
    ratio === undefined ? '' : `${ratio.toFixed(2)}x`,
    goal === undefined ? '' : `${goal}: ${met === true ? 'met' : 'missed'}`,
  ]);
  const titles = ['what', 'measured', 'against', 'ratio', 'goal'];
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  for (const row of [titles, ...rows])
    process.stdout.write(
      `${row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd()}\n`,
    );
  for (const reason of left) process.stdout.write(`left out: ${reason}\n`);
  const machine = {
    node: process.version,
    cpus: cpus().length,
    cpu: cpus()[0]?.model,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
  };
  const results = path.join(import.meta.dirname, 'results');
  await mkdir(results, { recursive: true });
  const file = path.join(results, `${new Date().toISOString().replaceAll(':', '-')}.json`);
  await writeFile(file, `${JSON.stringify({ machine, figures, left }, null, 2)}\n`);
  process.stdout.write(`written to ${path.relative(project, file)}\n`);
}
