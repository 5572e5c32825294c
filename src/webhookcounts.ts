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
  for await (const row of store.rows('WebhookItems', agent)) {
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
   * Makes room for one more, or refuses it: `too_large` when it never fits, `unavailable` when it does not now. What
   * it answers gives the room back.
   */
  take(agent: string, bytes: number, most: NonNullable<Delivery['most']>): Promise<() => void>;
  /** So many left pending in this process. */
  left(agent: string, items: number, bytes: number): void;
}

const countAgainMs = 10_000;

export function openCounts(store: Store): Counts {
  const counts = new Map<string, { at: number; count: Promise<Count> }>();

  function current(agent: string): Promise<Count> {
    const known = counts.get(agent);
    if (known !== undefined && performance.now() - known.at < countAgainMs) return known.count;
    const count = countPending(store, agent);
    counts.set(agent, { at: performance.now(), count });
    // Whoever awaits it learns of the failure; the next one counts anew.
    count.catch(() => counts.delete(agent));
    return count;
  }

  return {
    async take(agent, bytes, most) {
      if (most.bytes > 0 && bytes > most.bytes)
        throw new NexusError(
          'too_large',
          `A body of ${bytes} bytes is more than the mailbox of ${agent} may hold.`,
        );
      if (most.items === 0 && most.bytes === 0) return () => undefined;
      const count = await current(agent);
      if (
        (most.items > 0 && count.items + 1 > most.items) ||
        (most.bytes > 0 && count.bytes + bytes > most.bytes)
      )
        throw new NexusError('unavailable', `The mailbox of ${agent} is full; its host has not emptied it.`, {
          retryAfter: 30,
        });
      count.items++;
      count.bytes += bytes;
      return () => {
        count.items--;
        count.bytes -= bytes;
      };
    },
    left(agent, items, bytes) {
      counts.get(agent)?.count.then(
        (count) => {
          count.items -= items;
          count.bytes -= bytes;
        },
        () => undefined,
      );
    },
  };
}
