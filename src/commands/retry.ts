import { existsSync } from 'node:fs';
import type { Context } from '../context.ts';
import { NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import { type Failure, isLeftAlone } from '../jobs/failures.ts';
import { ledgerFile } from '../jobs/ledger.ts';
import { openLedger } from '../jobs/ledger.ts';

export interface RetryOptions {
  /** An item as `nexus status` names it, or a part of that. */
  items: string[];
  all: boolean;
}

/** Lets the next run try again what was set aside. */
export async function retry({ config, output }: Context, { items, all }: RetryOptions): Promise<void> {
  if ((items.length === 0) === !all)
    throw new NexusError(
      'usage',
      all ? 'Name items or say --all, not both.' : 'Name what to try again, or say --all.',
      {
        hint: 'See `nexus status` for what is set aside.',
      },
    );
  const file = ledgerFile(config);
  const ledger = existsSync(file) ? openLedger(file, output.warn) : undefined;
  try {
    const failing = (ledger?.allFailures() ?? []).filter((one) => isLeftAlone(one, config.setAsideAfter));
    const chosen = all ? failing : items.flatMap((item) => named(failing, item));
    for (const { store, agent, item } of chosen) ledger?.forgetFailure(store, agent, item);
    const retried = [...new Set(chosen.map(({ item }) => item))];
    if (output.json) output.result({ command: 'retry', ok: true, items: retried, schemaVersion: 1 });
    else if (retried.length === 0) output.info('Nothing is set aside.');
    else
      output.info(
        `${formatItems(retried.length, 'item')} will be tried by the next run: ${retried.slice(0, 5).join(', ')}${retried.length > 5 ? ', …' : ''}`,
      );
  } finally {
    ledger?.close();
  }
}

function named<T extends Failure>(failing: readonly T[], item: string): T[] {
  const exact = failing.filter((one) => one.item === item);
  const found = exact.length > 0 ? exact : failing.filter((one) => one.item.includes(item));
  if (found.length === 0)
    throw new NexusError('usage', `${JSON.stringify(item)} is not set aside.`, {
      hint: 'See `nexus status` for what is.',
    });
  return found;
}
