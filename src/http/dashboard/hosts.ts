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

export interface Hosts {
  /**
   * Of these agents, or all; what came last first. Up to ten minutes old, and a minute where somebody has looked since.
   * `undefined` while they are still being added up. Rejects with the store's error.
   */
  standing: (agents: readonly string[] | undefined) => Promise<HostStanding[] | undefined>;
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
  let known: { byAgent: Map<string, HostStanding[]>; at: number } | undefined;
  let counting: Promise<Map<string, HostStanding[]>> | undefined;

  async function count(): Promise<Map<string, HostStanding[]>> {
    const byAgent = new Map<string, Map<string, HostStanding>>();
    for await (const { agent, host = 'unknown', length, complete, updatedAt, lastEventAt } of sessions.list({
      damaged: () => undefined,
    })) {
      const hosts = byAgent.get(agent) ?? new Map<string, HostStanding>();
      byAgent.set(agent, hosts);
      const before = hosts.get(host);
      const one = {
        host,
        transcripts: 1,
        bytes: length,
        uploadedAt: updatedAt,
        eventAt: lastEventAt,
        active: complete ? 0 : 1,
      };
      hosts.set(host, before === undefined ? one : together(before, one));
    }
    return new Map([...byAgent].map(([agent, hosts]) => [agent, [...hosts.values()]]));
  }

  async function counted(): Promise<Map<string, HostStanding[]>> {
    counting ??= count().finally(() => {
      counting = undefined;
    });
    const byAgent = await counting;
    known = { byAgent, at: performance.now() };
    return byAgent;
  }

  async function fresh(): Promise<Map<string, HostStanding[]>> {
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
      for (const agent of agents ?? byAgent.keys())
        for (const one of byAgent.get(agent) ?? []) {
          const before = hosts.get(one.host);
          hosts.set(one.host, before === undefined ? one : together(before, one));
        }
      return [...hosts.values()].sort((one, other) => (one.uploadedAt < other.uploadedAt ? 1 : -1));
    },
  };
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
