import type { Store } from './stores/store.ts';
import { openSessions } from './sessions.ts';
import type { Price, PriceTable } from './prices.ts';
import { openSeenPrices, type SeenPrices } from './pricesseen.ts';
import { type CatchUpOptions, openCatchUp } from './usagecatchup.ts';
import { coverageOf, type Coverage } from './usagecoverage.ts';
import { type IndexFile, IndexGone, openIndexFile } from './usagefile.ts';
import { type Sums, sumUp, type UsageRow } from './usagequery.ts';
import type { SessionsRequest, UsageRequest } from './usagerequest.ts';
import {
  itemCost,
  type ItemCost,
  itemsOf,
  listSessions,
  type SessionsAnswer,
  topOf,
  type Top,
} from './usagesessions.ts';

/** What every answer says of how much it rests on. */
export interface Standing {
  /** Until when changes were looked for, ISO 8601; `null` before the first look. */
  asOf: string | null;
  /** Everything that was stored then has been read. */
  complete: boolean;
  /**
   * Lines that may have been calls and are in no sum, of the sessions that were asked for: torn, too long, or without a
   * time. The places are among the oddities.
   */
  uncounted: number;
  /** Days of a host's prices that are not what was stored, or of a newer release, and price nothing; absent: none. */
  lostPrices?: number;
  coverage: Coverage;
}

export interface UsageAnswer extends Standing {
  /** In the order of the dimensions asked for; none without a dimension. */
  rows: UsageRow[];
  totals: Sums;
}

/**
 * The ledger of spending over what a store holds. All but `catchUp` and `rebuild` answer from the index as it is; any
 * number of processes may use one index at once.
 */
export interface Usage {
  /** Reads what was stored since. Rejects with the store's error; what was read until then stays. */
  catchUp: (options?: CatchUpOptions) => Promise<Standing>;
  /** `invalid` for a request that makes no sense. Here and below, `within` are the only agents that the answer knows of. */
  query: (request: UsageRequest, within?: Within) => Promise<UsageAnswer>;
  sessions: (request: SessionsRequest, within?: Within) => Promise<SessionsAnswer & Standing>;
  /** The costliest sessions, cron jobs, and runs that cost over twice the median of their job. */
  top: (request: UsageRequest, within?: Within) => Promise<Top & Standing>;
  /** Ids of the webhook items that began a session, given as `agent/session`. */
  items: (session: string) => Promise<string[]>;
  /** What handling a webhook item has cost; `undefined` where no session is known that it began. */
  costOf: (item: string) => Promise<ItemCost | undefined>;
  standing: (within?: Within) => Promise<Standing>;
  /** Nexus's own setting, as it is from now on. */
  setPrices: (prices: readonly Price[]) => Promise<void>;
  /** Forgets the index and reads everything again. */
  rebuild: (options?: CatchUpOptions) => Promise<Standing>;
  /** Closes the index; the store is its opener's. */
  close: () => Promise<void>;
}

/** Agents whose figures one may see; not said: all. */
export type Within = readonly string[] | undefined;

export interface UsageOptions {
  store: Store;
  /** The index's SQLite file, in a directory of its own: deleting that directory begins the index anew. */
  file: string;
  /** Nexus's own setting. What openclaw.json says comes with the store. */
  prices?: readonly Price[];
  now?: () => Date;
  /** For days where a request names none. */
  timeZone?: string;
  /** The directory of `store`, where it is a local one: with much to read, threads read from it themselves. */
  directory?: string | undefined;
  /** With so many bytes to read, threads are begun. Default 16 MiB. */
  threadsFrom?: number | undefined;
}

const mostOpenings = 5;

interface Opened {
  index: IndexFile;
  catchUp: ReturnType<typeof openCatchUp>;
}

