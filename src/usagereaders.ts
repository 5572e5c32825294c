import { Worker } from 'node:worker_threads';
import { NexusError } from './errors.ts';
import { type Before, type Following, openReader, type Part } from './usagereader.ts';

/** A piece of the transcript `id`, or that nothing more of it is wanted. */
export interface Sent {
  id: number;
  /** With the first piece. */
  before?: Before;
  piece?: Uint8Array;
  following: Following;
}

/** What a piece has made due, in the order of the pieces. */
export interface Answered {
  part: Part | undefined;
}

export interface Reader {
  /** The piece is the reader's from then on. */
  read: (piece: Uint8Array, following: Following) => Promise<Part | undefined>;
  close: () => void;
}

/** Readers of transcripts: in a thread of their own where that is wanted, else here. */
export function openReaders(withThread: boolean): {
  open: (before: Before) => Reader;
  close: () => Promise<void>;
} {
  const thread = withThread ? begin() : undefined;
  let opened = 0;
  let failed: { error: unknown } | undefined;
  let waiting: PromiseWithResolvers<Part | undefined>[] = [];

  function begin(): Worker {
    // Beside this file in the source, one directory up from its chunk when built.
    const file = import.meta.url.endsWith('.ts') ? './usagereading.ts' : '../usagereading.js';
    const worker = new Worker(new URL(file, import.meta.url));
    worker.on('message', ({ part }: Answered) => waiting.shift()?.resolve(part));
    worker.once('error', over);
    worker.once('exit', () => over(new Error('It has ended.')));
    return worker;
  }

  function over(cause: unknown): void {
    failed ??= {
      error: new NexusError('unavailable', 'The thread that reads transcripts has ended.', { cause }),
    };
    for (const one of waiting) one.reject(failed.error);
    waiting = [];
  }

  function here(before: Before): Reader {
    const read = openReader(before);
    return { read: async (piece, following) => await Promise.resolve(read(piece, following)), close() {} };
  }

  function there(worker: Worker, before: Before): Reader {
    const id = opened++;
    let begun = false;
    return {
      async read(piece, following) {
        if (failed !== undefined) throw failed.error;
        const answer = Promise.withResolvers<Part | undefined>();
        waiting.push(answer);
        const sent: Sent = begun ? { id, piece, following } : { id, before, piece, following };
        begun = following === 'more';
        worker.postMessage(sent, owned(piece));
        return await answer.promise;
      },
      close() {
        if (begun) worker.postMessage({ id, following: 'nothing' } satisfies Sent, []);
      },
    };
  }

  return {
    open: (before) => (thread === undefined ? here(before) : there(thread, before)),
    async close() {
      await thread?.terminate();
    },
  };
}

/** The memory to hand over; what is part of something larger is copied. */
function owned({ buffer, byteLength }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && byteLength === buffer.byteLength ? [buffer] : [];
}
