import { NexusError } from '../errors.ts';
import { formatItems } from '../format.ts';
import type { Item } from '../mailbox.ts';
import type { Putio } from '../putio/api.ts';
import { endOf, type Transfer, transferIn, transferOf } from '../transfer.ts';
import type { Confirmed } from './inbox.ts';
import { inParallel } from './parallel.ts';

/** What their sender says of items, by their ids; it takes no longer than a few seconds, whatever the sender does. */
export type Confirm = (items: readonly Item[]) => Promise<Map<string, Confirmed>>;

const askedAtOnce = 4;
/** No further one is asked about after this long, in one call. */
const longestMs = 10_000;
/** After it could not be asked, it is left alone for so long. */
const pauseMs = 60_000;

/**
 * Asks put.io about what came in its name. `true`: it has this transfer, and it finished so; also of what was fetched
 * from there. `false`: it has none such, or not any more, or it is another. `unavailable`: it could not be asked.
 */
export function confirmAt(
  open: () => Promise<Putio>,
  warn: (message: string) => void,
  longest = longestMs,
): Confirm {
  let opened: Promise<Putio> | undefined;
  // By a watch that nobody sets.
  let notBefore = 0;

  async function ask(payloadText: string): Promise<Confirmed> {
    const transfer = transferIn(payloadText);
    if (transfer?.id === undefined) return false;
    const found = await (await (opened ??= open())).transfer(transfer.id);
    return found !== undefined && agree(transfer, transferOf(found));
  }

  return async (items) => {
    const confirmed = new Map<string, Confirmed>();
    const began = performance.now();
    let late = 0;
    await inParallel(items, askedAtOnce, async ({ id, payloadText, reconciled, encoding }) => {
      confirmed.set(id, reconciled === true ? true : 'unavailable');
      if (reconciled === true || performance.now() < notBefore) return;
      if (performance.now() - began > longest) {
        late++;
        return;
      }
      try {
        confirmed.set(id, encoding === undefined && (await ask(payloadText)));
      } catch (error) {
        // Stopped, or a bug: the item goes on its way all the same.
        opened = undefined;
        const wait = error instanceof NexusError ? (error.retryAfter ?? 0) * 1000 : 0;
        const first = performance.now() >= notBefore;
        notBefore = performance.now() + Math.max(pauseMs, wait);
        if (first) warn(`What came from put.io is delivered unconfirmed: ${sentenceOf(error)}`);
      }
    });
    if (late > 0)
      warn(
        `${formatItems(late, 'item')} from put.io came too many at once to ask about, and ${late === 1 ? 'is' : 'are'} delivered unconfirmed.`,
      );
    return confirmed;
  };
}

function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What may not be another in put.io's own words than in a callback's, where both have it. */
const compared = ['name', 'size', 'source', 'fileId', 'finishedAt'] as const;

/** Whether put.io's own words bear out a callback's: the same transfer, and that it is over, in the same way. */
function agree(told: Transfer, own: Transfer): boolean {
  const isOver = own.finishedAt !== undefined || endOf(own) !== undefined;
  if (own.id !== told.id || !isOver) return false;
  if (told.status !== undefined && own.status !== undefined && endOf(told) !== endOf(own)) return false;
  if (told.fileId !== undefined && own.fileId === undefined) return false;
  return compared.every(
    (name) => told[name] === undefined || own[name] === undefined || told[name] === own[name],
  );
}
