import type { Context } from '../context.ts';
import { describe } from '../errors.ts';
import { heartbeatOf } from '../jobs/heartbeat.ts';
import { alertOnStatus } from '../jobs/unitalerts.ts';

/** What is found that no job can say of itself bears a subject of this kind. */
const kinds = ['silent'];

/** Sends the alerts that are due. What goes wrong with that is a warning, and the status stays what it is. */
export async function alertDue(
  context: Context,
  problems: readonly { problem: string; next: string; subject?: string }[],
): Promise<void> {
  const { config, env, now, output } = context;
  const around = { config, env, now, warn: output.warn, info: output.info };
  const found = problems.flatMap(({ subject, ...problem }) =>
    subject === undefined ? [] : [{ subject, ...problem }],
  );
  const heartbeat = heartbeatOf(config, 'status', env, output.warn);
  try {
    await alertOnStatus(around, found, kinds);
  } catch (error) {
    output.warn(`Alerts cannot be sent: ${describe(error)}`);
  }
  try {
    await alertOnSpending(context);
  } catch (error) {
    output.warn(`Spending cannot be watched: ${describe(error)}`);
  }
  const [first] = problems;
  if (first === undefined) await heartbeat.end('well', 'All is well.');
  else await heartbeat.end('failed', problems.map(({ problem }) => problem).join('\n'));
}

/** Where the store is used from here, what was spent is watched here too; an endpoint watches its own. */
async function alertOnSpending(context: Context): Promise<void> {
  const { config, now, signal } = context;
  if (config.endpoint !== undefined || (config.budgets.length === 0 && config.alerts.channels.length === 0))
    return;
  const { isFresh, openOwnUsage, openStore } = await import('../open.ts');
  if (await isFresh(config)) return;
  const { watch } = await import('./spending.ts');
  const store = await openStore(config);
  try {
    const usage = await openOwnUsage(config, now);
    try {
      await usage.catchUp({ signal });
      await watch(context, usage, store);
    } finally {
      await usage.close();
    }
  } finally {
    await store.close();
  }
}
