import { describe, failedWith, NexusError } from '../errors.ts';
import { codeIn, type Facts, type Say } from '../logline.ts';
import type { Nexus } from '../nexus.ts';
import type { FailedItem } from '../report.ts';

/** What is damaged of all that is stored, also of what is no longer on this host, and was not named before. */
export async function noteDamage(
  nexus: Pick<Nexus, 'damage'>,
  known: readonly FailedItem[],
  signal: AbortSignal,
  warn: Say,
  fail: (item: FailedItem, facts: Facts) => void,
): Promise<void> {
  try {
    // The file of a transcript was named by its path, for the same reason.
    for await (const { item, reason } of nexus.damage(signal))
      if (known.every((one) => one.item !== item && one.reason !== reason))
        fail({ item, reason }, { code: 'corrupt' });
  } catch (error) {
    if (signal.aborted) return;
    if (failedWith(error, 'not_found'))
      warn('The endpoint is older and does not look through what else it stores: update nexus there.', {
        code: error.code,
      });
    else if (error instanceof NexusError)
      fail({ item: 'all that is stored', reason: describe(error) }, { code: codeIn(error) });
    else throw error;
  }
}
