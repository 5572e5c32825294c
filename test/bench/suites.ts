import { spawnSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type Bench, binary, type Figure, middleOf, repeated, spreadOf } from './figure.ts';
import { type Measured, measure, medians } from './measure.ts';
import { makeState } from './state.ts';

/** In the order in which they are measured. */
export const suites: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  archive,
  idle,
  memory,
  start,
  azure,
  webhooks,
  usage,
};

/** To Azurite; `quick` takes a twentieth, for who changes the bench. */
async function azure({ place, quick, leave }: Bench): Promise<Figure[]> {
  const { azureFigures } = await import('./azure.ts');
  const part = quick ? 20 : 1;
  return await azureFigures(place, { plain: 5_000 / part, faulty: 50_000 / part }, leave);
}

/** Signed webhooks at the door, and a full mailbox on its way to the inbox. */
async function webhooks({ place, quick }: Bench): Promise<Figure[]> {
  const { webhookFigures } = await import('./webhooks.ts');
  const part = quick ? 20 : 1;
  return await webhookFigures(place, {
    requests: 30_000 / part,
    azure: 3_000 / part,
    pending: 10_000 / part,
  });
}

/** The first index of 1.3 GB, a warm query over it, and an append beside the feed. */
async function usage({ root, place, quick, leave }: Bench): Promise<Figure[]> {
  const { usageFigures } = await import('./usage.ts');
  const figures = await usageFigures(place, 1.3e9 / (quick ? 20 : 1), leave);
  await rm(path.join(root, 'usage'), { recursive: true });
  return figures;
}

