import { describe } from '../errors.ts';
import { type Failure, isSetAside, mailStore } from './failures.ts';
import type { Ledger } from './ledger.ts';

/** What is in an item's way: its body is gone from Nexus, or it cannot become a file of the inbox. */
export type Obstacle = 'body' | 'file';

/** How often in a row each of an agent's items failed for a reason of its own. */
export interface MailFailures {
  /** Counts one more. */
  note: (item: string, obstacle: Obstacle, reason: string) => void;
  /** Why it is left alone; `undefined` when it is not. */
  setAside: (item: string, obstacle: Obstacle) => Failure | undefined;
  /** What is in the inbox now. */
  forget: (items: readonly string[]) => void;
  /** What is pending is these alone: the others were delivered, or dropped. */
  keepOnly: (pending: ReadonlySet<string>) => void;
}

export interface CountingMail {
  ledger: Ledger;
  /** The agent's id in Nexus. */
  as: string;
  /** `setAsideAfter`. */
  after: number;
  now: () => Date;
  warn: (message: string) => void;
}

/** A ledger that cannot be read or written counts nothing, is warned of, and keeps no mail from its agent. */
export function mailFailures({ ledger, as, after, now, warn }: CountingMail): MailFailures {
  let known = new Map<string, Failure>();
  const counting = (work: () => void) => {
    try {
      work();
    } catch (error) {
      warn(`How often webhooks of ${as} fail cannot be counted: ${describe(error)}`);
    }
  };
  counting(() => {
    known = ledger.failures(mailStore, as);
  });
  const forget = (item: string) => {
    ledger.forgetFailure(mailStore, as, item);
    known.delete(item);
  };
  return {
    note: (item, obstacle, reason) =>
      counting(
        () => void ledger.noteFailure(mailStore, as, { item, signature: obstacle, reason }, now().getTime()),
      ),
    setAside(item, obstacle) {
      const failure = known.get(item);
      return isSetAside(failure, obstacle, after) ? failure : undefined;
    },
    forget: (items) =>
      counting(() => {
        for (const item of items) if (known.has(item)) forget(item);
      }),
    keepOnly: (pending) =>
      counting(() => {
        for (const item of known.keys()) if (!pending.has(item)) forget(item);
      }),
  };
}
