import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type Figure, type Place, spreadOf } from './figure.ts';
import { type Measured, measure, medians } from './measure.ts';
import { makeHistory } from './usagestate.ts';

const script = path.join(import.meta.dirname, 'usagerun.ts');
const rounds = 3;

/**
 * `nexus usage` that finds no index of a history, beside `ccusage openclaw daily` over the same files where NEXUS_CCUSAGE
 * names it (ccusage 20.0.24), turn by turn, and the best of each; then the same command, and queries, over the index.
 */
export async function usageFigures(
  place: (name: string) => Place,
  bytes: number,
  left: (reason: string) => void,
): Promise<Figure[]> {
  const { stateDir, nexus } = place('usage');
  await makeHistory(stateDir, bytes);
  const dataDir = path.join(stateDir, '..', 'data');
  const settings = { afterUpload: 'keep', dataDir };
  await nexus(['backfill', '--json'], settings);
  const daily = (): Promise<Measured> =>
    nexus(['usage', '--by', 'day,model', '--tz', 'UTC', '--json'], settings);
  const ccusage = process.env['NEXUS_CCUSAGE'];
  if (ccusage === undefined) left('ccusage: set NEXUS_CCUSAGE to its command to compare with it');
  const ratios: number[] = [];
  let [ours, theirs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let round = 0; round < rounds; round++) {
    await rm(path.join(dataDir, 'usage'), { recursive: true, force: true });
    const run = await daily();
    ours = Math.min(ours, run.ms);
    if (ccusage === undefined) continue;
    const env = { ...process.env, OPENCLAW_DIR: stateDir };
    const { ms } = await measure(ccusage, ['openclaw', 'daily', '--offline', '--json'], env);
    theirs = Math.min(theirs, ms);
    ratios.push(run.ms / ms);
  }
  const warm = await medians(7, { usage: daily });
  const { stdout } = await measure(process.execPath, [script, dataDir]);
  const found: { bytes: number; queries: { daily: number; bySession: number } } = JSON.parse(stdout);
  const warmMs = warm['usage']?.median ?? Number.POSITIVE_INFINITY;
  const speed = `${(found.bytes / 1e6 / (ours / 1000)).toFixed(0)} MB/s`;
  const what = `first index of ${(found.bytes / 1e9).toFixed(1)} GB, nexus usage from start to end`;
  const value = `${(ours / 1000).toFixed(2)} s (${speed})`;
  return [
    theirs === Number.POSITIVE_INFINITY
      ? { what, value, against: '300 MB/s', ratio: ours / (found.bytes / 3e5) }
      : {
          what,
          value,
          against: `ccusage openclaw daily: ${(theirs / 1e3).toFixed(2)} s`,
          ratio: ours / theirs,
          ...spreadOf(ratios),
          goal: '<= 1',
          met: ours <= theirs,
        },
    {
      what: 'nexus usage over it again',
      value: `${warmMs.toFixed(0)} ms`,
      against: '300 ms',
      ratio: warmMs / 300,
      goal: '<= 1',
      met: warmMs <= 300,
    },
    ...Object.entries(found.queries).map(([name, ms]) => ({
      what: `warm query over it, ${name === 'daily' ? 'by agent, day and model' : 'by session'}`,
      value: `${ms.toFixed(1)} ms`,
      against: '100 ms',
      ratio: ms / 100,
      goal: '<= 1',
      met: ms <= 100,
    })),
  ];
}