/** 1 GiB in 5,000 transcripts into a fresh embedded store, beside rclone and cp of the same files. */
async function archive({ root, place, quick, leave }: Bench): Promise<Figure[]> {
  const { stateDir, nexus } = place('archive');
  const count = quick ? 500 : 5_000;
  const sessions = await makeState(stateDir, count, 214_748);
  const rclones = spawnSync('rclone', ['version']).status === 0;
  if (!rclones) leave('rclone is not installed (Debian: rclone)');
  const at = (name: string): string => path.join(root, 'archive', name);
  let bytes = 0;
  // By turns, so that what else the machine does meets all of them.
  const rounds = await repeated(async (round) => {
    const ours = await nexus(['backfill', '--json'], { afterUpload: 'keep', dataDir: at(`data-${round}`) });
    bytes = JSON.parse(ours.stdout).bytes;
    const cp = await measure('sh', ['-c', `cp -r "$0" "$1" && sync`, sessions, at(`copied-${round}`)]);
    const copy = ['copy', '--config', '/dev/null', sessions, at(`rclone-${round}`)];
    const rclone = rclones ? await measure('rclone', copy) : undefined;
    for (const name of ['data', 'copied', 'rclone'])
      await rm(at(`${name}-${round}`), { recursive: true, force: true });
    return { ours: ours.ms, cp: cp.ms, rclone: rclone?.ms };
  });
  await rm(path.join(root, 'archive'), { recursive: true });
  const ours = middleOf(rounds.map((round) => round.ours));
  const size = `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
  const what = `backfill of ${count.toLocaleString('en-US')} transcripts, ${size}`;
  const beside = (peer: 'cp' | 'rclone', against: string, said: string): Figure => {
    const ratios = rounds.map((round) => round.ours / (round[peer] ?? 1));
    const theirs = middleOf(rounds.map((round) => round[peer] ?? 0));
    return {
      what,
      value: `${inSeconds(ours)}${said}`,
      against: `${against}: ${inSeconds(theirs)}`,
      ratio: middleOf(ratios),
      ...spreadOf(ratios),
    };
  };
  const speed = ` (${(bytes / 1024 / 1024 / (ours / 1000)).toFixed(0)} MiB/s, every byte synced)`;
  return [
    beside('cp', 'cp -r and sync', speed),
    ...(rclones ? [beside('rclone', 'rclone copy, nothing synced', '')] : []),
  ];
}

/** A run with nothing to do over 50,000 shipped transcripts. */
async function idle({ root, place, quick }: Bench): Promise<Figure[]> {
  const { stateDir, nexus } = place('idle');
  const count = quick ? 5_000 : 50_000;
  await makeState(stateDir, count, 300);
  const settings = { afterUpload: 'keep', concurrency: 16 };
  await nexus(['backfill', '--json'], settings);
  const { idle: run } = await medians(3, { idle: () => nexus(['upload', '--json'], settings) });
  await rm(path.join(root, 'idle'), { recursive: true });
  const { median: ms = 0, least = 0, most = 0 } = run ?? {};
  return [
    {
      what: `upload with nothing to do over ${count.toLocaleString('en-US')}`,
      value: inSeconds(ms),
      against: '1 s',
      ratio: ms / 1000,
      ...spreadOf([least / 1000, ms / 1000, most / 1000]),
      goal: '<= 1',
      met: ms <= 1000,
    },
  ];
}

/** One transcript of 1 GiB, into the embedded store and over HTTP. */
async function memory({ root, place, quick }: Bench): Promise<Figure[]> {
  const { stateDir, nexus, serve } = place('memory');
  await makeState(stateDir, 1, 1024 ** 3 / (quick ? 8 : 1));
  const at = (name: string): string => path.join(root, 'memory', name);
  const figure = (how: string, runs: Measured[]): Figure => {
    const peak = middleOf(runs.map(({ peakMiB }) => peakMiB));
    return {
      what: `peak memory, a transcript of ${quick ? '128 MiB' : '1 GiB'}, ${how}`,
      value: `${peak.toFixed(0)} MiB in ${inSeconds(middleOf(runs.map(({ ms }) => ms)))}`,
      against: '150 MiB',
      ratio: peak / 150,
      ...spreadOf(runs.map(({ peakMiB }) => peakMiB / 150)),
      goal: '<= 1',
      met: peak <= 150,
    };
  };
  const backfill = (settings: object): Promise<Measured> =>
    nexus(['backfill', '--json'], { afterUpload: 'keep', ...settings });
  const embedded = await repeated(async (round) => {
    const run = await backfill({ dataDir: at(`embedded-${round}`) });
    await rm(at(`embedded-${round}`), { recursive: true });
    return run;
  });
  const overHttp = await repeated(async (round) => {
    const endpoint = await serve(at(`endpoint-${round}`));
    try {
      return await backfill({ dataDir: at(`http-${round}`), endpoint: endpoint.url });
    } finally {
      await endpoint.stop();
      await rm(at(`endpoint-${round}`), { recursive: true });
    }
  });
  await rm(path.join(root, 'memory'), { recursive: true });
  return [figure('embedded', embedded), figure('over HTTP', overHttp)];
}

/** From nothing to the first answer. */
async function start({ place }: Bench): Promise<Figure[]> {
  const { stateDir, nexus } = place('start');
  await makeState(stateDir, 10, 300);
  await nexus(['upload', '--json'], {});
  const runs = await medians(15, {
    bare: () => measure(process.execPath, ['-e', '0']),
    version: () => measure(process.execPath, [binary, '--version']),
    upload: () => nexus(['upload'], {}),
  });
  const bare = runs['bare']?.median ?? 1;
  return (
    [
      ['version', 2],
      ['upload', 4],
    ] as const
  ).map(([name, goal]) => {
    const { median: ms = 0, least = 0, most = 0 } = runs[name] ?? {};
    return {
      what: name === 'version' ? 'nexus --version' : 'nexus upload, nothing to do',
      value: `${ms.toFixed(0)} ms`,
      against: `node -e 0: ${bare.toFixed(0)} ms`,
      ratio: ms / bare,
      spread: `${(least / bare).toFixed(2)}–${(most / bare).toFixed(2)}x of 15`,
      goal: `<= ${goal}`,
      met: ms / bare <= goal,
    };
  });
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
