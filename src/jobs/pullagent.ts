import { describe, type ErrorCode, failedWith, NexusError } from '../errors.ts';
import { bug, codeIn, type Say } from '../logline.ts';
import { type BrokenItem, type Item, type Mailbox, type Position, positionOf } from '../mailbox.ts';
import type { FailedItem } from '../report.ts';
import { putioSource } from '../putio/callback.ts';
import type { Confirm } from './confirming.ts';
import type { Begun, Deliveries } from './deliveries.ts';
import {
  type Confirmed,
  fileNameOf,
  fileTextOf,
  type Inbox,
  inboxOf,
  isWorkspace,
  temporaryName,
  workspaceOf,
} from './inbox.ts';
import { countsAgainstItem, setAsideReason } from './failures.ts';
import type { MailFailures } from './mailfailures.ts';
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
  /** The file of it. */
  ledger: string;
  openInbox: (workspace: string, usedBefore: () => boolean) => Promise<Inbox>;
  /** Asks put.io about what came in its name; absent where nobody is to be asked. */
  confirm?: Confirm | undefined;
  signal: AbortSignal;
  now: () => Date;
  audit: PullAudit;
  /** To be told of what is pending still; of one item more than once where several things are in its way. */
  fail: (item: FailedItem, code: string) => void;
  /** To be told of what is pending still and was not tried, because it failed too often. */
  setAside: (item: FailedItem) => void;
  failures: MailFailures;
  /** To be told of a bug that concerns one item, and of another ledger that the inbox is filled by. */
  warn: Say;
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
const givenUpMs = 30 * 86_400_000;

/** A temporary file may be taken away by somebody between two steps; not again and again by chance. */
const triesToWrite = 3;

/**
 * Delivers what is pending for one agent and acknowledges it; what failed stays pending, is named, and stops nothing
 * else; what failed too often for a reason of its own is not tried again. Answers the last such position, so that a caller who waits for more can wait for what comes after. At the
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
  const pending = new Set<string>();
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
    for (const broken of page.broken ?? []) noteBroken(pull, broken);
    for (const { id } of [...page.items, ...(page.broken ?? [])]) pending.add(id);
    left = later(left, positionOf(page.broken?.at(-1)?.id ?? ''));
    if (page.next === undefined) {
      if (from.after === undefined) pull.failures.keepOnly(pending);
      break;
    }
    // It would have us here for ever, or leave out what comes after.
    if (after !== undefined && page.next.row <= after.row) throw goesBack(pull.as);
    after = page.next;
  }
  return left;
}

/** What cannot even be fetched is not tried either way, and yet counted: who looks after it needs to know once. */
function noteBroken(pull: AgentPull, { id, reason }: BrokenItem): void {
  const failure = pull.failures.setAside(id, 'body');
  if (failure !== undefined) return pull.setAside({ item: id, reason: setAsideReason(failure) });
  pull.failures.note(id, 'body', reason);
  pull.fail({ item: id, reason }, 'corrupt');
}

function goesBack(agent: string): NexusError {
  return new NexusError('unavailable', `Nexus answered a page of what is pending for ${agent} twice.`, {
    hint: 'What came after it is pending still; the next run asks again. Look at what lies between this host and the endpoint: a cache, for one.',
  });
}

function later(one: Position | undefined, other: Position | undefined): Position | undefined {
  return one === undefined || (other !== undefined && other.row > one.row) ? other : one;
}

/**
 * Settles what an earlier run began: what it renamed is delivered, whatever the agent did with it since. In a workspace
 * that was moved the same is found at its new place; one that is another now has what was renamed in the old one.
 */
async function recover(pull: AgentPull): Promise<void> {
  const begun = pull.deliveries.begun(pull.agent);
  const current = inboxOf(pull.workspace);
  for (const directory of new Set(begun.map(({ inbox }) => inbox))) {
    const here = begun.filter(({ inbox }) => inbox === directory);
    const left = directory !== current && (await isWorkspace(workspaceOf(directory)));
    try {
      await withInbox(pull, left ? workspaceOf(directory) : pull.workspace, (inbox) =>
        settle(pull, inbox, here, left),
      );
    } catch (error) {
      if (!failedWith(error, ...ofTheInbox)) throw error;
      for (const { id } of here) failed(pull, id, error);
    }
  }
}

/**
 * One whose temporary file is there gets its name, or is taken back from an inbox that is `left`. One whose temporary
 * file is gone was renamed, when the hidden directory is the one that the file was made in; when it is another,
 * whether it was renamed cannot be known: it is delivered again, since twice is better than not at all.
 */
async function settle(pull: AgentPull, inbox: Inbox, begun: readonly Begun[], left: boolean): Promise<void> {
  const placed: string[] = [];
  const undone: Begun[] = [];
  await inParallel(begun, filesAtOnce, async (item) => {
    try {
      const held = await inbox.holds(item.temp);
      const elsewhere = item.incoming !== undefined && item.incoming !== inbox.incoming;
      if (held ? left : elsewhere) undone.push(item);
      else {
        if (held) await inbox.place(item.temp, item.name);
        placed.push(item.id);
      }
    } catch (error) {
      // Pending still: it is delivered, or told as failed, when it comes up.
      if (failedWith(error, 'changed', 'conflict')) undone.push(item);
      else failed(pull, item.id, error);
    }
  });
  await takeBack(pull, inbox, undone);
  await confirm(pull, inbox, placed);
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
      const left = failedWith(error, 'unavailable') ? ids : giveUp(pull, ids);
      if (left.length > 0) failed(pull, `the mailbox of ${mailbox}`, formerMailbox(error, mailbox));
    }
  }
}

