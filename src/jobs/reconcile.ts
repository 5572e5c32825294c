import type { Config } from '../config.ts';
import { describe, NexusError } from '../errors.ts';
import type { Mailbox } from '../mailbox.ts';
import type { Putio } from '../putio/api.ts';
import { mailboxIn, putioSource } from '../putio/callback.ts';
import type { FailedItem } from '../report.ts';
import { deliveryOf, formOf, type Transfer, transferOf, withoutTime } from '../transfer.ts';
import { underLock } from './agentlock.ts';
import { keepLook, lastLook, type Look } from './looks.ts';
import { type Gone, lookIntoHistory } from './putiohistory.ts';

export interface ReconcileRequest {
  /** Its id in Nexus. */
  agent: string;
  /** Where to begin instead, ms since 1970. */
  since?: number | undefined;
}

export interface ReconcileSurroundings {
  config: Config;
  mailbox: Mailbox;
  putio: Putio;
  signal: AbortSignal;
  now: () => Date;
}

/** What one look through an account's transfers came to. */
export interface Reconciled {
  agent: string;
  /** Of the transfers that were looked at: those that finished between these times. ISO 8601, UTC. */
  from: string;
  to: string;
  /** All in the account's list. */
  transfers: number;
  /** Never called back, and in the mailbox now. */
  found: { item: string; transfer: number; name?: string }[];
  /** Were in the mailbox, or had been. */
  already: number;
  /** Finished a moment ago: left to their callbacks, and looked at the next time. */
  recent: number;
  /** Finished, and call another mailbox, or somebody else. */
  elsewhere: number;
  /** Finished and not in the list any more, and nothing that came tells of them. */
  gone: Gone[];
  failed: FailedItem[];
  warnings: string[];
}

/** put.io's callback has this time to come by itself. */
const graceMs = 5 * 60_000;
/** Looked through once more each time: put.io's clock and this one differ. */
const overlapMs = 3_600_000;
/** How far back the first look goes. */
export const firstLookMs = 24 * 3_600_000;
/** Deliveries are known for 30 days: what came before could come a second time. */
export const farthestMs = 29 * 86_400_000;

/**
 * Puts into an agent's mailbox what finished at put.io since the last look and never called back, once. That time is
 * moved on when all of it is stored, so that whatever ends this early costs nothing but looking again. `busy` when
 * another look is under way.
 */
export async function reconcile(
  request: ReconcileRequest,
  around: ReconcileSurroundings,
): Promise<Reconciled> {
  const { config } = around;
  let result: Reconciled | undefined;
  const busy = await underLock(config, 'putio', 'putio reconcile', async () => {
    const before = await lastLook(config, request.agent);
    const began = around.now();
    try {
      result = await look(request, around, before, began);
    } catch (error) {
      if (!around.signal.aborted)
        await keepLook(config, request.agent, {
          ...before,
          triedAt: began.toISOString(),
          error: describe(error),
        });
      throw error;
    }
  });
  if (busy !== undefined || result === undefined)
    throw new NexusError('busy', `Another look at put.io is under way. ${busy ?? ''}`.trimEnd());
  return result;
}

async function look(
  { agent, since }: ReconcileRequest,
  around: ReconcileSurroundings,
  before: Look,
  began: Date,
): Promise<Reconciled> {
  const { config, putio, signal } = around;
  const until = began.getTime() - graceMs;
  const marked = before.lookedAt === undefined ? undefined : Date.parse(before.lookedAt);
  const from = since ?? startOf(before, began.getTime());
  const result: Reconciled = {
    agent,
    from: new Date(from).toISOString(),
    to: new Date(until).toISOString(),
    transfers: 0,
    found: [],
    already: 0,
    recent: 0,
    elsewhere: 0,
    gone: [],
    failed: [],
    warnings: [],
  };
  const ended: { fields: object; transfer: Transfer; at: number }[] = [];
  const listed: Transfer[] = [];
  for await (const fields of putio.transfers()) {
    const transfer = transferOf(fields);
    listed.push(transfer);
    const at = Date.parse(transfer.finishedAt ?? '');
    if (Number.isNaN(at) || at < from) continue;
    if (!isFor(agent, fields, config.putio.agent)) result.elsewhere++;
    else if (at > until) result.recent++;
    else ended.push({ fields, transfer, at });
  }
  result.transfers = listed.length;
  ended.sort((one, other) => one.at - other.at);
  for (const { fields, transfer } of ended) {
    signal.throwIfAborted();
    await store(fields, transfer);
  }
  const history = await lookIntoHistory({ ...around, agent, from, until, listed });
  result.warnings.push(...history.warnings);
  for (const { fields, transfer } of history.missed) await store(fields, transfer);
  result.gone = history.gone;
  const whole = result.failed.length === 0 && (marked === undefined || from <= marked);
  const lookedAt = whole ? began.toISOString() : before.lookedAt;
  const [first] = result.failed;
  const { beganAt } = before;
  await keepLook(config, agent, {
    ...(lookedAt === undefined ? {} : { lookedAt }),
    ...(beganAt === undefined ? {} : { beganAt }),
    triedAt: began.toISOString(),
    found: result.found.length,
    ...(first === undefined ? {} : { error: first.reason }),
  });
  return result;

  async function store(fields: object, transfer: Transfer): Promise<void> {
    const { id, name } = transfer;
    const delivery = deliveryOf(transfer);
    if (id === undefined || delivery === undefined) return;
    try {
      const { status, id: item } = await around.mailbox.add({
        agent,
        source: putioSource,
        contentType: 'application/x-www-form-urlencoded',
        body: Buffer.from(formOf(fields)),
        delivery,
        ...otherwiseOf(transfer),
      });
      if (status === 'duplicate') result.already++;
      else result.found.push({ item, transfer: id, ...(name === undefined ? {} : { name }) });
    } catch (error) {
      // What is wrong with Nexus is wrong for the next one too.
      if (!(error instanceof NexusError) || !['invalid', 'too_large'].includes(error.code)) throw error;
      result.failed.push({ item: `transfer ${id}`, reason: describe(error) });
    }
  }
}

/** Not farther back than deliveries are known, but for what no earlier look has seen. */
function startOf({ lookedAt, beganAt }: Look, now: number): number {
  if (lookedAt === undefined) return now - firstLookMs;
  const marked = Date.parse(lookedAt);
  const registered = beganAt === undefined ? 0 : Date.parse(beganAt);
  return Math.max(registered, marked - overlapMs, Math.min(marked, now - farthestMs));
}

/** A callback that left the time out came under the transfer's id alone. One that failed has no such. */
function otherwiseOf(transfer: Transfer) {
  const { finishedAt } = transfer;
  const delivery = finishedAt === undefined ? undefined : deliveryOf(withoutTime(transfer));
  if (finishedAt === undefined || delivery === undefined) return {};
  return {
    otherwise: { delivery, since: new Date(Date.parse(finishedAt) - overlapMs).toISOString() },
  };
}

/** A transfer with a callback of its own is that mailbox's; the others are those of the account's agent. */
function isFor(agent: string, fields: object, accounts: string | undefined): boolean {
  const callback: unknown = Object.entries(fields).find(([name]) => name === 'callback_url')?.[1];
  if (typeof callback !== 'string' || callback === '') return agent === (accounts ?? agent);
  const named = mailboxIn(callback);
  return named?.agent === agent && named.source === putioSource;
}
