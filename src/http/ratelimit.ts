import { NexusError } from '../errors.ts';

/** Counts requests in this process; each replica of an endpoint counts its own. */
export interface RateLimit {
  /** Throws `limited`, with the seconds until there is room, when `name` has had `perMinute` (0: without limit). */
  take(name: string, perMinute: number): void;
  /** Whether `take` would throw now. */
  spent(name: string, perMinute: number): boolean;
}

interface Bucket {
  /** Requests that may come at once. */
  left: number;
  /** When that was so, ms since 1970. */
  at: number;
}

export interface RateLimitOptions {
  /** Of a minute's requests, how many may come at once; at least one. Ten seconds' worth. */
  atOnce?: number;
  /** The most names that are remembered, where strangers make them up: of those who came longest ago nothing is known. */
  names?: number;
}

/** Buckets that refill in time. */
export function openRateLimit(
  now: () => Date,
  { atOnce = 1 / 6, names = Number.POSITIVE_INFINITY }: RateLimitOptions = {},
): RateLimit {
  /** Those who came last are last. */
  const buckets = new Map<string, Bucket>();

  function bucketOf(name: string, perMinute: number): Bucket {
    const most = Math.max(1, perMinute * atOnce);
    const at = now().getTime();
    const bucket = buckets.get(name) ?? { left: most, at };
    // A clock that was set back refills nothing.
    const refilled = Math.max(0, at - bucket.at) * (perMinute / 60_000);
    return { left: Math.min(most, bucket.left + refilled), at };
  }

  return {
    take(name, perMinute) {
      if (perMinute === 0) {
        buckets.delete(name);
        return;
      }
      const { left, at } = bucketOf(name, perMinute);
      const room = hasRoom(left);
      buckets.delete(name);
      buckets.set(name, { left: room ? left - 1 : left, at });
      if (buckets.size > names)
        for (const oldest of buckets.keys()) {
          buckets.delete(oldest);
          break;
        }
      if (room) return;
      throw new NexusError('limited', `More than ${perMinute} requests a minute: try again later.`, {
        retryAfter: Math.max(1, Math.ceil(((1 - left) / perMinute) * 60)),
      });
    },
    spent: (name, perMinute) => perMinute !== 0 && !hasRoom(bucketOf(name, perMinute).left),
  };
}

/** Fractions that have been added up miss the whole by a little. */
function hasRoom(left: number): boolean {
  return left > 1 - 1e-6;
}
