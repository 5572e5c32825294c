import { existsSync } from 'node:fs';
import { openclawEnvironment } from '../config.ts';
import type { Context } from '../context.ts';
import { failedWith, NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import { workedOn } from '../jobs/choosing.ts';
import { concerning, type Failure, isLeftAlone } from '../jobs/failures.ts';
import { type Ledger, ledgerFile, openLedger } from '../jobs/ledger.ts';
import { openNexus } from '../open.ts';
import { locate } from '../openclaw/locate.ts';

export interface RetryOptions {
  /** An item as `nexus status` names it, or a part of that. */
  items: string[];
  all: boolean;
}

/** Lets the next run try again what was set aside. */
export async function retry(context: Context, { items, all }: RetryOptions): Promise<void> {
  const { config, output } = context;
  if ((items.length === 0) === !all)
    throw new NexusError(
      'usage',
      all ? 'Name items or say --all, not both.' : 'Name what to try again, or say --all.',
      {
        hint: 'See `nexus status` for what is set aside.',
      },
    );
  if (items.some((item) => item.trim() === ''))
    throw new NexusError('usage', 'An item without a name would be every one.', {
      hint: 'Is a variable empty? For all of them say --all.',
    });
  const file = ledgerFile(config);
  const ledger = existsSync(file) ? openLedger(file, output.warn) : undefined;
  try {
    const aside = (ledger?.allFailures() ?? []).filter((one) => isLeftAlone(one, config.setAsideAfter));
    const failing =
      ledger === undefined || aside.length === 0 ? [] : await triedAgain(context, ledger, aside);
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

/** What no run will try, because its store is another or its agent is gone, is not said to be tried. */
async function triedAgain<T extends Failure & { store: string; agent: string }>(
  context: Context,
  ledger: Ledger,
  failures: readonly T[],
): Promise<T[]> {
  const store = (await storeNow(context)) ?? ledger.latestStore();
  return concerning(failures, store, await agentsNow(context));
}

const askMs = 10_000;

/** `undefined` where Nexus cannot be asked. */
async function storeNow({ config, signal, version }: Context): Promise<string | undefined> {
  const patience = AbortSignal.timeout(askMs);
  try {
    const once = { ...config, retry: { ...config.retry, tries: 1 } };
    const nexus = await openNexus(once, AbortSignal.any([signal, patience]), version);
    try {
      return await nexus.storeId();
    } finally {
      await nexus.close();
    }
  } catch (error) {
    if (error instanceof NexusError || patience.aborted) return undefined;
    throw error;
  }
}

/** `undefined` where OpenClaw is not found. */
async function agentsNow({ config, env }: Context): Promise<string[] | undefined> {
  try {
    return workedOn(await locate(openclawEnvironment(config, env)), config);
  } catch (error) {
    if (failedWith(error, 'config', 'forbidden')) return undefined;
    throw error;
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
