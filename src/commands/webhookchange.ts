import { randomUUID } from 'node:crypto';
import type { Context } from '../context.ts';
import { describe, exit, exitStatus, failedWith, NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import { type ListedItem, type Mailbox, positionOf } from '../mailbox.ts';
import { absent, type Chosen, filterOf, table, withMailbox } from './webhooks.ts';

export interface ChangeOptions extends Chosen {
  /** Named one by one; else those that the filter finds. */
  ids: readonly string[];
  /** What the filter finds is meant, all of it. */
  yes: boolean;
}

/** What became of one item that was named. */
type Changed = { id: string; as?: string } | { id: string; error: NexusError };

/** Makes items of history pending again, each under a new id. */
export async function replay(context: Context, options: ChangeOptions): Promise<number> {
  return await change(context, options, 'replay', 'history', async (mailbox, ids) => {
    const changed: Changed[] = [];
    for (const id of ids) {
      if (context.signal.aborted || isOver(changed)) break;
      changed.push(
        await tried(id, async () => {
          if (positionOf(id) === undefined) throw absent(id);
          return { id, as: await mailbox.replay(id, randomUUID()) };
        }),
      );
    }
    return changed;
  });
}

const idsAtOnce = 500;

/** Takes pending items out of the mailbox, so that no host gets them. They are in history for 30 days. */
export async function drop(context: Context, options: ChangeOptions): Promise<number> {
  return await change(context, options, 'drop', 'pending', async (mailbox, ids) => {
    const changed: Changed[] = [];
    for (let at = 0; at < ids.length && !context.signal.aborted && !isOver(changed); at += idsAtOnce) {
      const some = ids.slice(at, at + idsAtOnce);
      const known = some.filter((id) => positionOf(id) !== undefined);
      try {
        const dropped = known.length === 0 ? 0 : await mailbox.drop(known);
        // What was not pending is looked at: it may be no item at all.
        for (const id of some)
          changed.push(dropped === some.length ? { id } : await tried(id, () => afterDrop(mailbox, id)));
      } catch (error) {
        if (!(error instanceof NexusError)) throw error;
        changed.push(...some.map((id) => ({ id, error })));
      }
    }
    return changed;
  });
}

/** Whether it failed for a reason that the next item would meet too. */
function isOver(changed: readonly Changed[]): boolean {
  const last = changed.at(-1);
  return last !== undefined && 'error' in last && !failedWith(last.error, 'not_found', 'conflict', 'corrupt');
}

async function afterDrop(mailbox: Mailbox, id: string): Promise<Changed> {
  const item = positionOf(id) === undefined ? undefined : await mailbox.show(id);
  if (item === undefined) throw absent(id);
  if (item.state === 'dropped') return { id };
  throw new NexusError('conflict', `${id} is with the host ${item.host ?? 'that it went to'} already.`);
}

async function tried(id: string, work: () => Promise<Changed>): Promise<Changed> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof NexusError)) throw error;
    return { id, error };
  }
}

/** Names the items, does the work, and reports; what a filter finds is only shown until `--yes` says it is meant. */
async function change(
  context: Context,
  options: ChangeOptions,
  verb: 'replay' | 'drop',
  state: 'pending' | 'history',
  work: (mailbox: Mailbox, ids: readonly string[]) => Promise<Changed[]>,
): Promise<number> {
  const { ids, yes, ...chosen } = options;
  const filter = filterOf(chosen);
  const filtered = Object.keys(filter).length > 0;
  if (ids.length > 0 === filtered)
    throw new NexusError(
      'usage',
      filtered
        ? 'Name items or choose them by --agent, --source and --since, not both.'
        : `Say what to ${verb}: the ids of items, or --agent, --source and --since.`,
      { hint: 'See `nexus webhooks list`.' },
    );
  return await withMailbox(context, async (mailbox) => {
    if (!filtered) return await done(mailbox, [...new Set(ids)]);
    const found: ListedItem[] = [];
    const damaged: string[] = [];
    for await (const item of mailbox.list({ ...filter, state, broken: ({ id }) => damaged.push(id) })) {
      context.signal.throwIfAborted();
      found.push(item);
    }
    for (const id of damaged)
      context.output.warn(`${id} is damaged, and may not be one of those; name it to ${verb} it.`, {
        item: id,
      });
    if (!yes && found.length > 0) return unsaid(context, verb, found);
    return await done(
      mailbox,
      found.map(({ id }) => id),
    );
  });

  async function done(mailbox: Mailbox, ids: readonly string[]): Promise<number> {
    return report(context, verb, ids.length, await work(mailbox, ids));
  }
}

function unsaid(context: Context, verb: 'replay' | 'drop', found: ListedItem[]): number {
  const { output } = context;
  const error = new NexusError(
    'usage',
    `Nothing is done yet: this would ${verb} ${formatItems(found.length, 'item')}.`,
    { hint: 'Say --yes if that is meant.' },
  );
  const { code } = error;
  if (output.json)
    output.result({
      command: `webhooks ${verb}`,
      ok: false,
      would: found.map(({ id }) => id),
      error: { code, message: describe(error) },
      schemaVersion: 1,
    });
  else table(context, found, context.now());
  output.error(describe(error));
  return exitStatus(error);
}

/** When nothing could be done it is the command's own failure; otherwise what failed is named. */
function report(
  { output }: Context,
  verb: 'replay' | 'drop',
  wanted: number,
  changed: readonly Changed[],
): number {
  const done = changed.filter((one) => !('error' in one));
  const failed = changed.flatMap((one) => ('error' in one ? [one] : []));
  const [first] = failed;
  if (first !== undefined && (wanted === 1 || (done.length === 0 && isOver(changed)))) throw first.error;
  const left = wanted - changed.length;
  if (output.json)
    output.result({
      command: `webhooks ${verb}`,
      ok: failed.length === 0 && left === 0,
      items: done,
      failed: failed.map(({ id, error }) => ({ item: id, reason: describe(error) })),
      left,
      schemaVersion: 1,
    });
  else for (const one of done) output.result('as' in one ? (one.as ?? one.id) : one.id);
  for (const sentence of new Set(failed.map(({ error }) => describe(error)))) output.error(sentence);
  const rest = left === 0 ? '' : ` ${formatItems(left, 'item')} not tried.`;
  const items = formatItems(done.length, 'item');
  output.info(
    verb === 'replay'
      ? `${items} pending again, under ${done.length === 1 ? 'a new id' : 'new ids'}.${rest}`
      : `${items} dropped, and in history for 30 days.${rest}`,
  );
  return failed.length === 0 && left === 0 ? exit.done : exit.someFailed;
}
