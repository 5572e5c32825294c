import type { Place } from './source.ts';
import { isCronKey } from './sessionkey.ts';

/** How long OpenClaw keeps things, ms; `undefined` is for ever. */
export interface Retention {
  /** Isolated cron sessions (`cron.sessionRetention`, default 24 h). */
  cronMs: number | undefined;
  /** Sessions, deleted archives and orphans (`session.maintenance.pruneAfter`, default 30 days). */
  pruneMs: number | undefined;
  /** Archives of resets (`session.maintenance.resetArchiveRetention`, default as `pruneAfter`). */
  resetMs: number | undefined;
}

const hour = 3_600_000;
const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: hour, d: 24 * hour };

/** OpenClaw's durations: `24h`, `1h30m`, `30` in the default unit. `undefined` when it is none. */
export function durationMs(text: unknown, unit: 'h' | 'd'): number | undefined {
  if (typeof text === 'number') return durationMs(String(text), unit);
  if (typeof text !== 'string') return undefined;
  const trimmed = text.trim().toLowerCase();
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) return Math.round(Number(trimmed) * (units[unit] ?? 0));
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(trimmed)) return undefined;
  let total = 0;
  for (const [, value, of] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g))
    total += Number(value) * (units[of ?? ''] ?? 0);
  return Math.round(total);
}

/** Reads it from openclaw.json; what is malformed there has OpenClaw's default, as in OpenClaw. */
export function retentionOf(config: Record<string, unknown>): Retention {
  const cron = at(config, 'cron')['sessionRetention'];
  const maintenance = at(at(config, 'session'), 'maintenance');
  // In this mode OpenClaw only says what it would delete.
  const keeps = maintenance['mode'] === 'warn';
  const cronMs = cron === false ? undefined : (durationMs(cron, 'h') ?? 24 * hour);
  const pruneMs = keeps ? undefined : (durationMs(maintenance['pruneAfter'], 'd') ?? 30 * 24 * hour);
  const reset = maintenance['resetArchiveRetention'];
  return {
    cronMs: cronMs === 0 ? undefined : cronMs,
    pruneMs,
    resetMs: keeps || reset === false ? undefined : (durationMs(reset, 'd') ?? pruneMs),
  };
}

/** When OpenClaw deletes a place by its own rules, ms since 1970; `undefined` when no deadline is known. */
export function prunedAt(
  retention: Retention,
  place: Pick<Place, 'kind' | 'era' | 'changedAt'> & {
    sessionKey?: string | undefined;
    closedAt?: number | undefined;
  },
): number | undefined {
  const after = (from: number, ms: number | undefined) => (ms === undefined ? undefined : from + ms);
  const { kind, changedAt, sessionKey } = place;
  if (kind === 'plain' || kind === 'rows')
    return after(
      changedAt,
      sessionKey !== undefined && isCronKey(sessionKey) ? retention.cronMs : retention.pruneMs,
    );
  // The SQLite era keeps its archives until its disk budget is used up.
  if ((kind === 'reset' || kind === 'deleted') && place.era === 'file')
    return after(place.closedAt ?? changedAt, kind === 'reset' ? retention.resetMs : retention.pruneMs);
  return kind === 'checkpoint' || kind === 'backup' ? after(changedAt, retention.pruneMs) : undefined;
}

function at(object: Record<string, unknown>, key: string): Record<string, unknown> {
  const value = object[key];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}
