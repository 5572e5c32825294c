import { NexusError } from './errors.ts';

const minuteMs = 60_000;
const dayMs = 86_400_000;

/** Local days of a time zone. All times are ms since 1970. */
export interface Days {
  /** How far local time is ahead of UTC then, ms. */
  offset: (at: number) => number;
  /** When a local date or time begins. Of a time that the clock skips or has twice, the earlier that fits. */
  begin: (local: string) => number;
  /** Stretches of one offset between two times, in order. */
  stretches: (from: number, to: number) => { from: number; offset: number }[];
}

/** `invalid` for a name that is no time zone. */
export function daysIn(timeZone: string): Days {
  const format = formatOf(timeZone);

  function offset(at: number): number {
    const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]));
    const local = Date.UTC(
      Number(parts['year']),
      Number(parts['month']) - 1,
      Number(parts['day']),
      Number(parts['hour']),
      Number(parts['minute']),
      Number(parts['second']),
    );
    return local - Math.floor(at / 1000) * 1000;
  }

  return {
    offset,

    begin(local) {
      const wall = Date.parse(`${local.length === 10 ? `${local}T00:00` : local}Z`);
      // The offset then is one of those around it.
      const tries = [wall - offset(wall - dayMs), wall - offset(wall + dayMs)];
      const fits = tries.filter((at) => at + offset(at) === wall).sort((one, other) => one - other);
      return fits[0] ?? Math.max(...tries);
    },

    stretches(from, to) {
      const found = [{ from, offset: offset(from) }];
      for (let at = from; at < to; ) {
        const next = Math.min(at + 7 * dayMs, to);
        const last = found.at(-1)?.offset;
        if (offset(next) !== last) {
          let [low, high] = [at, next];
          while (high - low > minuteMs) {
            const middle = Math.floor((low + high) / 2 / minuteMs) * minuteMs;
            if (middle <= low) break;
            if (offset(middle) === last) low = middle;
            else high = middle;
          }
          found.push({ from: high, offset: offset(high) });
          at = high;
        } else at = next;
      }
      return found;
    },
  };
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const minutes = /^[+-]\d\d:?(\d\d)$/.exec(timeZone)?.[1];
  if (minutes !== undefined && Number(minutes) % 15 !== 0)
    throw new NexusError('invalid', `${timeZone} is off the quarters of an hour, by which sums are kept.`, {
      hint: 'Use a name like "Europe/Berlin", or an offset like "+05:45".',
    });
  try {
    return new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new NexusError('invalid', `${JSON.stringify(timeZone.slice(0, 80))} is no time zone.`, {
      hint: 'Use a name like "Europe/Berlin" or "UTC".',
      cause: error,
    });
  }
}

/** `2026-11-23`, of days since 1970-01-01. */
export function dayLabel(day: number): string {
  return new Date(day * dayMs).toISOString().slice(0, 10);
}

/** ISO 8601: `2026-W48`; weeks begin on Monday. */
export function weekLabel(day: number): string {
  // A week belongs to the year of its Thursday; 1970-01-01 was one.
  const thursday = Math.floor((day + 3) / 7) * 7;
  const year = new Date(thursday * dayMs).getUTCFullYear();
  const week = Math.floor((thursday - Date.UTC(year, 0, 1) / dayMs) / 7) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}

export function monthLabel(day: number): string {
  return dayLabel(day).slice(0, 7);
}
