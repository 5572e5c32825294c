import { describe, NexusError } from '../errors.ts';
import type { Mailbox } from '../mailbox.ts';
import type { Putio, PutioEvent } from '../putio/api.ts';
import { putioSource } from '../putio/callback.ts';
import { type Transfer, transferIn, transferOf, withoutTime } from '../transfer.ts';

/** A transfer that finished and that only put.io's history tells of. */
export interface Gone {
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
  /** ms since 1970. */
  from: number;
  until: number;
  /** What is in the account's list. */
  listed: readonly Transfer[];
}

export interface HistoryLook {
  /** Their callbacks failed and they are not in the list any more: as much of them as is known. */
  missed: { fields: object; transfer: Transfer }[];
  gone: Gone[];
  warnings: string[];
}

/** The most items whose payloads are looked at for one. */
const mostShown = 500;

/**
 * What was removed from the account's list before it was looked at, as an agent does that tidies up: put.io's history
 * names transfers whose callback failed by their id, and others by name and file alone. Those cannot be told from ones
 * that called somebody else, so they are only named, where nothing that came tells of them.
 */
export async function lookIntoHistory(request: HistoryRequest): Promise<HistoryLook> {
  const { from, until, listed } = request;
  const found: HistoryLook = { missed: [], gone: [], warnings: [] };
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
      if (type === 'transfer_completed' && (fileId === undefined || !files.has(fileId)))
        completed.push({ event, finishedAt });
    }
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    found.warnings.push(`Transfers that were removed from put.io's list are not found: ${describe(error)}`);
    return found;
  }
  if (failed.size + completed.length === 0) return found;

  const came = await whatCame(request, completed.length > 0);
  for (const [id, { transferName }] of failed) {
    const at = completed.findIndex(({ event }) => event.transferName === transferName);
    const done = at === -1 ? undefined : completed.splice(at, 1)[0];
    if (came.transfers.has(id)) continue;
    const fields = {
      id,
      name: transferName ?? null,
      file_id: done?.event.fileId ?? null,
      finished_at: done?.finishedAt ?? null,
    };
    // What history says is not to the second what a callback would have said: known by its id alone.
    found.missed.push({ fields, transfer: withoutTime(transferOf(fields)) });
  }
  for (const { event, finishedAt } of completed) {
    const { transferName: name, fileId } = event;
    if (fileId === undefined ? came.names.has(name) : came.files.has(fileId)) continue;
    found.gone.push({
      ...(name === undefined ? {} : { name }),
      ...(fileId === undefined ? {} : { fileId }),
      finishedAt,
    });
  }
  return found;
}

interface Came {
  transfers: Set<number>;
  files: Set<number | undefined>;
  names: Set<string | undefined>;
}

/** What the mailbox has had since: by the ids of deliveries, and where needed by what the payloads say. */
async function whatCame({ mailbox, signal, agent, from }: HistoryRequest, looking: boolean): Promise<Came> {
  const came: Came = { transfers: new Set(), files: new Set(), names: new Set() };
  const since = new Date(from - 3_600_000).toISOString();
  let shown = 0;
  for await (const { id, delivery } of mailbox.list({ agent, source: putioSource, since })) {
    signal.throwIfAborted();
    const known = /^\d+/.exec(delivery ?? '')?.[0];
    if (known !== undefined) came.transfers.add(Number(known));
    if (!looking || ++shown > mostShown) continue;
    const transfer = transferIn((await mailbox.show(id))?.payloadText ?? '');
    if (transfer === undefined) continue;
    if (transfer.id !== undefined) came.transfers.add(transfer.id);
    came.files.add(transfer.fileId);
    came.names.add(transfer.name);
  }
  return came;
}
