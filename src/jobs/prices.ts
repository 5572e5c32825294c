import { describe, failedWith, NexusError } from '../errors.ts';
import { codeIn, type Say } from '../logline.ts';
import type { Nexus } from '../nexus.ts';
import type { ModelPrice } from '../prices.ts';

/** Prices come with the transcripts and stop none of them: an older endpoint does not take them. */
export async function leavePrices(
  nexus: Pick<Nexus, 'setPrices'>,
  agent: string,
  host: string,
  prices: readonly ModelPrice[],
  warn: Say,
): Promise<void> {
  try {
    await nexus.setPrices(agent, host, prices);
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    if (failedWith(error, 'not_found')) return;
    warn(`The prices of openclaw.json were not stored for ${agent}: ${describe(error)}`, {
      code: codeIn(error),
    });
  }
}
