import { setTimeout as sleep } from 'node:timers/promises';
import { stoppedBy } from '../context.ts';
import { describe } from '../errors.ts';
import { codeIn, type Say } from '../logline.ts';
import type { Position } from '../mailbox.ts';
import { type AgentHome, locate } from '../openclaw/locate.ts';
import type { FailedItem } from '../report.ts';
import { aliasOf, chooseAgents } from './choosing.ts';
import { rememberRun } from './lastruns.ts';
import { type PullOutcome, type PullRequest, underItsLock } from './pull.ts';
import {
  added,
  closePullReport,
  emptyPullAudit,
  emptyReport,
  type PullAudit,
  type PullReport,
} from './pullreport.ts';
import {
  agentFailure,
  atSite,
  closeBatch,
  deliver,
  pruneDeliveries,
  type PullSurroundings,
  type Site,
  tell,
} from './pullsite.ts';

/** How long one request waits for mail. */
const waitMs = 25_000;

/** What comes within this time of a first item is told with it. */
const togetherMs = 1_000;

/** What failed is tried again, OpenClaw's agents are looked up, and what is due to be told again is told this often. */
const againMs = 60_000;

const pruneMs = 86_400_000;

const shortestBackoffMs = 1_000;

/** For tests, which cannot wait as long. */
export interface FollowTimes {
  waitMs: number;
  togetherMs: number;
  againMs: number;
}

/**
 * Delivers and tells as mail arrives, until the signal: waits for each agent's mail at once, and tells what came
 * within a second together while it waits for more. An outage does not end it, nor another run that holds an agent,
 * nor a mailbox that belongs to another host; each warning is said once until things are well again. `passed` is told
 * of each pass that did something. The report sums up all passes; what failed is what failed in the last of each agent.
 */
export async function followPull(
  request: PullRequest,
  around: PullSurroundings,
  passed: (audit: PullAudit, agent: string) => void,
  times: FollowTimes = { waitMs, togetherMs, againMs },
): Promise<PullOutcome> {
  const startedAt = around.now();
  const sum = emptyReport(startedAt);
  const said = new Set<string>();
  const warn: Say = (message, facts) => {
    if (said.has(message)) return;
    said.add(message);
    sum.warnings.push(message);
    around.warn(message, facts);
  };
  const standing = new Map<string, Standing>();
  return await atSite({ ...around, warn, failed: undefined }, async (site) => {
    // The first time what is wrong with the request or the configuration is thrown.
    let agents = chooseAgents(site.state, around.config, request.agents);
    const follower: Follower = {
      site,
      sum,
      standing,
      times,
      passed,
      say: around.warn,
      agents: () => agents,
    };
    const followed = new Map<string, { home: AgentHome; end: Promise<void> }>();
    let prunedAt = startedAt.getTime();
    while (!around.signal.aborted) {
      for (const home of agents) {
        const known = followed.get(home.id);
        if (known === undefined) followed.set(home.id, begin(follower, home));
        else Object.assign(known.home, home);
      }
      await pause(times.againMs, around.signal);
      if (around.signal.aborted) break;
      try {
        site.state = await locate(around.env);
        agents = chooseAgents(site.state, around.config, request.agents);
        if (around.now().getTime() - prunedAt >= pruneMs) {
          pruneDeliveries(site.deliveries, around.now());
          prunedAt = around.now().getTime();
        }
      } catch (error) {
        warn(describe(error), { code: codeIn(error) });
      }
    }
    await Promise.all([...followed.values()].map(({ end }) => end));
    const stopped = stoppedBy(around.signal);
    if (stopped !== undefined) sum.interrupted = stopped;
    const last = [...standing.values()];
    fillFailed(sum, last, around);
    closePullReport(sum, around.now());
    return { report: sum, unavailable: last.some(({ unavailable }) => unavailable) };
  });
}

/** How an agent's last pass ended. */
interface Standing {
  undelivered: FailedItem[];
  /** Of the last pass over all that is pending. */
  setAside: FailedItem[];
  untold: FailedItem[];
  unavailable: boolean;
  audit: PullAudit;
  /** What a first pass of either has shown; before that it is not known to be well. */
  delivers: boolean;
  tells: boolean;
}

