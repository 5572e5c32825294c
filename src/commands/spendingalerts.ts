import type { Latched } from '../alerts.ts';
import type { Context } from '../context.ts';

/** What is latched of spending, which all who use the store share; an endpoint's is its own. */
export async function spendingAlerts({ config }: Pick<Context, 'config'>): Promise<Latched[]> {
  const { isFresh, openStore } = await import('../open.ts');
  if (config.endpoint !== undefined || (await isFresh(config))) return [];
  const { openAlerts } = await import('../alerts.ts');
  const store = await openStore(config);
  try {
    return await openAlerts(store).list();
  } finally {
    await store.close();
  }
}
