import { setMaxListeners } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { checkAgentId } from './agents.ts';
import { failedWith, NexusError } from './errors.ts';
import type { BrokenItem, Item, PendingPage, PendingRequest, Position } from './mailbox.ts';
import type { Row, Store } from './stores/store.ts';
import { bindAll } from './webhookbinding.ts';
import { bodyOf, bytesOfItem, costOf, itemOf } from './webhookbodies.ts';

const pageBytes = 10 * 1024 * 1024;
const mostBroken = 100;
/** How often to look for what another process has received. */
const lookEveryMs = 2000;
/** Together no more than a page, or one that is larger: their costs are no less than their bytes. */
const bodiesAtOnce = 8;
/** What is read of a page before others have their turn. */
const turnBytes = 256 * 1024;

/** Tells those that wait in this process that something has arrived. */
export interface Arrivals {
  arrived(agent: string): void;
  /** Resolves at the next arrival for one of them, after `ms` at the latest, or when `signal` aborts. */
  waiting(agents: ReadonlySet<string> | undefined): {
    next(ms: number, signal: AbortSignal): Promise<void>;
    end(): void;
  };
}

export function openArrivals(): Arrivals {
  const listeners = new Set<(agent: string) => void>();
  return {
    arrived(agent) {
      for (const listener of listeners) listener(agent);
    },
    waiting(agents) {
      // What arrives while nobody awaits `next` is remembered.
      let arrived = false;
      let wake = (): void => undefined;
      const listener = (agent: string): void => {
        if (agents?.has(agent) === false) return;
        arrived = true;
        wake();
      };
      listeners.add(listener);
      return {
        async next(ms, signal) {
          if (!arrived && !signal.aborted) {
            const { promise, resolve } = Promise.withResolvers<void>();
            const timer = setTimeout(resolve, ms);
            wake = () => resolve();
            signal.addEventListener('abort', wake);
            await promise;
            clearTimeout(timer);
            signal.removeEventListener('abort', wake);
          }
          arrived = false;
        },
        end: () => void listeners.delete(listener),
      };
    },
  };
}

/** Pages of what is pending; `closing` ends the waits. */
export function openPending(
  store: Store,
  agentsKnown: () => Promise<string[]>,
  arrivals: Arrivals,
  now: () => Date,
  closing: AbortSignal,
): (request: PendingRequest) => Promise<PendingPage> {
  setMaxListeners(0, closing);

  /** The rows of a page, in order; `next` when there is one more. */
  async function pageOfRows(
    agents: readonly string[],
    limit: number,
    after: Position | undefined,
    room: number,
  ): Promise<{ rows: Row[]; next?: Position; rotted: BrokenItem[] }> {
    const rows: Row[] = [];
    let rotted: BrokenItem[] = [];
    let bytes = 0;
    let last: Position | undefined;
    for (const agent of agents) {
      if (after !== undefined && agent < after.agent) continue;
      const from = after?.agent === agent ? `${after.row}\u0000` : '';
      let fresh: BrokenItem[] = [];
      const tell = (row: string, { message: reason }: NexusError): void =>
        void fresh.push({ id: `${agent}.${row}`, reason });
      for await (const row of store.rows('WebhookItems', agent, { from }, tell)) {
        const cost = costOf(row);
        // What rotted behind the last one is for the next page.
        if (last !== undefined && (rows.length >= limit || bytes + cost > room))
          return { rows, next: last, rotted };
        rotted = [...rotted, ...fresh];
        fresh = [];
        rows.push(row);
        bytes += cost;
        last = { agent, row: row.id };
      }
      rotted = [...rotted, ...fresh];
    }
    return { rows, rotted };
  }

  async function read(request: PendingRequest, limit: number): Promise<PendingPage> {
    const agents =
      request.agents === '*' ? await agentsKnown() : [...new Set(request.agents)].map(checkAgentId).sort();
    if (request.host !== undefined && request.agents !== '*')
      await bindAll(store, agents, request.host, now().toISOString());
    const items: Item[] = [];
    const broken: BrokenItem[] = [];
    let after = request.after;
    do {
      const page = await pageOfRows(agents, limit, after, pageBytes);
      if (request.host !== undefined && request.agents === '*')
        await bindAll(
          store,
          [...new Set(page.rows.map((row) => row.partition))],
          request.host,
          now().toISOString(),
        );
      const { left, ...read } = await itemsOf(page.rows);
      items.push(...read.items);
      broken.push(...page.rotted, ...read.broken);
      after = left ?? page.next;
      // A page of broken items alone would hide the sound ones behind them from who takes it for the last.
    } while (items.length === 0 && after !== undefined && broken.length < mostBroken);
    return {
      items,
      ...(after === undefined ? {} : { next: after }),
      ...(broken.length === 0 ? {} : { broken }),
    };
  }

  /**
   * The items of rows, as many as a page has room for; `left` is where it goes on when there is none for all. What an
   * item's JSON has is not known before it is made, so that one is made after another.
   */
  async function itemsOf(rows: Row[]): Promise<{ items: Item[]; broken: BrokenItem[]; left?: Position }> {
    const items: Item[] = [];
    const broken: BrokenItem[] = [];
    let bytes = 0;
    let turn = 0;
    let last: Position | undefined;
    for (let first = 0; first < rows.length; first += bodiesAtOnce) {
      const some = rows.slice(first, first + bodiesAtOnce);
      const bodies = await Promise.all(
        some.map(async (row) => ({ row, body: await soundOrReason(() => bodyOf(store, row)) })),
      );
      for (const { row, body } of bodies) {
        const item = typeof body === 'string' ? body : await soundOrReason(() => itemOf(row, body));
        if (typeof item === 'string') broken.push({ id: `${row.partition}.${row.id}`, reason: item });
        else {
          const cost = bytesOfItem(item);
          bytes += cost;
          turn += cost;
          if (last !== undefined && items.length > 0 && bytes > pageBytes)
            return { items, broken, left: last };
          items.push(item);
        }
        last = { agent: row.partition, row: row.id };
        if (turn < turnBytes) continue;
        turn = 0;
        await setImmediate();
      }
    }
    return { items, broken };
  }

  return async (request) => {
    const limit = request.limit ?? 100;
    if (!Number.isInteger(limit) || limit < 1 || limit > 1000)
      throw new NexusError('invalid', 'A page of pending items has a limit of 1 to 1000.');
    const signal = request.signal === undefined ? closing : AbortSignal.any([closing, request.signal]);
    const end = performance.now() + (request.waitMs ?? 0);
    const waiting = arrivals.waiting(request.agents === '*' ? undefined : new Set(request.agents));
    try {
      for (;;) {
        const page = await read(request, limit);
        const left = end - performance.now();
        if (page.items.length > 0 || page.next !== undefined || left <= 0 || signal.aborted) return page;
        await waiting.next(Math.min(lookEveryMs, left), signal);
        if (signal.aborted) return page;
      }
    } finally {
      waiting.end();
    }
  };
}

/** A sentence instead of what is corrupt. */
async function soundOrReason<T extends object>(read: () => Promise<T>): Promise<T | string> {
  try {
    return await read();
  } catch (error) {
    if (!failedWith(error, 'corrupt')) throw error;
    return error.message;
  }
}
