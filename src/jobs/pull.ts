import { agentIdPattern } from '../agents.ts';
import { stoppedBy } from '../context.ts';
import { NexusError } from '../errors.ts';
import { type Say } from '../logline.ts';
import type { AgentHome } from '../openclaw/locate.ts';
import type { FailedItem } from '../report.ts';
import { slots } from '../slots.ts';
import { underLock } from './agentlock.ts';
import { aliasOf, chooseAgents } from './choosing.ts';
import { rememberRun } from './lastruns.ts';
import { inParallel } from './parallel.ts';
import { closePullReport, emptyPullAudit, emptyReport, type PullReport } from './pullreport.ts';
import {
  agentFailure,
  atSite,
  closeBatch,
  deliver,
  type PullSurroundings,
  type Site,
  tell,
} from './pullsite.ts';

export interface PullRequest {
  /** OpenClaw agent ids; empty means all. */
  agents: readonly string[];
}

export interface PullOutcome {
  report: PullReport;
  /** The last agent could not be asked for, because Nexus was not reached. */
  unavailable: boolean;
}

const agentsAtOnce = 8;

/** After this many agents in a row that found Nexus unavailable the rest are not tried: each costs all its retries. */
const outagesToGiveUp = 3;

/**
 * Delivers the mail of OpenClaw's agents on this host, once, and tells them; what goes wrong with one agent stands in
 * the report and stops no other. Throws when nothing could begin: no state directory (`config`), an unknown agent
 * (`usage`), a ledger of deliveries that cannot be read (`corrupt`), Nexus cannot be opened.
 */
export async function runPull(request: PullRequest, around: PullSurroundings): Promise<PullOutcome> {
  const report = emptyReport(around.now());
  const warn: Say = (message, facts) => {
    report.warnings.push(message);
    around.warn(message, facts);
  };
  return await atSite({ ...around, warn }, async (site) => {
    const delivering = slots(agentsAtOnce);
    let outages = 0;
    await inParallel(
      chooseAgents(site.state, around.config, request.agents),
      Number.MAX_SAFE_INTEGER,
      async (agent) => {
        await underItsLock(site, agent, report, async () => {
          const audit = emptyPullAudit(agent.id, aliasOf(around.config, agent.id));
          report.agents[agent.id] = audit;
          const pass = {
            audit,
            fail: (item: FailedItem) => report.failed.push(item),
            setAside: (item: FailedItem) => report.setAside.push(item),
          };
          await delivering(async () => {
            if (around.signal.aborted) return;
            try {
              if (outages >= outagesToGiveUp) throw notTried();
              await deliver(site, agent, pass);
              outages = 0;
            } catch (error) {
              if (site.isOutage(error)) outages++;
              if (!around.signal.aborted) report.failed.push(agentFailure(site, agent, error));
            }
          });
          if (around.signal.aborted) return;
          closeBatch(site, agent);
          await tell(site, agent, pass);
        });
      },
    );
    const stopped = stoppedBy(around.signal);
    if (stopped !== undefined) report.interrupted = stopped;
    else await around.reconcile?.(site.mailbox, report);
    closePullReport(report, around.now());
    rememberRun(site.ledger, report, report.delivered > 0, around.now(), warn);
    return { report, unavailable: outages > 0 };
  });
}

/**
 * Works on an agent when nobody else pulls for it: else it is `busy` in the report. Its lock is not that of `upload`,
 * which may take hours, and bears the agent's own id, as the ledger of deliveries does.
 */
export async function underItsLock(
  site: Site,
  agent: AgentHome,
  report: PullReport,
  work: () => Promise<void>,
): Promise<void> {
  const { config, signal } = site.around;
  try {
    const as = aliasOf(config, agent.id);
    if (!agentIdPattern.test(as))
      throw new NexusError('config', 'Its id cannot be one in Nexus.', {
        hint: `Give it one: \`nexus config set agents.${agent.id}.as NAME\`.`,
      });
    const busy = await underLock(config, `${agent.id}.webhooks`, report.job, async () => {
      site.around.begun?.();
      await work();
    });
    if (busy !== undefined)
      report.busy = [...(report.busy ?? []), { item: `agent ${agent.id}`, reason: busy }];
  } catch (error) {
    if (!signal.aborted) report.failed.push(agentFailure(site, agent, error));
  }
}

function notTried(): NexusError {
  return new NexusError(
    'unavailable',
    'Not tried, because Nexus could not be reached for the agents before.',
  );
}
