import type { Context } from '../context.ts';
import { describe } from '../errors.ts';
import { formatAge } from '../format.ts';
import { type FirstRun, firstRunOf } from '../jobs/firstrun.ts';
import { type Heartbeat, heartbeatOf } from '../jobs/heartbeat.ts';
import { codeIn } from '../logline.ts';
import { ledgerFile, openLedger } from '../jobs/ledger.ts';
import { alertOnStatus, type Found } from '../jobs/unitalerts.ts';
import type { Problem } from './statusmail.ts';

/** What is found that no job can say of itself bears a subject of this kind. */
const kinds = ['silent'];

/** What is silent while the first backfill is at work, because it is. */
const waitsForFirst = new Set(['silent/upload', 'silent/backfill']);

/**
 * Sends the alerts that are due; those of subjects that are undecided go on if they last. `elsewhere`: this user has no
 * OpenClaw here, and no backfill is waited for.
 */
export type AlertDue = (
  problems: readonly Problem[],
  undecided: readonly string[] | 'all',
  elsewhere: boolean,
) => Promise<void>;

/**
 * Tells the monitor of `nexus status --alert` that it looks, and what it has found. Throws what kept it from looking or
 * from telling: then nobody was told, and its unit is to fail.
 */
export async function attendStatus<T>(
  context: Context,
  look: (alertDue: AlertDue) => Promise<T>,
): Promise<T> {
  const { config, env, output, signal } = context;
  const heartbeat = heartbeatOf(config, 'status', env, output.warn);
  heartbeat.start();
  try {
    return await look((...due) => alertDue(context, heartbeat, ...due));
  } catch (error) {
    if (!signal.aborted) await heartbeat.end('failed', `status failed: ${describe(error)}`);
    throw error;
  }
}

async function alertDue(
  context: Context,
  heartbeat: Heartbeat,
  ...[problems, undecided, elsewhere]: Parameters<AlertDue>
): Promise<void> {
  const { config, env, now, output, signal } = context;
  const around = { config, env, now, signal, warn: output.warn, info: output.info };
  let first: FirstRun | undefined;
  try {
    first = elsewhere ? undefined : await firstRun(context);
    // Of another kind nobody would see the end, and it would last for ever.
    const found = problems.flatMap(({ subject, ...problem }) =>
      subject !== undefined && kinds.some((kind) => subject.startsWith(`${kind}/`))
        ? [{ subject, ...problem }]
        : [],
    );
    const waiting = first === undefined ? [] : found.filter(({ subject }) => waitsForFirst.has(subject));
    const due = found.filter((one) => !waiting.includes(one));
    await alertOnStatus(
      around,
      first?.stalled === true ? [...due, stalled(first, now())] : due,
      undecided === 'all' ? [] : kinds,
      undecided === 'all' ? [] : [...undecided, ...waiting.map(({ subject }) => subject)],
    );
  } catch (error) {
    output.warn(`Alerts cannot be sent: ${describe(error)}`, { code: codeIn(error) });
    throw error;
  }
  const named = problems.map(({ problem }) => problem).join('\n');
  if (named === '') await heartbeat.end('well', 'All is well.');
  else if (first?.stalled === false)
    await heartbeat.end('well', `The first backfill is not done yet. Until then:\n${named}`);
  else await heartbeat.end('failed', named);
  // Last: to read what was stored since may take longer than a monitor waits.
  try {
    await alertOnSpending(context);
  } catch (error) {
    output.warn(`Spending cannot be watched: ${describe(error)}`, { code: codeIn(error) });
  }
}

async function firstRun({ config, now, output }: Context): Promise<FirstRun | undefined> {
  const ledger = openLedger(ledgerFile(config), output.warn);
  try {
    return await firstRunOf(config, ledger, now().getTime());
  } finally {
    ledger.close();
  }
}

function stalled({ underWay, progressAt }: FirstRun, now: Date): Found {
  const when = formatAge(progressAt, now);
  return {
    subject: 'silent/backfill',
    problem: underWay
      ? `the first backfill is at work and has archived nothing since ${when}.`
      : `nothing was archived from it yet, and nothing has tried to since ${when}.`,
    next: 'Look at `nexus status` and `journalctl -u nexus-backfill`, or run `nexus backfill`.',
    since: new Date(progressAt).toISOString(),
  };
}

/** Where the store is used from here, what was spent is watched here too; an endpoint watches its own. */
async function alertOnSpending(context: Context): Promise<void> {
  const { config, now, signal } = context;
  if (config.endpoint !== undefined || (config.budgets.length === 0 && config.alerts.channels.length === 0))
    return;
  const { isFresh, openOwnUsage, openStore } = await import('../open.ts');
  if (await isFresh(config)) return;
  const { watch } = await import('./spending.ts');
  const { troubleOf } = await import('./usagetrouble.ts');
  const store = await openStore(config);
  try {
    const usage = await openOwnUsage(config, now);
    try {
      const trouble = await troubleOf(context, () => usage.catchUp({ signal }));
      await watch(context, usage, store, trouble);
      if (trouble !== undefined) throw trouble.error;
    } finally {
      await usage.close();
    }
  } finally {
    await store.close();
  }
}
