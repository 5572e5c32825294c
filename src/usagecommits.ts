import { setTimeout as sleep } from 'node:timers/promises';
import { failedWith, messageOf, NexusError } from './errors.ts';
import type { Counting } from './usagecount.ts';
import { type IndexFile, IndexGone } from './usagefile.ts';

const mostTogether = 16;
/** Where much is to be read, what is to be written waits so long for more of it, ms. */
const gatherMs = 30;

interface Waiting {
  work: () => void;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Transactions that write to the index, shared by what comes together. */
export function openCommits(
  index: IndexFile,
  counting: Counting,
): {
  /** Runs `work` in a transaction, with whatever else is handed in meanwhile; resolves when it is committed. */
  commit: (work: () => void) => Promise<void>;
  /** So many more, or fewer, are at work on what they will commit: until all have handed theirs in, some is waited for. */
  expect: (more: number) => void;
} {
  let waiting: Waiting[] = [];
  let flushing: Promise<void> | undefined;
  let expected = 0;

  async function commit(work: () => void): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    waiting.push({ work, resolve, reject });
    flushing ??= flush();
    await promise;
  }

  /** A turn of the event loop, and further ones while each brings more: they share a transaction. */
  async function gather(): Promise<void> {
    if (waiting.length < expected) {
      await sleep(gatherMs);
      return;
    }
    let before: number;
    do {
      before = waiting.length;
      await new Promise(setImmediate);
    } while (waiting.length > before && waiting.length < mostTogether);
  }

  async function flush(): Promise<void> {
    while (waiting.length > 0) {
      await gather();
      const batch = waiting;
      waiting = [];
      try {
        await taken(batch);
      } catch (error) {
        // What cannot be counted of one transcript must not keep those that happen to share its transaction.
        if (batch.length > 1 && failedWith(error, 'corrupt'))
          for (const one of batch) await taken([one]).catch(one.reject);
        else for (const { reject } of batch) reject(error);
      }
    }
    flushing = undefined;
  }

  async function taken(batch: readonly Waiting[]): Promise<void> {
    try {
      const done = await index.write(() => {
        counting.begin();
        for (const { work } of batch) work();
        counting.flush();
      });
      if (done === 'gone') throw new IndexGone();
    } catch (error) {
      if (error instanceof NexusError || error instanceof IndexGone) throw error;
      throw new NexusError('corrupt', `What it holds cannot be counted: ${messageOf(error)}.`, {
        cause: error,
      });
    }
    for (const { resolve } of batch) resolve();
  }

  return {
    commit,
    expect(more) {
      expected += more;
    },
  };
}
