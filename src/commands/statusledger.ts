import { existsSync } from 'node:fs';
import type { Config } from '../config.ts';
import type { Context } from '../context.ts';
import { formatCount } from '../format.ts';
import { workedOn } from '../jobs/choosing.ts';
import { concerning, isLeftAlone, mailStore } from '../jobs/failures.ts';
import { type Ledger, ledgerFile, openLedger } from '../jobs/ledger.ts';
import { missingOf } from '../jobs/missing.ts';
import type { Standing } from '../jobs/standing.ts';
import type { State } from '../openclaw/locate.ts';
import { few } from './few.ts';
import type { Problem } from './statusmail.ts';

/** One that is damaged is put aside, and what was in it is not known for a while. */
export function openHere({ config, output }: Context, problems: Problem[]): Ledger | undefined {
  if (!existsSync(ledgerFile(config))) return undefined;
  return openLedger(ledgerFile(config), (message, facts) => {
    output.warn(message, facts);
    problems.push({
      problem: message,
      next: 'The next upload takes up what it said. Look at the disk, for example with dmesg.',
    });
  });
}

/** Agents of which nothing is left here, though they were archived. */
export function problemsMissing(
  state: State | undefined,
  standings: readonly Standing[],
  config: Config,
  ledger: Ledger | undefined,
  store: string,
): Problem[] {
  if (state === undefined || ledger === undefined) return [];
  const there = standings.filter(
    ({ eras, refused, unreadable }) => Object.keys(eras).length + refused.length + unreadable.length > 0,
  );
  return missingOf(
    state,
    config,
    ledger.shippedAgents(store),
    (id) => !there.some(({ agent }) => agent === id),
  ).map(({ agent, reason, next }) => ({
    problem: agent === undefined ? reason : `${agent}: ${reason}`,
    next,
  }));
}

/** What failed so often that no run tries it any more. */
export function problemsSetAside(
  ledger: Ledger | undefined,
  config: Config,
  store: string,
  state: State | undefined,
): Problem[] {
  const aside = concerning(ledger?.allFailures() ?? [], store, state && workedOn(state, config)).filter(
    (failure) => isLeftAlone(failure, config.setAsideAfter),
  );
  return few(
    aside,
    (failure) => ({
      problem: `${failure.agent}: ${failure.store === mailStore ? 'the webhook ' : ''}${failure.item} is set aside after ${failure.count} failures: ${failure.reason}`,
      next:
        failure.store === mailStore
          ? 'It is pending still. When it is mended, run `nexus retry` with its id or --all; `nexus webhooks drop` with its id gives it up.'
          : `When it is mended, run \`nexus retry\` with its name or --all.`,
    }),
    (count) => ({
      problem: `${formatCount(count)} more are set aside.`,
      next: 'When they are mended, run `nexus retry --all`.',
    }),
  );
}
