import { NexusError } from '../../src/errors.ts';
import type { Nexus } from '../../src/nexus.ts';

export type Fault = 'before' | 'after';

/**
 * Nexus whose n-th call (from 1) fails, before it reached the store or after. As an answer that was lost
 * (`unavailable`), or, with `dead`, as a process that died there: nothing reaches the store any more. `calls()` says
 * how many there were.
 */
export function failing(
  nexus: Nexus,
  at: number,
  fault: Fault,
  dead: boolean,
): { nexus: Nexus; calls(): number } {
  let calls = 0;
  const error = () =>
    dead ? new Error('The process is dead.') : new NexusError('unavailable', 'The answer was lost.');
  async function pass<T>(work: () => Promise<T>): Promise<T> {
    calls++;
    if (dead && calls > at) throw error();
    const hit = calls === at;
    if (hit && fault === 'before') throw error();
    const result = await work();
    if (hit) throw error();
    return result;
  }
  return {
    calls: () => calls,
    nexus: {
      storeId: () => pass(() => nexus.storeId()),
      stat: (...given) => pass(() => nexus.stat(...given)),
      append: (...given) => pass(() => nexus.append(...given)),
      mark: (...given) => pass(() => nexus.mark(...given)),
      setMark: (...given) => pass(() => nexus.setMark(...given)),
      read: (...given) => nexus.read(...given),
      list: (...given) => nexus.list(...given),
      damage: () => nexus.damage(),
      setPrices: (...given) => pass(() => nexus.setPrices(...given)),
      close: () => nexus.close(),
    },
  };
}
