import { describe, NexusError } from '../errors.ts';
import type { Mailbox } from '../mailbox.ts';
import type { Putio, PutioEvent } from '../putio/api.ts';
import { mailboxIn, putioSource, urlsIn } from '../putio/callback.ts';
import { overlapMs, type Transfer, transferIn, transferOf } from '../transfer.ts';

/** A transfer that finished and that only put.io's history tells of. */
export interface Gone {
  transfer?: number;
  name?: string;
  fileId?: number;
  finishedAt?: string;
}

export interface HistoryRequest {
  putio: Putio;
  mailbox: Mailbox;
  signal: AbortSignal;
  /** Its id in Nexus. */
  agent: string;
  /** The account's callback is this agent's. */
  isAccounts: boolean;
  /** ms since 1970. */
  from: number;
  until: number;
  /** What is in the account's list. */
  listed: readonly Transfer[];
}

export interface HistoryLook {
  /** All of it could be read. */
  read: boolean;
  /** Their callbacks to this mailbox failed and they are not in the list any more: as much of them as is known. */
  missed: { fields: object; transfer: Transfer }[];
  gone: Gone[];
  warnings: string[];
}

/** The most items whose payloads are looked at for one. */
const mostShown = 5000;

/**
 * What was removed from the account's list before it was looked at, as an agent does that tidies up: put.io's history
 * names transfers whose callback failed by their id, and others by name and file alone. Where it does not quote the URL
 * that was called, they cannot be told from ones that called somebody else: they are only named, to the account's own
 * agent, where nothing that came tells of them.
 */
export async function lookIntoHistory(request: HistoryRequest): Promise<HistoryLook> {
  const { from, until, listed, isAccounts } = request;
  const found: HistoryLook = { read: true, missed: [], gone: [], warnings: [] };
  const ids = new Set(listed.map(({ id }) => id));
  const files = new Set(listed.map(({ fileId }) => fileId));
  const failed = new Map<number, PutioEvent>();
  const completed: { event: PutioEvent; finishedAt: string }[] = [];
  try {
    for await (const event of request.putio.events()) {
      const { finishedAt } = transferOf({ finished_at: event.createdAt });
      const at = Date.parse(finishedAt ?? '');
      if (finishedAt === undefined || at > until) continue;
      if (at < from) break;
      const { type, transferId, fileId } = event;
      if (type === 'transfer_callback_error' && transferId !== undefined && !ids.has(transferId))
        failed.set(transferId, event);
      if (isAccounts && type === 'transfer_completed' && (fileId === undefined || !files.has(fileId)))
        completed.push({ event, finishedAt });
    }
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    found.read = false;
    found.warnings.push(
      `Transfers that were removed from put.io's list are not found until its history can be read: ${describe(error)}`,
    );
    return found;
  }
  if (failed.size + completed.length === 0) return found;

  const came = await whatCame(request, completed.length > 0);
  if (!came.whole)
    found.warnings.push(
      `More than ${mostShown} items came since: which transfers left put.io's list without a call is not looked at.`,
    );
  for (const [id, { transferName: name, message }] of failed) {
    const at = completed.findIndex(({ event }) => event.transferName === name);
    const done = at === -1 ? undefined : completed.splice(at, 1)[0];
    if (came.transfers.has(id)) continue;
    const fileId = done?.event.fileId;
    const called = urlsIn(message ?? '').map(mailboxIn);
    if (called.some((one) => one?.agent === request.agent && one.source === putioSource)) {
      // When it finished is not known to the second, as a callback would have said it: so its id alone.
      const fields = { id, name: name ?? null, file_id: fileId ?? null };
      found.missed.push({ fields, transfer: transferOf(fields) });
    } else if (called.length === 0 && isAccounts)
      found.gone.push({ transfer: id, ...goneOf(name, fileId, done?.finishedAt) });
  }
  for (const { event, finishedAt } of completed) {
    const { transferName: name, fileId } = event;
    if (!came.whole || (fileId === undefined ? came.names.has(name) : came.files.has(fileId))) continue;
    found.gone.push(goneOf(name, fileId, finishedAt));
  }
  return found;
}

function goneOf(name: string | undefined, fileId: number | undefined, finishedAt: string | undefined): Gone {
  return {
    ...(name === undefined ? {} : { name }),
    ...(fileId === undefined ? {} : { fileId }),
    ...(finishedAt === undefined ? {} : { finishedAt }),
  };
}

interface Came {
  /** All payloads that are needed were looked at. */
  whole: boolean;
  transfers: Set<number>;
  files: Set<number | undefined>;
  names: Set<string | undefined>;
}

/** What the mailbox has had since: by the ids of deliveries, and where needed by what the payloads say. */
async function whatCame({ mailbox, signal, agent, from }: HistoryRequest, looking: boolean): Promise<Came> {
  const came: Came = { whole: true, transfers: new Set(), files: new Set(), names: new Set() };
  const since = new Date(from - overlapMs).toISOString();
  let shown = 0;
  for await (const { id, delivery } of mailbox.list({ agent, source: putioSource, since })) {
    signal.throwIfAborted();
    const known = /^\d+/.exec(delivery ?? '')?.[0];
    if (known !== undefined) came.transfers.add(Number(known));
    if (!looking) continue;
    if (++shown > mostShown) {
      came.whole = false;
      continue;
    }
    const transfer = transferIn((await mailbox.show(id))?.payloadText ?? '');
    if (transfer === undefined) continue;
    if (transfer.id !== undefined) came.transfers.add(transfer.id);
    came.files.add(transfer.fileId);
    came.names.add(transfer.name);
  }
  return came;
}