/** After a month nothing but a person will change it; the files are in the inbox. Answers what is not given up. */
function giveUp(pull: AgentPull, ids: readonly string[]): string[] {
  const old = new Set(pull.deliveries.unacknowledged(pull.agent, pull.now().getTime() - givenUpMs));
  pull.deliveries.acknowledge(
    ids.filter((id) => old.has(id)),
    pull.now().getTime(),
  );
  return ids.filter((id) => !old.has(id));
}

function formerMailbox(error: NexusError, mailbox: string): NexusError {
  return new NexusError(
    error.code,
    `What was delivered from it when the agent was called so cannot be taken out of pending: ${describe(error)}`,
    {
      hint: `It is in the inbox. Let this host's key pull for ${mailbox} too, or \`nexus webhooks drop --agent ${mailbox}\` at the endpoint; it is given up 30 days after it was delivered.`,
      cause: error,
    },
  );
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
  for (const id of fresh.keys()) {
    const failure = pull.failures.setAside(id, 'file');
    if (failure === undefined) continue;
    pull.setAside({ item: id, reason: setAsideReason(failure) });
    fresh.delete(id);
  }
  pull.audit.already += delivered.length;
  const isAsked = ({ source }: Item) => pull.confirm !== undefined && source === putioSource;
  const [asked, others] = [true, false].map((is) =>
    [...fresh.values()].filter((item) => isAsked(item) === is),
  );
  const put = await deliverFresh(pull, others ?? [], first);
  await acknowledge(pull, [...delivered, ...put]);
  pull.failures.forget([...delivered, ...put]);
  const settled = new Set([...delivered, ...put]);
  if (pull.confirm !== undefined && asked !== undefined && asked.length > 0) {
    // Last: a put.io that does not answer delays nobody else's.
    const more = await deliverFresh(pull, asked, first && others?.length === 0, await pull.confirm(asked));
    await acknowledge(pull, more);
    pull.failures.forget(more);
    for (const id of more) settled.add(id);
  }
  const last = items.findLast(({ id }) => !settled.has(id));
  return last === undefined ? undefined : positionOf(last.id);
}

/** Answers the ids that are in the inbox now. */
async function deliverFresh(
  pull: AgentPull,
  items: readonly Item[],
  first: boolean,
  confirmed?: Map<string, Confirmed>,
): Promise<string[]> {
  if (items.length === 0) return [];
  const right: Item[] = [];
  for (const item of items) {
    if (positionOf(item.id)?.agent === pull.as) right.push(item);
    else itemFailed(pull, item.id, new NexusError('invalid', `It is no item of ${pull.as}.`));
  }
  const put: string[] = [];
  try {
    await withInbox(pull, pull.workspace, async (inbox) => {
      if (right.length > 0) await noteLedger(pull, inbox);
      if (first) await removeStrays(pull, inbox);
      let again = right;
      for (let n = 1; again.length > 0; n++) {
        const outcome = await putInto(pull, inbox, again, n < triesToWrite, confirmed);
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

/** A mailbox is bound to a host by its name alone, and each ledger on it knows only what it delivered itself. */
async function noteLedger(pull: AgentPull, inbox: Inbox): Promise<void> {
  try {
    const other = await inbox.filledBy(pull.ledger);
    if (other !== undefined)
      pull.warn(
        `The inbox of ${pull.agent} was filled by the ledger ${other}, which is gone, and is now by ${pull.ledger}.`,
      );
  } catch (error) {
    // A full disk or the agent may be in the way of the note alone.
    if (!(error instanceof NexusError) || error.code === 'conflict') throw error;
  }
}

/** An inbox that cannot be used fails its items; what else is wrong fails the agent. */
const ofTheInbox: ErrorCode[] = ['forbidden', 'unavailable', 'conflict', 'changed'];

async function putInto(
  pull: AgentPull,
  inbox: Inbox,
  items: readonly Item[],
  mayTryAgain: boolean,
  confirmed: Map<string, Confirmed> | undefined,
): Promise<{ put: string[]; again: Item[] }> {
  const written = await writeAll(pull, inbox, items, confirmed);
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
      else itemFailed(pull, entry.id, error);
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

async function writeAll(
  pull: AgentPull,
  inbox: Inbox,
  items: readonly Item[],
  confirmed: Map<string, Confirmed> | undefined,
): Promise<Written[]> {
  const written: Written[] = [];
  const crowdedOut: Item[] = [];
  async function write(item: Item, again: boolean): Promise<void> {
    const { id, source, receivedAt } = item;
    try {
      const name = fileNameOf(item);
      const temp = temporaryName();
      await inbox.write(temp, fileTextOf(item, confirmed?.get(id)));
      const { directory, incoming } = inbox;
      written.push({ id, source, receivedAt, inbox: directory, incoming, temp, name, item });
    } catch (error) {
      if (again && failedWith(error, 'unavailable')) crowdedOut.push(item);
      else itemFailed(pull, id, error);
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
  const usedBefore = () => pull.deliveries.usedBefore(inboxOf(workspace));
  const inbox = await pull.openInbox(workspace, usedBefore);
  try {
    await work(inbox);
  } finally {
    await inbox.close();
  }
}

function failed(pull: AgentPull, item: string, error: unknown): void {
  if (!(error instanceof NexusError)) pull.warn(...bug(error));
  pull.fail({ item, reason: describe(error) }, codeIn(error));
}

/** As `failed`, of what may be the item's own fault: a full disk or a closed directory is not. */
function itemFailed(pull: AgentPull, item: string, error: unknown): void {
  if (countsAgainstItem(error)) pull.failures.note(item, 'file', describe(error));
  failed(pull, item, error);
}