interface Follower {
  site: Site;
  sum: PullReport;
  standing: Map<string, Standing>;
  times: FollowTimes;
  passed: (audit: PullAudit, agent: string) => void;
  say: Say;
  /** Those that there are now. */
  agents: () => readonly AgentHome[];
}

function begin(follower: Follower, agent: AgentHome): { home: AgentHome; end: Promise<void> } {
  const home = { ...agent };
  return { home, end: followAgent(follower, home) };
}

/** Until the signal; never rejects. */
async function followAgent(follower: Follower, agent: AgentHome): Promise<void> {
  const { site, sum, times } = follower;
  const { signal } = site.around;
  const complain = complaints(follower, agent);
  while (!signal.aborted) {
    const attempt = emptyReport(site.around.now());
    const mine = `agent ${agent.id}`;
    const others = (items: FailedItem[] = []) => items.filter(({ item }) => item !== mine);
    await underItsLock(site, agent, attempt, async () => {
      sum.busy = others(sum.busy);
      const arrived = bell();
      await Promise.all([deliverLoop(follower, agent, arrived), tellLoop(follower, agent, arrived)]);
    });
    // Held by another run, or not to be worked on at all: looked at again later.
    complain([...attempt.failed, ...(attempt.busy ?? [])]);
    sum.busy = [...others(sum.busy), ...(attempt.busy ?? [])];
    if (attempt.failed.length > 0) {
      standingOf(follower, agent).undelivered = attempt.failed;
      settle(follower, agent, emptyPullAudit(agent.id, aliasOf(site.around.config, agent.id)));
    }
    await pause(times.againMs / 4, signal);
  }
  if (sum.busy?.length === 0) delete sum.busy;
}

async function deliverLoop(follower: Follower, agent: AgentHome, arrived: Bell): Promise<void> {
  const { site, times } = follower;
  const { signal, now } = site.around;
  const standing = standingOf(follower, agent);
  let left: Position | undefined;
  let wholeAt = 0;
  const complain = complaints(follower, agent);
  for (let backoff = shortestBackoffMs; !signal.aborted; ) {
    const audit = emptyPullAudit(agent.id, aliasOf(site.around.config, agent.id));
    const failed: FailedItem[] = [];
    const setAside: FailedItem[] = [];
    const pass = {
      audit,
      fail: (item: FailedItem) => failed.push(item),
      setAside: (item: FailedItem) => setAside.push(item),
    };
    let thrown = false;
    // What failed is pending, and would end every wait at once: only what comes after it is waited for.
    const whole = left === undefined || now().getTime() - wholeAt >= times.againMs;
    try {
      if (whole) wholeAt = now().getTime();
      const wait = whole ? times.waitMs : Math.min(times.waitMs, times.againMs);
      const stopped = await deliver(site, agent, pass, { after: whole ? undefined : left, waitMs: wait });
      if (audit.delivered > 0 && !signal.aborted) {
        await pause(times.togetherMs, signal);
        left = (await deliver(site, agent, pass, { after: stopped ?? left })) ?? stopped ?? left;
      } else left = whole ? stopped : (stopped ?? left);
      backoff = shortestBackoffMs;
      standing.unavailable = false;
      standing.undelivered = whole ? failed : [...standing.undelivered, ...failed];
      if (whole) standing.setAside = setAside;
    } catch (error) {
      if (signal.aborted && failed.length === 0 && audit.delivered === 0) break;
      thrown = true;
      if (!signal.aborted) failed.push(agentFailure(site, agent, error));
      standing.unavailable = site.isOutage(error);
      standing.undelivered = failed;
    }
    standing.delivers = true;
    settle(follower, agent, audit);
    if (audit.delivered > 0) arrived.ring();
    complain(standing.undelivered);
    if (!thrown) continue;
    await pause(backoff * (0.5 + Math.random() / 2), signal);
    backoff = Math.min(backoff * 2, times.againMs);
  }
  arrived.ring();
}

