import type { Ran, Running, World } from '../world.ts';

/** What Nexus is asked to do while an operation of its fails, and what must hold then. */
export interface Flow {
  name: string;
  /** What it begins from. */
  prepare: (world: World) => Promise<void>;
  /**
   * Does it with `env`, in which one operation fails, or kills the process where `killed`; then without; answers what
   * did not hold, a sentence each.
   */
  attempt: (world: World, env: Record<string, string>, killed: boolean) => Promise<string[]>;
}

/** To its end, killed after a minute. */
export async function endOf({ ended, kill }: Running): Promise<Ran & { hung: boolean }> {
  let hung = false;
  const patience = setTimeout(() => {
    hung = true;
    kill('SIGKILL');
  }, 60_000);
  try {
    return { ...(await ended), hung };
  } finally {
    clearTimeout(patience);
  }
}

/** Of exit statuses those that a fault may have: 1 is a bug's. */
const told = [0, 3, 69, 75, 77, 78];

/** What is wrong with how a run ended, whatever it was to do. */
export function endingOf(ran: Ran & { hung: boolean }, killed: boolean): string[] {
  const { status, signal, stderr, hung } = ran;
  const said = stderr.trim().split('\n').at(-1) ?? '';
  if (hung) return [`It hung. It said last: ${said}`];
  if (signal !== null) return killed && signal === 'SIGKILL' ? [] : [`It was ended by ${signal}: ${said}`];
  const bug = /^.*internal error.*$|^\s+at .*:\d+:\d+.*$/m.exec(stderr);
  if (bug !== null) return [`It took the fault for a bug: ${bug[0].trim()}`];
  if (status === null || !told.includes(status)) return [`It ended with ${status}: ${said}`];
  return [];
}

/** The run after the fault: it finishes the work. */
export function finishedBy(ran: Ran & { hung: boolean }): string[] {
  if (ran.status === 0 && !ran.hung) return [];
  return [
    `The run after it ended with ${ran.status ?? ran.signal}: ${ran.stderr.trim()} ${ran.stdout.trim()}`,
  ];
}
