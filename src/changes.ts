import { failedWith } from './errors.ts';
import { keyOf, type Row, type Store } from './stores/store.ts';

/** A transcript by its name. */
export interface Named {
  agent: string;
  transcript: string;
}

/** A process names a transcript once in this time, however often it appends to it, ms. */
const announceEveryMs = 5 * 60_000;
/** How far before its last look a reader begins, ms. */
export const overlapMs = 15 * 60_000;
/** A reader that last looked longer ago than this cannot rely on the feed, ms: it compares the whole list. */
export const reliableMs = 2 * 86_400_000;

const dayMs = 86_400_000;
const table = 'Changes';
/** Days whose rows are kept, today not counted. */
const keptDays = 3;
/** Days without a row after which pruning looks no further back. */
const emptyDays = 30;
const timeDigits = 13;
/** How many transcripts are remembered as named, at most. */
const most = 20_000;

/**
 * Names transcripts in the feed, as intent: a row `{Agent, Transcript, At}` in the partition of the UTC day, whose id
 * begins with the time in ms. Begin it before the append that it announces, which need not wait for it, and take that
 * append for acknowledged only when both have succeeded. Only a call that succeeded is remembered, so that a sender's
 * repeat announces again, also where the append before it had arrived.
 *
 * What a kill in between leaves: the embedded store commits what it is handed in order, and the row is handed in before
 * the bytes are written, so that no length counts without it. On Azure both are under way at once, and there may be
 * bytes without a row: they were not acknowledged. Their sender's repeat announces them; where it finds them there and
 * sends nothing, they are found when the whole list is compared.
 *
 * Why a reader that takes `overlapMs` each time misses nothing, although a process names a transcript only every
 * `announceEveryMs`: of an append that begins at T there is a row of a time A ≥ T − 5 min, written before the append
 * was acknowledged. A reader that did not see its bytes at a look R, and so must see the row at a later one, reads all
 * rows from R − 15 min on. The bytes came after R, so T > R − D, where D is how long the append took, and
 * A > R − D − 5 min. That is within the overlap as long as D and the difference of both clocks are under 10 minutes
 * together; what is beyond is found when the whole list is compared.
 */
export function announcing(
  store: Store,
  now: () => Date,
): (agent: string, transcript: string) => Promise<void> {
  const named = new Map<string, number>();
  return async (agent, transcript) => {
    const key = `${agent}/${transcript}`;
    const at = now().getTime();
    const before = named.get(key);
    // A clock that was set back must not silence the feed.
    if (before !== undefined && at >= before && at - before < announceEveryMs) return;
    await store.put(table, rowOf(agent, transcript, at));
    named.delete(key);
    named.set(key, at);
    const oldest = named.size > most ? named.keys().next().value : undefined;
    if (oldest !== undefined) named.delete(oldest);
  };
}

function rowOf(Agent: string, Transcript: string, at: number): Row {
  return {
    partition: dayOf(at),
    id: `${timeOf(at)}-${keyOf(`${Agent}/${Transcript}`)}`,
    Agent,
    Transcript,
    At: new Date(at).toISOString(),
  };
}

/**
 * Every transcript that the feed names since `from`, once; times are ms since 1970. `corrupt` where it may have named
 * another: then only the whole list tells.
 */
export async function changedSince(store: Store, from: number, now: number): Promise<Named[]> {
  const found = new Map<string, Named>();
  // A day further, for writers whose clock is ahead.
  for (let day = floorDay(from); day <= floorDay(now) + dayMs; day += dayMs)
    for await (const row of store.rows(table, dayOf(day), { from: timeOf(from) })) {
      const [agent, transcript] = [row['Agent'], row['Transcript']];
      if (typeof agent === 'string' && typeof transcript === 'string')
        found.set(`${agent}/${transcript}`, { agent, transcript });
    }
  return [...found.values()];
}

/** Removes what is older than any reader needs; of a store that does not allow it, it stays. */
export async function pruneChanges(store: Store, now: number): Promise<number> {
  let removed = 0;
  try {
    for (
      let day = floorDay(now) - (keptDays + 1) * dayMs, empty = 0;
      empty < emptyDays;
      day -= dayMs, empty++
    ) {
      const ids: string[] = [];
      for await (const { id } of store.rows(table, dayOf(day), {}, (rotted) => ids.push(rotted)))
        ids.push(id);
      if (ids.length === 0) continue;
      await store.removeRows(table, dayOf(day), ids);
      removed += ids.length;
      empty = -1;
    }
  } catch (error) {
    if (!failedWith(error, 'forbidden')) throw error;
  }
  return removed;
}

function floorDay(at: number): number {
  return Math.floor(at / dayMs) * dayMs;
}

function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

function timeOf(at: number): string {
  return String(Math.max(0, Math.floor(at))).padStart(timeDigits, '0');
}
