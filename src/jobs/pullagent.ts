import { describe, type ErrorCode, failedWith, NexusError } from '../errors.ts';
import { type Item, type Mailbox, type Position, positionOf } from '../mailbox.ts';
import type { FailedItem } from '../report.ts';
import type { Begun, Deliveries } from './deliveries.ts';
import {
  fileNameOf,
  fileTextOf,
  type Inbox,
  inboxOf,
  isDirectory,
  temporaryName,
  workspaceOf,
} from './inbox.ts';
import { inParallel } from './parallel.ts';
import type { PullAudit } from './pullreport.ts';

/** One agent's mail on its way from Nexus into the inbox. */
export interface AgentPull {
  /** Its id in OpenClaw, and in Nexus. */
  agent: string;
  as: string;
  workspace: string;
  host: string;
  mailbox: Mailbox;
  deliveries: Deliveries;
  openInbox: (workspace: string) => Promise<Inbox>;
  signal: AbortSignal;
  now: () => Date;
  audit: PullAudit;
  /** To be told of what is pending still; of one item more than once where several things are in its way. */
  fail: (item: FailedItem) => void;
  /** To be told of a bug that concerns one item. */
  warn: (message: string) => void;
}

export interface PullFrom {
  /** Only what comes after. */
  after?: Position | undefined;
  /** How long to wait for a first item, ms. */
  waitMs?: number;
}

const pageItems = 1000;
const filesAtOnce = 16;
const strayMs = 3_600_000;

/** A temporary file may be taken away by somebody between two steps; not again and again by chance. */
const triesToWrite = 3;

/**
 * Delivers what is pending for one agent and acknowledges it; what failed stays pending, is named, and stops nothing
 * else. Answers the last such position, so that a caller who waits for more can wait for what comes after. At the
 * signal it ends after the page in hand. Throws what concerns the whole agent.
 *
 * In this order, so that a crash anywhere neither loses an item nor delivers it twice: file synced under a temporary
 * name → `delivering` → renamed, directory synced → `delivered` → acknowledged.
 */
export async function pullAgent(pull: AgentPull, from: PullFrom = {}): Promise<Position | undefined> {
  await recover(pull);
  await acknowledgeLeftovers(pull);
  let left: Position | undefined;
  let { after } = from;
  for (let waitMs = from.waitMs ?? 0; !pull.signal.aborted; waitMs = 0) {
    const page = await pull.mailbox.pending({
      agents: [pull.as],
      limit: pageItems,
      host: pull.host,
      waitMs,
      signal: pull.signal,
      ...(after === undefined ? {} : { after }),
    });
    left = (await deliverPage(pull, page.items, after === from.after)) ?? left;
    for (const { id, reason } of page.broken ?? []) pull.fail({ item: id, reason });
    left = later(left, positionOf(page.broken?.at(-1)?.id ?? ''));
    // A server that goes back would have us here for ever.
    if (page.next === undefined || (after !== undefined && page.next.row <= after.row)) break;
    after = page.next;
  }
  return left;
}

function later(one: Position | undefined, other: Position | undefined): Position | undefined {
  return one === undefined || (other !== undefined && other.row > one.row) ? other : one;
}

/** Settles what an earlier run began: what it renamed is delivered, whatever the agent did with it since. */
async function recover(pull: AgentPull): Promise<void> {
  const begun = pull.deliveries.begun(pull.agent);
  const current = inboxOf(pull.workspace);
  for (const directory of new Set(begun.map(({ inbox }) => inbox))) {
    const here = begun.filter(({ inbox }) => inbox === directory);
    try {
      if (directory === current) await withInbox(pull, pull.workspace, (inbox) => finish(pull, inbox, here));
      else if (await isDirectory(workspaceOf(directory))) await leave(pull, directory, here);
      else await withInbox(pull, pull.workspace, (inbox) => takeAlong(pull, inbox, here));
    } catch (error) {
      if (!failedWith(error, ...ofTheInbox)) throw error;
      for (const { id } of here) failed(pull, id, error);
    }
  }
}

async function finish(pull: AgentPull, inbox: Inbox, begun: readonly Begun[]): Promise<void> {
  const placed: string[] = [];
  const refused: Begun[] = [];
  await inParallel(begun, filesAtOnce, async (item) => {
    try {
      if (await inbox.holds(item.temp)) await inbox.place(item.temp, item.name);
      placed.push(item.id);
    } catch (error) {
      if (failedWith(error, 'changed')) placed.push(item.id);
      // Pending still: it is told as failed when it comes up.
      else if (failedWith(error, 'conflict')) refused.push(item);
      else failed(pull, item.id, error);
    }
  });
  await takeBack(pull, inbox, refused);
  await confirm(pull, inbox, placed);
}

