import { type Config, openclawEnvironment } from '../config.ts';
import type { Environment } from '../configfile.ts';
import { formatAge, formatItems } from '../format.ts';
import { listAgent } from '../openclaw/agent.ts';
import { locate } from '../openclaw/locate.ts';
import { copyKinds } from '../openclaw/source.ts';
import { aliasOf } from './choosing.ts';
import type { Ledger } from './ledger.ts';
import { isShipped } from './sortout.ts';

/**
 * What OpenClaw will delete within `alerts.riskHours` and is not in the archive, by the ledger, in one sentence;
 * `undefined` when that is nothing. Opens no transcript.
 */
export async function atRisk(
  config: Config,
  env: Environment,
  ledger: Ledger,
  now: number,
): Promise<string | undefined> {
  const state = await locate(openclawEnvironment(config, env));
  const store = ledger.latestStore() ?? '';
  const soon = now + config.alerts.riskHours * 3_600_000;
  const counts: string[] = [];
  let first = Number.POSITIVE_INFINITY;
  let sessions = 0;
  for (const agent of state.agents) {
    if (config.agents[agent.id]?.skip === true) continue;
    const settleMs = config.settleMinutes * 60_000;
    const { places } = await listAgent(state, agent, { everything: true, now, settleMs });
    const shipped = ledger.shipped(store, aliasOf(config, agent.id));
    const found = places.filter((place) => {
      if (copyKinds.has(place.kind) || place.prunedAt === undefined || place.prunedAt > soon) return false;
      const row = shipped.get(place.place);
      return row === undefined || !isShipped(place, row);
    });
    if (found.length === 0) continue;
    const ids = new Set(found.map(({ sessionId }) => sessionId)).size;
    sessions += ids;
    counts.push(`${agent.id} ${ids}`);
    first = Math.min(first, ...found.map(({ prunedAt }) => prunedAt ?? Number.POSITIVE_INFINITY));
  }
  if (sessions === 0) return undefined;
  const when = first <= now ? 'any time now' : formatAge(first, now);
  return `${formatItems(sessions, 'session')} that OpenClaw will delete within ${config.alerts.riskHours} h and that ${sessions === 1 ? 'is' : 'are'} not archived (${counts.join(', ')}), the first ${when}.`;
}
