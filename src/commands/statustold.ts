import { agentIdPattern } from '../agents.ts';
import type { Context } from '../context.ts';
import { type AgentLag, fewAgents } from '../jobreports.ts';
import { ledgerOnce } from '../jobs/ledger.ts';
import type { Standing } from '../jobs/standing.ts';
import { tellRunEnd } from '../jobs/telljobs.ts';
import type { AgentMail } from './statusmail.ts';

interface Found {
  problems: readonly unknown[];
  agents: readonly Standing[];
  mail?: readonly AgentMail[];
  nexus: { reachable: boolean; store?: string };
}

/** Tells monitors what was found, as the jobs tell them how they ended: how far each agent lags is known here alone. */
export async function tellStatus(
  { config, now, output, version }: Context,
  startedAt: number,
  { problems, agents, mail = [], nexus }: Found,
): Promise<void> {
  const endedAt = now().getTime();
  const lags = agents.flatMap(({ as, eras, oldestUnshippedAt }): AgentLag[] => {
    const unshipped = Object.values(eras).reduce((sum, era) => sum + era.unshipped, 0);
    // Of an agent whose id cannot be one in Nexus the problems tell.
    if (!agentIdPattern.test(as)) return [];
    return [
      {
        agent: as,
        unshipped,
        ...(oldestUnshippedAt === undefined ? {} : { oldestAt: Math.max(0, Date.parse(oldestUnshippedAt)) }),
        untold: mail.filter((one) => one.as === as).reduce((sum, { untold }) => sum + untold, 0),
      },
    ];
  });
  // A store that is not there yet is not made for this.
  const unreachable = !nexus.reachable || nexus.store === undefined;
  const ledger = ledgerOnce(config, output.warn);
  try {
    await tellRunEnd(
      { config, version, unreachable, warn: output.warn, openLedger: ledger.open },
      {
        job: 'status',
        verdict: problems.length === 0 ? 'well' : 'failed',
        endedAt,
        seconds: Math.max(0, endedAt - startedAt) / 1000,
        failedItems: problems.length,
        agents: fewAgents(lags),
      },
    );
  } finally {
    ledger.close();
  }
}
