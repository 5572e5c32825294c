import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type Figure, type Place, spreadOf } from './figure.ts';
import { measure } from './measure.ts';
import { makeHistory } from './usagestate.ts';

const script = path.join(import.meta.dirname, 'usagerun.ts');
const rounds = 3;

/**
 * The first index of a history, beside `ccusage openclaw daily` over the same files where NEXUS_CCUSAGE names it
 * (ccusage 20.0.24), turn by turn, and the best of each.
 */
export async function usageFigures(
  place: (name: string) => Place,
  bytes: number,
  left: (reason: string) => void,
): Promise<Figure[]> {
  const { stateDir, nexus } = place('usage');
  await makeHistory(stateDir, bytes);
  await nexus(['backfill', '--json'], { afterUpload: 'keep', dataDir: path.join(stateDir, '..', 'data') });
  const dataDir = path.join(stateDir, '..', 'data');
  const ccusage = process.env['NEXUS_CCUSAGE'];
  if (ccusage === undefined) left('ccusage: set NEXUS_CCUSAGE to its command to compare with it');
  const ratios: number[] = [];
  let [ours, theirs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  let said = '';
  for (let round = 0; round < rounds; round++) {
    await rm(path.join(dataDir, 'usage'), { recursive: true, force: true });
    const run = await measure(process.execPath, [script, dataDir]);
    ours = Math.min(ours, run.ms);
    said = run.stdout;
    if (ccusage === undefined) continue;
    const env = { ...process.env, OPENCLAW_DIR: stateDir };
    const { ms } = await measure(ccusage, ['openclaw', 'daily', '--offline', '--json'], env);
    theirs = Math.min(theirs, ms);
    ratios.push(run.ms / ms);
  }
  const found: { bytes: number; queries: { daily: number; bySession: number } } = JSON.parse(said);
  const speed = `${(found.bytes / 1e6 / (ours / 1000)).toFixed(0)} MB/s`;
  const what = `first index of ${(found.bytes / 1e9).toFixed(1)} GB, a process from start to end`;
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
