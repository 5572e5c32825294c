import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

export interface Measured {
  ms: number;
  /** Greatest resident memory of the process, MiB; 0 where /proc is absent. */
  peakMiB: number;
  status: number | null;
  stdout: string;
}

/** Runs a program to its end and measures it from outside. */
export function measure(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let peak = 0;
    let stdout = '';
    const poll = setInterval(() => {
      peak = Math.max(peak, highWater(child.pid ?? 0));
    }, 20);
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString();
    });
    child.on('error', reject);
    child.on('close', (status) => {
      clearInterval(poll);
      resolve({ ms: performance.now() - began, peakMiB: peak, status, stdout });
    });
  });
}

function highWater(pid: number): number {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(line?.[1] ?? 0) / 1024;
  } catch {
    // It has ended between two looks, or this is no Linux.
    return 0;
  }
}

/** The middle of `times` runs, ms, after one that is not counted. Each round runs every candidate once. */
export async function medians(
  times: number,
  candidates: Record<string, () => Promise<Measured>>,
): Promise<Record<string, { median: number; least: number; most: number }>> {
  const samples: Record<string, number[]> = {};
  for (let round = 0; round <= times; round++)
    for (const [name, run] of Object.entries(candidates)) {
      const { ms } = await run();
      if (round > 0) (samples[name] ??= []).push(ms);
    }
  return Object.fromEntries(
    Object.entries(samples).map(([name, list]) => {
      const sorted = list.sort((a, b) => a - b);
      const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
      return [name, { median: middle, least: sorted[0] ?? 0, most: sorted.at(-1) ?? 0 }];
    }),
  );
}
