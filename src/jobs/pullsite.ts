import type { Config } from '../config.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import { bug, codeIn, type Facts, type Say } from '../logline.ts';
import type { Mailbox, Position } from '../mailbox.ts';
import { type AgentHome, locate, type State } from '../openclaw/locate.ts';
import type { FailedItem } from '../report.ts';
import { slots } from '../slots.ts';
import { aliasOf } from './choosing.ts';
import type { Confirm } from './confirming.ts';
import { type Deliveries, deliveriesFile, openDeliveries } from './deliveries.ts';
import { openInbox } from './inbox.ts';
import { mailFailures } from './mailfailures.ts';
import { type Ledger, ledgerFile, openLedger } from './ledger.ts';
import { type AgentPull, pullAgent, type PullFrom } from './pullagent.ts';
import type { Notified, PullAudit, PullReport } from './pullreport.ts';

export interface PullSurroundings {
  config: Config;
  /** Where OpenClaw's own names are looked up. */
  env: Record<string, string | undefined>;
  openMailbox: () => Promise<Mailbox>;
  signal: AbortSignal;
  now: () => Date;
  warn: Say;
  /** Told of each item when it fails; the report has them all. */
  failed?: ((item: FailedItem, facts: Facts) => void) | undefined;
  /** Items delivered so far. */
  progress: (delivered: number) => void;
  tell: Tell;
  /** To be told when it works on an agent, for which nobody else pulls then. */
  begun?: () => void;
  /** Of one that stays: to be told how its agents stand after each pass. */
  ended?: (report: PullReport) => void;
  confirm?: Confirm | undefined;
  /** Looks for what did not come, where it is time to; what it found and what is wrong stand in the report. */
  reconcile?: ((mailbox: Mailbox, report: PullReport) => Promise<void>) | undefined;
  /** Of one that stays: how what is done beside it stands. */
  beside?: Pick<PullReport, 'failed' | 'setAside'>;
  /** For what a test puts in the way. */
  openInbox?: AgentPull['openInbox'];
  openDeliveries?: typeof openDeliveries;
}

/** Tells one agent what it is due to be told; a batch that is open is none of them. */
export type Tell = (telling: {
  state: State;
  agent: AgentHome;
  deliveries: Deliveries;
  signal: AbortSignal;
  now: () => Date;
}) => Promise<Told>;

export interface Told {
  notified: Notified;
  /** What could not be told, and why. */
  failed: FailedItem[];
}

/** Deliveries are kept a year after they were acknowledged. */
const keptMs = 365 * 86_400_000;

/** OpenClaw refuses more at once. */
const toldAtOnce = 8;

/** What the work on all agents shares. */
export interface Site {
  around: PullSurroundings;
  state: State;
  mailbox: Mailbox;
  deliveries: Deliveries;
  ledger: Ledger;
  /** True for an error that says that Nexus could not be reached. */
  isOutage: (error: unknown) => boolean;
  /** Waits for its turn to tell an agent. */
  telling: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Opens what a pull needs, does the work, and closes it. Throws when nothing could begin, as `runJob` does. */
export async function atSite<T>(around: PullSurroundings, work: (site: Site) => Promise<T>): Promise<T> {
  const { config } = around;
  const state = await locate(around.env);
  for (const warning of state.warnings) around.warn(warning);
  const deliveries = (around.openDeliveries ?? openDeliveries)(deliveriesFile(config));
  let ledger: Ledger | undefined;
  let mailbox: Mailbox | undefined;
  try {
    ledger = openLedger(ledgerFile(config), around.warn);
    mailbox = await around.openMailbox();
    const outages = notingOutages(mailbox);
    const site = { around, state, deliveries, ledger, telling: slots(toldAtOnce), ...outages };
    return await work(site);
  } finally {
    try {
      pruneDeliveries(deliveries, around.now());
    } finally {
      deliveries.close();
      ledger?.close();
      await mailbox?.close();
    }
  }
}

/** At the end of every run, however it ended, and daily in one that does not end. */
export function pruneDeliveries(deliveries: Deliveries, now: Date): void {
  deliveries.prune(now.getTime() - keptMs);
}

/** The mailbox, and whether an error that came out of it was an outage. What fails on this machine is none. */
function notingOutages(mailbox: Mailbox): Pick<Site, 'mailbox' | 'isOutage'> {
  const own = new WeakSet<object>();
  async function noting<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (failedWith(error, 'unavailable')) own.add(error);
      throw error;
    }
  }
  return {
    isOutage: (error) => typeof error === 'object' && error !== null && own.has(error),
    mailbox: {
      ...mailbox,
      pending: (...given) => noting(mailbox.pending(...given)),
      acknowledge: (...given) => noting(mailbox.acknowledge(...given)),
    },
  };
}

/** A pass over one agent, whose lock is held. What goes wrong with items stands in what it is given to fill. */
export interface Pass {
  audit: PullAudit;
  fail: (item: FailedItem) => void;
  /** What failed too often to be tried; it is pending still, and no failure of this pass. */
  setAside: (item: FailedItem) => void;
}

/** Delivers what is pending, as `pullAgent`. Throws what concerns the whole agent. */
export async function deliver(
  site: Site,
  agent: AgentHome,
  { audit, fail, setAside }: Pass,
  from?: PullFrom,
): Promise<Position | undefined> {
  const { config, signal, now, failed, progress } = site.around;
  const warn: Say = (message, facts) => site.around.warn(message, { agent: agent.id, ...facts });
  const named = new Set<string>();
  const before = audit.delivered;
  const as = aliasOf(config, agent.id);
  const left = await pullAgent(
    {
      agent: agent.id,
      as,
      workspace: agent.workspace,
      host: config.host,
      mailbox: site.mailbox,
      deliveries: site.deliveries,
      ledger: deliveriesFile(config),
      openInbox: site.around.openInbox ?? openInbox,
      confirm: site.around.confirm,
      signal,
      now,
      audit,
      fail(item, code) {
        if (named.has(item.item)) return;
        named.add(item.item);
        audit.failed++;
        failed?.(item, { agent: agent.id, code });
        fail(item);
      },
      setAside,
      failures: mailFailures({ ledger: site.ledger, as, after: config.setAsideAfter, now, warn }),
      warn,
    },
    from,
  );
  progress(audit.delivered - before);
  return left;
}

/** Ends the batch that was being filled: what is delivered from now on is told by itself. */
export function closeBatch(site: Site, agent: AgentHome): void {
  const { config } = site.around;
  const by = config.agents[agent.id]?.notify ?? config.notify.by;
  site.deliveries.closeBatch(agent.id, by === 'none' ? 'none' : 'untold');
}

/** Tells the agent of closed batches. Its answers are noted in the ledger of deliveries: none undoes a delivery. */
export async function tell(site: Site, agent: AgentHome, { audit, fail }: Pass): Promise<void> {
  const { signal, now, failed } = site.around;
  const { deliveries, state } = site;
  const told = await site.telling(() => site.around.tell({ state, agent, deliveries, signal, now }));
  audit.notified = told.notified;
  for (const item of told.failed) {
    failed?.(item, { agent: agent.id, code: 'unavailable' });
    fail(item);
  }
}

/** What concerns a whole agent, as a failed item; a bug is told in full. */
export function agentFailure(site: Site, agent: AgentHome, error: unknown): FailedItem {
  if (!(error instanceof NexusError)) site.around.warn(...bug(error));
  const failure = { item: `agent ${agent.id}`, reason: describe(error) };
  site.around.failed?.(failure, { agent: agent.id, code: codeIn(error) });
  return failure;
}
