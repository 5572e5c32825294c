import type { Config } from '../config.ts';
import { describe, failedWith, NexusError } from '../errors.ts';
import type { Mailbox } from '../mailbox.ts';
import type { Putio } from '../putio/api.ts';
import { mailboxIn, putioSource, shortName, shownCallback } from '../putio/callback.ts';
import type { FailedItem } from '../report.ts';
import { valueAt } from '../settings.ts';
import { endOf, formOf, idsOf, overlapMs, type Transfer, transferOf } from '../transfer.ts';
import { underLock } from './agentlock.ts';
import { keepLook, lastLook, type Look } from './looks.ts';
import { type Gone, lookIntoHistory } from './putiohistory.ts';

export interface ReconcileRequest {
  /** Its id in Nexus. */
  agent: string;
  /** Where to begin instead, ms since 1970. */
  since?: number | undefined;
  /** Also where the account does not call this agent. */
  force?: boolean | undefined;
}

export interface ReconcileSurroundings {
  config: Config;
  /** The host whose mailbox it must be; without it nobody is asked. */
  host?: string;
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
  /** What cannot be put into the mailbox, or is not to be understood. */
  failed: FailedItem[];
  /** The same of what an earlier look told as failed: it holds nothing else up. */
  setAside: FailedItem[];
  warnings: string[];
}

/** put.io's callback has this time to come by itself. */
const graceMs = 5 * 60_000;
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
  { agent, since, force = since !== undefined }: ReconcileRequest,
  around: ReconcileSurroundings,
  before: Look,
  began: Date,
): Promise<Reconciled> {
  const { config, putio, signal } = around;
  const now = began.getTime();
  const until = now - graceMs;
  const known = soberly(before, now);
  const marked = known.lookedAt === undefined ? undefined : Date.parse(known.lookedAt);
  const from = since ?? startOf(known, now);
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
    setAside: [],
    warnings: known.warnings,
  };
  const accounts = await accountsAgent();
  const ended: { fields: object; transfer: Transfer; at: number }[] = [];
  const listed: Transfer[] = [];
  const aside = new Map((before.setAside ?? []).map((one) => [one.item, one]));
  const still = new Set<string>();
  for await (const fields of putio.transfers()) {
    const transfer = transferOf(fields);
    listed.push(transfer);
    const at = Date.parse(transfer.finishedAt ?? '');
    const lacking = whatIsLacking(fields, transfer);
    if (at < from || (Number.isNaN(at) && lacking === undefined)) continue;
    if (!isFor(agent, fields, accounts)) result.elsewhere++;
    else if (at > until) result.recent++;
    else if (lacking !== undefined) failed(nameOf(fields), lacking);
    else ended.push({ fields, transfer, at });
  }
  result.transfers = listed.length;
  ended.sort((one, other) => one.at - other.at);
  for (const { fields, transfer } of ended) {
    signal.throwIfAborted();
    await store(fields, transfer);
  }
  const historyFrom = since ?? Math.min(from, historyStart());
  const isAccounts = agent === accounts;
  const history = await lookIntoHistory({ ...around, agent, isAccounts, from: historyFrom, until, listed });
  result.warnings.push(...history.warnings);
  for (const { fields, transfer } of history.missed) await store(fields, transfer);
  result.gone = history.gone;
  await keepLook(config, agent, kept(history.read));
  return result;

  /** Whose those transfers are that name no callback of their own. */
  async function accountsAgent(): Promise<string | undefined> {
    const said = config.putio.agent ?? agent;
    if (force || said !== agent) return said;
    const callback = await putio.callback().catch((error: unknown) => {
      // A token that is not let see it may still be let list the transfers.
      if (!failedWith(error, 'forbidden')) throw error;
      return 'unknown' as const;
    });
    if (callback === 'unknown') return said;
    if (callback === undefined && known.called === undefined) return said;
    const named = callback === undefined ? undefined : mailboxIn(callback);
    if (named?.agent === agent && named.source === putioSource) {
      known.called = true;
      return said;
    }
    if (config.putio.agent === undefined) return undefined;
    const calls = callback === undefined ? 'nobody any more' : shownCallback(callback);
    throw new NexusError('conflict', `put.io calls ${calls}, and not ${agent}: it was not looked through.`, {
      hint: `If ${agent} is to have no more of them, run \`nexus config unset putio.agent\` on this host; else register again, or look all the same with \`nexus putio reconcile --force\`.`,
    });
  }

  function historyStart(): number {
    const { historyAt } = known;
    return historyAt === undefined ? from : startOf({ ...known, lookedAt: historyAt }, now);
  }

  function kept(historyRead: boolean): Look {
    const whole = marked === undefined || from <= marked;
    const lookedAt = whole ? began.toISOString() : known.lookedAt;
    const lagging =
      known.historyAt ?? (whole ? new Date(Math.max(from, marked ?? from)).toISOString() : undefined);
    const isCaughtUp =
      historyRead && (known.historyAt === undefined || historyFrom <= Date.parse(known.historyAt));
    const historyAt = isCaughtUp ? undefined : historyRead ? known.historyAt : lagging;
    const [first] = result.failed;
    const setAside = [...aside.values()]
      .filter(({ item }) => since !== undefined || still.has(item))
      .slice(0, mostSetAside);
    return {
      ...(lookedAt === undefined ? {} : { lookedAt }),
      ...(historyAt === undefined ? {} : { historyAt }),
      ...(known.called === undefined ? {} : { called: known.called }),
      ...(known.beganAt === undefined ? {} : { beganAt: known.beganAt }),
      ...(setAside.length === 0 ? {} : { setAside }),
      triedAt: began.toISOString(),
      found: result.found.length,
      ...(first === undefined ? {} : { error: `${first.item}: ${first.reason}` }),
    };
  }

  /** Told as failed once: the next look will fail at it too. */
  function failed(item: string, reason: string): void {
    still.add(item);
    const isKnown = aside.has(item) && since === undefined;
    (isKnown ? result.setAside : result.failed).push({ item, reason });
    aside.set(item, { item, reason });
  }

  async function store(fields: object, transfer: Transfer): Promise<void> {
    const { id, name } = transfer;
    const ids = idsOf(transfer);
    if (id === undefined || ids === undefined)
      return failed(nameOf(fields), 'It has no id or time to be known by.');
    try {
      const { status, id: item } = await around.mailbox.add({
        agent,
        source: putioSource,
        contentType: 'application/x-www-form-urlencoded',
        body: Buffer.from(formOf(fields)),
        ...ids,
        ...(around.host === undefined ? {} : { host: around.host }),
      });
      if (status === 'duplicate') result.already++;
      else result.found.push({ item, transfer: id, ...(name === undefined ? {} : { name }) });
    } catch (error) {
      // What is wrong with Nexus is wrong for the next one too.
      if (!(error instanceof NexusError) || !['invalid', 'too_large'].includes(error.code)) throw error;
      failed(nameOf(fields), describe(error));
    }
  }
}