export async function openUsage(options: UsageOptions): Promise<Usage> {
  const { store, file } = options;
  const now = options.now ?? (() => new Date());
  const timeZone = options.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  const nexus = openSessions(store, now);
  const storeId = await store.id();
  const { directory, threadsFrom } = options;
  const place = directory === undefined ? undefined : { directory, id: storeId };
  const seenPrices = openSeenPrices(store);
  let kept = await seenPrices();
  let prices: PriceTable = { own: options.prices ?? [], seen: kept.prices };
  let opened = await open();
  let working: Promise<unknown> = Promise.resolve();

  async function open(discard?: string): Promise<Opened> {
    const index = await openIndexFile(file, storeId, discard);
    try {
      return {
        index,
        catchUp: await index.read(() => openCatchUp(index, store, nexus, now, { place, threadsFrom })),
      };
    } catch (error) {
      index.close();
      if (!isDamaged(error) || index.identity === discard) throw told(error);
      return await open(index.identity);
    }
  }

  /** Opens it again; with `discard` anew, without anything that it holds. */
  async function reopen(discard: boolean): Promise<void> {
    const { index } = opened;
    opened = await open(discard ? index.identity : undefined);
    index.close();
  }

  /** One at a time in this process, and again with another file where the index was deleted or is damaged. */
  async function caughtUp(request: CatchUpOptions, before?: () => Promise<void>): Promise<Standing> {
    const work = working.then(async () => {
      await before?.();
      for (let tries = 1; ; tries++) {
        try {
          await opened.catchUp(request);
          kept = await seenPrices();
          if (kept.prices !== prices.seen) prices = { ...prices, seen: kept.prices };
          return;
        } catch (error) {
          if (!(error instanceof IndexGone) || tries === mostOpenings) throw told(error);
          await reopen(error.damaged);
        }
      }
    });
    working = work.catch(() => undefined);
    await work;
    return await standing();
  }

  /** Again where the index was begun anew meanwhile; one that is found to be damaged is read anew first. */
  async function reading<T>(work: (index: IndexFile) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const used = opened;
      try {
        return await work(used.index);
      } catch (error) {
        if (tries === mostOpenings || (opened === used && !isDamaged(error))) throw told(error);
        if (opened === used)
          await caughtUp({}, async () => {
            if (opened === used) await reopen(true);
          });
      }
    }
  }

  async function standing(within?: Within): Promise<Standing> {
    return await reading((index) =>
      index.read(() => ({ ...coverageOf(index.db, within), ...lostOf(kept, within) })),
    );
  }

  /** Within one snapshot, so that what it says of itself fits its sums. */
  async function answered<T>(
    work: (db: IndexFile['db'], table: PriceTable) => T,
    within?: Within,
  ): Promise<T & Standing> {
    return await reading((index) =>
      index.snapshot(() => ({
        ...coverageOf(index.db, within),
        ...lostOf(kept, within),
        ...work(index.db, prices),
      })),
    );
  }

  const surroundings = (within: Within) => ({ now: now(), timeZone, within });

  return {
    catchUp: (request = {}) => caughtUp(request),
    query: (request, within) =>
      answered((db, table) => sumUp(db, request, table, surroundings(within)), within),
    sessions: (request, within) =>
      answered((db, table) => listSessions(db, request, table, surroundings(within)), within),
    top: (request, within) =>
      answered((db, table) => topOf(db, request, table, surroundings(within)), within),
    items: (session) => reading((index) => index.read(() => itemsOf(index.db, session))),
    async costOf(item) {
      const { cost } = await answered((db, table) => ({ cost: itemCost(db, item, table) }));
      return cost;
    },
    standing,
    setPrices(own) {
      prices = { ...prices, own };
      return Promise.resolve();
    },
    rebuild: (request = {}) => caughtUp(request, () => reopen(true)),
    async close() {
      await working;
      opened.index.close();
    },
  };
}

function lostOf({ lost }: SeenPrices, within: Within): Pick<Standing, 'lostPrices'> {
  const count = lost.filter((agent) => within?.includes(agent) ?? true).length;
  return count === 0 ? {} : { lostPrices: count };
}

function isDamaged(error: unknown): boolean {
  return error instanceof IndexGone && error.damaged;
}

/** What is said to be wrong where beginning anew has not helped. */
function told(error: unknown): unknown {
  return error instanceof IndexGone ? (error.cause ?? error) : error;
}