/** The workspace is another one now: what was not yet in the old inbox goes into the new one. */
async function leave(pull: AgentPull, directory: string, begun: readonly Begun[]): Promise<void> {
  await withInbox(pull, workspaceOf(directory), async (old) => {
    const placed: string[] = [];
    const waiting: Begun[] = [];
    for (const item of begun)
      if (await old.holds(item.temp)) waiting.push(item);
      else placed.push(item.id);
    await takeBack(pull, old, waiting);
    await confirm(pull, old, placed);
  });
}

/** The workspace was moved, and with it what lay in it: whether that was renamed before cannot be known otherwise. */
async function takeAlong(pull: AgentPull, inbox: Inbox, begun: readonly Begun[]): Promise<void> {
  const here: Begun[] = [];
  const gone: Begun[] = [];
  for (const item of begun) ((await inbox.holds(item.temp)) ? here : gone).push(item);
  pull.deliveries.forget(gone.map(({ id }) => id));
  await finish(pull, inbox, here);
}

/** Acknowledges what was delivered before and is not acknowledged: it need not come up as pending again. */
async function acknowledgeLeftovers(pull: AgentPull): Promise<void> {
  const byMailbox = Map.groupBy(
    pull.deliveries.unacknowledged(pull.agent),
    (id) => positionOf(id)?.agent ?? pull.as,
  );
  for (const [mailbox, ids] of byMailbox) {
    try {
      pull.audit.already += await acknowledge(pull, ids);
    } catch (error) {
      // Of an id that the agent had in Nexus before: no reason to leave today's mail.
      if (mailbox === pull.as || !(error instanceof NexusError) || pull.signal.aborted) throw error;
      failed(pull, `the mailbox of ${mailbox}`, error);
    }
  }
}

/** Whatever a run that died left in the hidden directory before it noted it. */
async function removeStrays(pull: AgentPull, inbox: Inbox): Promise<void> {
  const strays = await inbox.temps(pull.now().getTime() - strayMs);
  if (strays.length === 0) return;
  const named = new Set(pull.deliveries.begun().map(({ temp }) => temp));
  for (const temp of strays) if (!named.has(temp)) await inbox.discard(temp);
}

async function deliverPage(
  pull: AgentPull,
  items: readonly Item[],
  first: boolean,
): Promise<Position | undefined> {
  const known = pull.deliveries.known(items.map(({ id }) => id));
  const delivered = items.filter(({ id }) => known.get(id) === 'delivered').map(({ id }) => id);
  const fresh = new Map(items.filter(({ id }) => !known.has(id)).map((item) => [item.id, item]));
  pull.audit.already += delivered.length;
  const put = fresh.size === 0 ? [] : await deliverFresh(pull, [...fresh.values()], first);
  await acknowledge(pull, [...delivered, ...put]);
  const settled = new Set([...delivered, ...put]);
  const last = items.findLast(({ id }) => !settled.has(id));
  return last === undefined ? undefined : positionOf(last.id);
}

/** Answers the ids that are in the inbox now. */
async function deliverFresh(pull: AgentPull, items: readonly Item[], first: boolean): Promise<string[]> {
  const right: Item[] = [];
  for (const item of items) {
    if (positionOf(item.id)?.agent === pull.as) right.push(item);
    else failed(pull, item.id, new NexusError('invalid', `It is no item of ${pull.as}.`));
  }
  const put: string[] = [];
  try {
    await withInbox(pull, pull.workspace, async (inbox) => {
      if (first) await removeStrays(pull, inbox);
      let again = right;
      for (let n = 1; again.length > 0; n++) {
        const outcome = await putInto(pull, inbox, again, n < triesToWrite);
        put.push(...outcome.put);
        again = outcome.again;
      }
    });
  } catch (error) {
    if (!failedWith(error, ...ofTheInbox)) throw error;
    const there = new Set(put);
    for (const { id } of right) if (!there.has(id)) failed(pull, id, error);
  }
  return put;
}

/** An inbox that cannot be used fails its items; what else is wrong fails the agent. */
const ofTheInbox: ErrorCode[] = ['forbidden', 'unavailable', 'conflict', 'changed'];

