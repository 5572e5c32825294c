import { randomUUID } from 'node:crypto';
import type { Nexus } from '../nexus.ts';
import type { Ledger } from './ledger.ts';

/** What a run may believe of the ledger, for one agent. */
export interface Trust {
  /** Nothing in the ledger could be believed and it was emptied for this agent. */
  distrusted: boolean;
  /** This host has shipped for this agent before, so what is here is likely to be stored. */
  shippedBefore: boolean;
  /** Rows recorded under this mark are from a run that did not end: ask the archive before believing one. */
  unsure: string | undefined;
  /** The mark to record under; the first call leaves it in the store. */
  mark(): Promise<string>;
  /** Ends the run: a fresh mark, when one was left. */
  end(): Promise<void>;
}

/**
 * Ties the ledger to the state of the store. Around each run that ships something the host leaves a fresh random
 * mark in the store and notes it: a store that was set back to an earlier state (restored from a backup, a
 * snapshot) shows an earlier mark, so what was shipped since is not taken for being there.
 *
 * Order: note the next mark, leave it in the store, note that it is left. A crash between two of these is told by
 * the note of the next one.
 */
export async function openTrust(
  nexus: Nexus,
  ledger: Ledger,
  store: string,
  agent: string,
  host: string,
): Promise<Trust> {
  const shown = await nexus.mark(agent, host);
  const noted = ledger.marks(store, agent);
  const believed = shown !== undefined && (shown === noted.current || shown === noted.next);
  if (!believed) for (const place of ledger.shipped(store, agent).keys()) ledger.forget(store, agent, place);
  // Set in the store but not noted as set: the run under it cannot have recorded anything yet.
  const current = believed ? shown : undefined;
  const unsure = believed && noted.open ? noted.current : undefined;
  let left: Promise<string> | undefined;

  async function leave(open: boolean, before: string | undefined): Promise<string> {
    const next = randomUUID();
    ledger.setMarks(store, agent, { current: before, next, open: true });
    await nexus.setMark(agent, host, next);
    ledger.setMarks(store, agent, { current: next, next: undefined, open });
    return next;
  }

  return {
    distrusted: !believed,
    shippedBefore: shown !== undefined,
    unsure,
    mark() {
      left ??= leave(true, current);
      return left;
    },
    async end() {
      if (left !== undefined) await leave(false, await left);
    },
  };
}