async function tellLoop(follower: Follower, agent: AgentHome, arrived: Bell): Promise<void> {
  const { site, times } = follower;
  const { signal } = site.around;
  const standing = standingOf(follower, agent);
  const complain = complaints(follower, agent);
  // What is not closed yet was left by a run that died, or has arrived whole when the bell rings.
  let arrivedWhole = true;
  while (!signal.aborted) {
    const audit = emptyPullAudit(agent.id, aliasOf(site.around.config, agent.id));
    const failed: FailedItem[] = [];
    try {
      if (arrivedWhole) closeBatch(site, agent);
      await tell(site, agent, { audit, fail: (item) => failed.push(item), setAside: () => undefined });
    } catch (error) {
      if (signal.aborted) return;
      failed.push(agentFailure(site, agent, error));
    }
    complain(failed);
    standing.untold = failed;
    standing.tells = true;
    settle(follower, agent, audit);
    arrivedWhole = await arrived.rung(times.againMs, signal);
  }
}

/** Says what is wrong once, and again when it has been well in between. */
function complaints({ say }: Follower, { id: agent }: AgentHome): (items: readonly FailedItem[]) => void {
  let said = new Map<string, string>();
  return (items) => {
    const now = new Map(items.map(({ item, reason }) => [`${item}: ${reason}`, item]));
    for (const [sentence, item] of now) if (!said.has(sentence)) say(sentence, { agent, item });
    said = now;
  };
}

function standingOf({ standing, site }: Follower, agent: AgentHome): Standing {
  const audit = emptyPullAudit(agent.id, aliasOf(site.around.config, agent.id));
  const found = standing.get(agent.id) ?? {
    undelivered: [],
    setAside: [],
    untold: [],
    unavailable: false,
    audit,
    delivers: false,
    tells: false,
  };
  standing.set(agent.id, found);
  return found;
}

/** Adds what a pass did to the sum, and keeps how all agents stand now as one run. */
function settle(follower: Follower, agent: AgentHome, audit: PullAudit): void {
  const { site, sum, standing, passed } = follower;
  const { now, warn, ended } = site.around;
  standingOf(follower, agent).audit = audit;
  const before = sum.agents[agent.id];
  sum.agents[agent.id] = before === undefined ? audit : added(before, audit);
  const { done, admitted, repeated } = audit.notified;
  const eventful = audit.delivered + done + admitted + repeated > 0;
  if (eventful) passed(audit, agent.id);
  const run = emptyReport(now());
  if ((sum.busy ?? []).length > 0) run.busy = sum.busy ?? [];
  run.agents = Object.fromEntries([...standing].map(([id, last]) => [id, last.audit]));
  fillFailed(run, [...standing.values()], site.around);
  closePullReport(run, now());
  // With agents that were not looked at yet, what failed before this process began may fail still.
  const known = follower.agents().every(({ id }) => {
    const last = standing.get(id);
    const isElsewhere = run.busy?.some(({ item }) => item === `agent ${id}`) === true;
    return isElsewhere || (last !== undefined && last.delivers && last.tells);
  });
  if (run.failed.length === 0 && !known) return;
  rememberRun(site.ledger, run, eventful, now(), warn, true);
  ended?.(run);
}

function fillFailed(report: PullReport, last: readonly Standing[], { beside }: PullSurroundings): void {
  report.failed = last.flatMap(({ undelivered, untold }) => [...undelivered, ...untold]);
  report.failed.push(...(beside?.failed ?? []));
  report.setAside = last.flatMap(({ setAside }) => setAside);
  report.setAside.push(...(beside?.setAside ?? []));
}

interface Bell {
  ring(): void;
  /** Resolves when it was rung since the last time, or after the longest pause or at the signal, with false. */
  rung(longestMs: number, signal: AbortSignal): Promise<boolean>;
}

function bell(): Bell {
  let ringing = false;
  let wake: AbortController | undefined;
  return {
    ring() {
      ringing = true;
      wake?.abort();
    },
    async rung(longestMs, signal) {
      wake = new AbortController();
      if (!ringing) await pause(longestMs, AbortSignal.any([signal, wake.signal]));
      const rung = ringing;
      ringing = false;
      wake = undefined;
      return rung;
    },
  };
}

/** Ends early at the signal, without an error. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