async function putInto(
  pull: AgentPull,
  inbox: Inbox,
  items: readonly Item[],
  mayTryAgain: boolean,
): Promise<{ put: string[]; again: Item[] }> {
  const written = await writeAll(pull, inbox, items);
  if (written.length === 0) return { put: [], again: [] };
  await begin(pull, inbox, written);
  const placed: string[] = [];
  const undone: Begun[] = [];
  const again: Item[] = [];
  await inParallel(written, filesAtOnce, async (entry) => {
    try {
      await inbox.place(entry.temp, entry.name);
      placed.push(entry.id);
    } catch (error) {
      if (failedWith(error, 'changed') && mayTryAgain) again.push(entry.item);
      else failed(pull, entry.id, error);
      // With its temporary file gone for another reason it may be in the inbox: the next run settles that.
      if (failedWith(error, 'changed', 'conflict') || (await inbox.holds(entry.temp).catch(() => false)))
        undone.push(entry);
    }
  });
  await confirm(pull, inbox, placed);
  await takeBack(pull, inbox, undone);
  return { put: placed, again };
}

type Written = Begun & { item: Item };

async function writeAll(pull: AgentPull, inbox: Inbox, items: readonly Item[]): Promise<Written[]> {
  const written: Written[] = [];
  const crowdedOut: Item[] = [];
  async function write(item: Item, again: boolean): Promise<void> {
    const { id, source, receivedAt } = item;
    try {
      const name = fileNameOf(item);
      const temp = temporaryName();
      await inbox.write(temp, fileTextOf(item));
      written.push({ id, source, receivedAt, inbox: inbox.directory, temp, name, item });
    } catch (error) {
      if (again && failedWith(error, 'unavailable')) crowdedOut.push(item);
      else failed(pull, id, error);
    }
  }
  await inParallel(items, filesAtOnce, (item) => write(item, true));
  // A large one that did not fit on the disk took the room of those beside it for a moment.
  for (const item of crowdedOut) await write(item, false);
  return written;
}

async function begin(pull: AgentPull, inbox: Inbox, written: readonly Written[]): Promise<void> {
  let asked = false;
  try {
    await inbox.syncTemps();
    asked = true;
    pull.deliveries.begin(pull.agent, written);
  } catch (error) {
    // A file that the ledger knows of after all must stay: it would count as delivered without it.
    const unknown = asked ? unknownOf(pull, written) : written;
    await discardAll(inbox, unknown);
    throw error;
  }
}

function unknownOf(pull: AgentPull, written: readonly Written[]): readonly Written[] {
  try {
    const known = pull.deliveries.known(written.map(({ id }) => id));
    return written.filter(({ id }) => !known.has(id));
  } catch {
    // They are strays when they turn out to be nobody's.
    return [];
  }
}

/** The files have their names: makes that last, and then says so. */
async function confirm(pull: AgentPull, inbox: Inbox, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await inbox.sync();
  pull.deliveries.deliver(pull.agent, ids, pull.now().getTime());
  pull.audit.delivered += ids.length;
}

/** The row goes first: without its file it would count as delivered. */
async function takeBack(pull: AgentPull, inbox: Inbox, begun: readonly Begun[]): Promise<void> {
  if (begun.length === 0) return;
  pull.deliveries.forget(begun.map(({ id }) => id));
  await discardAll(inbox, begun);
}

/** One that cannot be removed is found again as a stray. */
async function discardAll(inbox: Inbox, begun: readonly Begun[]): Promise<void> {
  await Promise.allSettled(begun.map(({ temp }) => inbox.discard(temp)));
}

async function acknowledge(pull: AgentPull, ids: readonly string[]): Promise<number> {
  for (let from = 0; from < ids.length; from += pageItems) {
    const some = ids.slice(from, from + pageItems);
    await pull.mailbox.acknowledge(some, pull.host);
    pull.deliveries.acknowledge(some, pull.now().getTime());
    pull.audit.acknowledged += some.length;
  }
  return ids.length;
}

async function withInbox(
  pull: AgentPull,
  workspace: string,
  work: (inbox: Inbox) => Promise<void>,
): Promise<void> {
  const inbox = await pull.openInbox(workspace);
  try {
    await work(inbox);
  } finally {
    await inbox.close();
  }
}

function failed(pull: AgentPull, item: string, error: unknown): void {
  if (!(error instanceof NexusError))
    pull.warn(`internal error: ${error instanceof Error ? error.stack : String(error)}`);
  pull.fail({ item, reason: describe(error) });
}
