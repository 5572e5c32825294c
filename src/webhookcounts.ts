import { NexusError } from './errors.ts';
import type { Delivery } from './mailbox.ts';
import type { Store } from './stores/store.ts';
import { bytesOf, textOf } from './webhookrows.ts';

/** What is pending for an agent. */
export interface Count {
  items: number;
  bytes: number;
  oldestAt?: string;
}

export async function countPending(store: Store, agent: string): Promise<Count> {
  const count: Count = { items: 0, bytes: 0 };
  // It is in the way as any other, and nobody knows how large it is.
  const rotted = (): void => void count.items++;
  for await (const row of store.rows('WebhookItems', agent, undefined, rotted)) {
    count.items++;
    count.bytes += bytesOf(row);
    const at = textOf(row, 'ReceivedAt');
    if (count.oldestAt === undefined && at !== undefined) count.oldestAt = at;
  }
  return count;
}

/** How full the mailboxes are that may not grow without limit, known without reading them for each webhook. */
export interface Counts {
  /**
   * Makes room for one more, or refuses it: `too_large` when it never fits, `unavailable` when it does not now. To be
   * told at the end whether it is pending; if not, its room is given back.
   */
  take(agent: string, bytes: number, most: Most): Promise<(kept: boolean) => void>;
  /** So many left pending in this process. */
  left(agent: string, items: number, bytes: number): void;
}

type Most = NonNullable<Delivery['most']>;

/** Before one is refused: so soon, or after so many times as long as the last count took. */
const refusedAgainMs = 250;
const refusedAgainTimes = 20;
/** What is nearly full or fills quickly is counted again so soon. */
const countAgainMs = 10_000;
/** What is far from full. */
const farAgainMs = 60_000;
/** Nearly full, and how much at once is quickly: parts of the most that it may hold. */
const near = 0.9;
const quick = 0.05;

interface Known {
  /** As last counted, and what this process has put in and taken out since. Absent before the first count. */
  count?: Count;
  /** When the last try to count ended, by `performance.now()`. */
  at: number;
  /** How long that took, ms. */
  took: number;
  /** The count that is under way: one at a time. */
  counting?: Promise<void>;
  /** What a count that is under way may not see: what was being received when it began, or came since. */
  unseen: Count;
  /** What is being received. */
  coming: Count;
  /** What this process has put in since the last count. */
  fresh: Count;
}

/**
 * Counting reads all that is pending, so it is done aside while there is room, and awaited only before the first
 * webhook and before one is refused. What other processes put in or take out is known from the last count on: at most
 * a minute old where something arrives, 10 s where the mailbox is nearly full or fills quickly, and a moment before
 * one is refused. A count may be too high
 * by what comes or leaves while it is made, never too low by what this process has received.
 */
export function openCounts(store: Store): Counts {
  const known = new Map<string, Known>();

  function knownOf(agent: string): Known {
    const before = known.get(agent);
    if (before !== undefined) return before;
    const fresh = { at: 0, took: 0, unseen: nothing(), coming: nothing(), fresh: nothing() };
    known.set(agent, fresh);
    return fresh;
  }

  function counting(agent: string, of: Known): Promise<void> {
    if (of.counting !== undefined) return of.counting;
    const began = performance.now();
    of.counting = countAgain(agent, of).finally(() => {
      of.at = performance.now();
      of.took = of.at - began;
      delete of.counting;
    });
    return of.counting;
  }

  async function countAgain(agent: string, of: Known): Promise<void> {
    of.unseen = { ...of.coming };
    const count = await countPending(store, agent);
    add(count, of.unseen);
    of.count = count;
    of.fresh = nothing();
  }

  return {
    async take(agent, bytes, most) {
      if (most.bytes > 0 && bytes > most.bytes)
        throw new NexusError(
          'too_large',
          `A body of ${bytes} bytes is more than the mailbox of ${agent} may hold.`,
        );
      if (most.items === 0 && most.bytes === 0) return () => undefined;
      const of = knownOf(agent);
      const one = { items: 1, bytes };
      const age = (): number => performance.now() - of.at;
      if (of.count === undefined) await counting(agent, of);
      const again = Math.min(countAgainMs, Math.max(refusedAgainMs, refusedAgainTimes * of.took));
      if (of.count !== undefined && fullness(of.count, one, most) > 1 && age() >= again)
        await counting(agent, of);
      const { count } = of;
      if (count === undefined || fullness(count, one, most) > 1)
        throw new NexusError('unavailable', `The mailbox of ${agent} is full; its host has not emptied it.`, {
          retryAfter: 30,
        });
      const soon = fullness(count, one, most) >= near || fullness(of.fresh, one, most) >= quick;
      // One that fails is tried again, and then, where it matters, awaited.
      if (age() >= (soon ? countAgainMs : farAgainMs)) counting(agent, of).catch(() => undefined);
      for (const sum of [count, of.coming, of.fresh, of.unseen]) add(sum, one);
      return (kept) => {
        subtract(of.coming, one);
        if (kept) return;
        subtract(of.unseen, one);
        if (of.count !== undefined) subtract(of.count, one);
      };
    },
    left(agent, items, bytes) {
      const count = known.get(agent)?.count;
      if (count !== undefined) subtract(count, { items, bytes });
    },
  };
}

function nothing(): Count {
  return { items: 0, bytes: 0 };
}

function add(sum: Count, more: Count): void {
  sum.items += more.items;
  sum.bytes += more.bytes;
}

function subtract(sum: Count, less: Count): void {
  sum.items = Math.max(0, sum.items - less.items);
  sum.bytes = Math.max(0, sum.bytes - less.bytes);
}

/** How full it would be with one more: more than 1 is too much. */
function fullness(count: Count, one: Count, most: Most): number {
  return Math.max(
    most.items > 0 ? (count.items + one.items) / most.items : 0,
    most.bytes > 0 ? (count.bytes + one.bytes) / most.bytes : 0,
  );
}
