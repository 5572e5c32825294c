import type { Nexus } from '../../nexus.ts';
import { within } from '../patience.ts';

/** What came from one machine. Times are ISO 8601, UTC. */
export interface HostStanding {
  host: string;
  transcripts: number;
  bytes: number;
  /** When it last sent something. */
  uploadedAt: string;
  /** The latest event that it sent, where it says when that was. */
  eventAt: string | undefined;
  /** Transcripts that may grow. */
  active: number;
}

export interface HostsStanding {
  /** What came last first. */
  hosts: HostStanding[];
  /** Transcripts that are damaged and in no host's figures. */
  damaged: number;
}

export interface Hosts {
  /**
   * Of these agents, or all. Up to ten minutes old, and a minute where somebody has looked since. `undefined` while
   * they are still being added up. Rejects with the store's error.
   */
  standing: (agents: readonly string[] | undefined) => Promise<HostsStanding | undefined>;
}

interface OfAgent {
  hosts: Map<string, HostStanding>;
  damaged: number;
}

const freshMs = 60_000;
/** Nobody is shown older figures than these. */
const oldMs = 600_000;
/** A page waits no longer for them. */
const usualPatienceMs = 2000;

/**
 * Adds up the index cards of all transcripts, at most once a minute: there can be many, and a far store is slow. Who
 * looks again does not wait for it.
 */
export function openHosts(sessions: Pick<Nexus, 'list'>, patienceMs = usualPatienceMs): Hosts {
  let known: { byAgent: Map<string, OfAgent>; at: number } | undefined;
  let counting: Promise<Map<string, OfAgent>> | undefined;

  async function count(): Promise<Map<string, OfAgent>> {
    const byAgent = new Map<string, OfAgent>();
    const of = (agent: string): OfAgent => {
      const known = byAgent.get(agent) ?? { hosts: new Map<string, HostStanding>(), damaged: 0 };
      byAgent.set(agent, known);
      return known;
    };
    for await (const { agent, host = 'unknown', length, complete, updatedAt, lastEventAt } of sessions.list({
      damaged: ({ agent }) => of(agent).damaged++,
    }))
      addTo(of(agent).hosts, {
        host,
        transcripts: 1,
        bytes: length,
        uploadedAt: updatedAt,
        eventAt: lastEventAt,
        active: complete ? 0 : 1,
      });
    return byAgent;
  }

  async function counted(): Promise<Map<string, OfAgent>> {
    counting ??= count().finally(() => {
      counting = undefined;
    });
    const byAgent = await counting;
    known = { byAgent, at: performance.now() };
    return byAgent;
  }

  async function fresh(): Promise<Map<string, OfAgent>> {
    const age = known === undefined ? Number.POSITIVE_INFINITY : performance.now() - known.at;
    if (known === undefined || age > oldMs) return await counted();
    // The next page has what this counts; what is wrong with the store, it says itself.
    if (age > freshMs) counted().catch(() => undefined);
    return known.byAgent;
  }

  return {
    async standing(agents) {
      const byAgent = await within(patienceMs, fresh());
      if (byAgent === undefined) return undefined;
      const hosts = new Map<string, HostStanding>();
      let damaged = 0;
      for (const agent of agents ?? byAgent.keys()) {
        const of = byAgent.get(agent);
        for (const one of of?.hosts.values() ?? []) addTo(hosts, one);
        damaged += of?.damaged ?? 0;
      }
      const latest = [...hosts.values()].sort((one, other) => (one.uploadedAt < other.uploadedAt ? 1 : -1));
      return { hosts: latest, damaged };
    },
  };
}

function addTo(hosts: Map<string, HostStanding>, one: HostStanding): void {
  const before = hosts.get(one.host);
  hosts.set(one.host, before === undefined ? one : together(before, one));
}

function together(one: HostStanding, other: HostStanding): HostStanding {
  return {
    host: one.host,
    transcripts: one.transcripts + other.transcripts,
    bytes: one.bytes + other.bytes,
    uploadedAt: later(one.uploadedAt, other.uploadedAt) ?? one.uploadedAt,
    eventAt: later(one.eventAt, other.eventAt),
    active: one.active + other.active,
  };
}

/** Times of hosts may have another offset than UTC. */
function later(one: string | undefined, other: string | undefined): string | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return Date.parse(one) >= Date.parse(other) ? one : other;
}
