import { NexusError } from '../errors.ts';

/** Counts requests in this process; each replica of an endpoint counts its own. */
export interface RateLimit {
  /** Throws `limited`, with the seconds until there is room, when `name` has had `perMinute` (0: without limit). */
  take(name: string, perMinute: number): void;
}

interface Bucket {
  /** Requests that may come at once. */
  left: number;
  /** When that was so, ms since 1970. */
  at: number;
}

/** Buckets that refill in time. Ten seconds' worth may come at once, at least one. */
export function openRateLimit(now: () => Date): RateLimit {
  const buckets = new Map<string, Bucket>();
  return {
    take(name, perMinute) {
      if (perMinute === 0) {
        buckets.delete(name);
        return;
      }
      const most = Math.max(1, perMinute / 6);
      const perMs = perMinute / 60_000;
      const at = now().getTime();
      const bucket = buckets.get(name) ?? { left: most, at };
      // A clock that was set back refills nothing.
      const left = Math.min(most, bucket.left + Math.max(0, at - bucket.at) * perMs);
      // Fractions that have been added up miss the whole by a little.
      const room = left > 1 - 1e-6;
      buckets.set(name, { left: room ? left - 1 : left, at });
      if (room) return;
      throw new NexusError('limited', `More than ${perMinute} requests a minute: try again later.`, {
        retryAfter: Math.max(1, Math.ceil((1 - left) / perMs / 1000)),
      });
    },
  };
}