const mostSetAside = 1000;

/** A mark without what a clock that was ahead has written: later than now is no time of a look. */
function soberly(look: Look, now: number): Look & { warnings: string[] } {
  const { lookedAt, historyAt, beganAt, ...rest } = look;
  const isAhead = (at: string | undefined) => at !== undefined && Date.parse(at) > now + overlapMs;
  const sober = {
    ...rest,
    ...(lookedAt === undefined || isAhead(lookedAt) ? {} : { lookedAt }),
    ...(historyAt === undefined || isAhead(historyAt) ? {} : { historyAt }),
    ...(beganAt === undefined || isAhead(beganAt) ? {} : { beganAt }),
  };
  const ahead = [lookedAt, beganAt, historyAt].find(isAhead);
  if (ahead === undefined) return { ...sober, warnings: [] };
  const farthest = new Date(now - farthestMs).toISOString();
  return {
    ...sober,
    ...(isAhead(lookedAt) || sober.lookedAt === undefined ? { lookedAt: farthest } : {}),
    warnings: [
      `The last look at put.io is dated ${ahead}, which is yet to come: this machine's clock was ahead, and what finished in 29 days is looked at again.`,
    ],
  };
}

/** Not farther back than deliveries are known, but for what no earlier look has seen. */
function startOf({ lookedAt, beganAt }: Look, now: number): number {
  if (lookedAt === undefined) return now - firstLookMs;
  const marked = Date.parse(lookedAt);
  const registered = beganAt === undefined ? 0 : Date.parse(beganAt);
  return Math.max(registered, marked - overlapMs, Math.min(marked, now - farthestMs));
}

/** Why one that has ended cannot be delivered; `undefined` of the others. */
function whatIsLacking(fields: object, transfer: Transfer): string | undefined {
  const said = valueAt(fields, ['finished_at']);
  if (transfer.finishedAt === undefined && said !== undefined && said !== null)
    return `When it finished cannot be read: ${shortName(JSON.stringify(said))}.`;
  if (transfer.finishedAt === undefined && endOf(transfer) === 'failed')
    return 'It failed, and put.io does not say when.';
  if (transfer.finishedAt === undefined && Object.keys(fields).length > 0) return undefined;
  return transfer.id === undefined ? 'It has no id that is a number.' : undefined;
}

/** For people. */
function nameOf(fields: object): string {
  const [id, name] = ['id', 'name'].map((field) => valueAt(fields, [field]));
  const shown =
    typeof id === 'number' || typeof id === 'string' ? ` ${shortName(String(id))}` : ' without an id';
  return `transfer${shown}${typeof name === 'string' ? ` (${shortName(name)})` : ''}`;
}

/** A transfer with a callback of its own is that mailbox's; the others are those of the account's agent. */
function isFor(agent: string, fields: object, accounts: string | undefined): boolean {
  const callback = valueAt(fields, ['callback_url']);
  if (typeof callback !== 'string' || callback === '') return agent === accounts;
  const named = mailboxIn(callback);
  return named?.agent === agent && named.source === putioSource;
}
