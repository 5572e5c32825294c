import { randomUUID } from 'node:crypto';
import type { Nexus } from '../nexus.ts';
import type { Ledger, Shipped } from './ledger.ts';

/** What a run may believe of the ledger, for one agent. */
export interface Trust {
  /** This host has shipped for this agent before and does not know what: what is here is likely to be stored. */
  lost: boolean;
  /** This store has nothing of what the ledger may have said: what was moved away is to be looked at again too. */
  anew: boolean;
  /** A row of a run that did not end: ask the archive before believing it. */
  isUnsure: (row: Shipped) => boolean;
  /** The mark to record under; the first call leaves it in the store. */
  mark(): Promise<string>;
  /** Ends the run: a fresh mark, when one was left. */
  end(): Promise<void>;
}

/** The mark of rows that no run has confirmed since the one that recorded them died. */
const doubtful = '';

/**
 * Ties the ledger to the state of the store. Around each run that ships something the host leaves a fresh random
 * mark in the store and notes it: a store that was set back to an earlier state (restored from a backup, a
 * snapshot) shows an earlier mark, so what was shipped since is not taken for being there. What a run recorded that
 * did not end is in doubt until the archive was asked, however many runs later that is.
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
  if (!believed) ledger.forgetAll(store, agent);
  else if (noted.open && noted.current !== undefined) ledger.remark(store, agent, noted.current, doubtful);
  // Set in the store but not noted as set: the run under it cannot have recorded anything yet.
  const current = believed ? shown : undefined;
  let left: Promise<string> | undefined;

  async function leave(open: boolean, before: string | undefined): Promise<string> {
    const next = randomUUID();
    ledger.setMarks(store, agent, { current: before, next, open: true });
    await nexus.setMark(agent, host, next);
    ledger.setMarks(store, agent, { current: next, next: undefined, open });
    return next;
  }

  return {
    lost: !believed && shown !== undefined,
    anew: !believed,
    isUnsure: (row) => row.mark === doubtful,
    async mark() {
      left ??= leave(true, current);
      try {
        return await left;
      } catch (error) {
        // The next item tries again: an outage need not last as long as the run.
        left = undefined;
        throw error;
      }
    },
    async end() {
      if (left !== undefined) await leave(false, await left);
    },
  };
}
