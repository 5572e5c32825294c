import { Worker } from 'node:worker_threads';
import { NexusError } from './errors.ts';
import { received, type SentError } from './senterror.ts';
import type { Wanted } from './usageparts.ts';
import type { SentPart } from './usagesent.ts';
import type { Following } from './usagereader.ts';

/** A local store that the thread opens, to read from it. */
export interface Place {
  directory: string;
  /** The store's id. */
  id: string;
}

/**
 * What the thread is asked, of the transcript `id`. `read` and `go`: the next part of what is wanted, which it reads from
 * the store. `piece`: what is due behind this piece. `end`: nothing more of it is wanted. `close`: it is to end itself.
 */
export type Asked =
  | { what: 'read'; id: number; wanted: Wanted }
  | { what: 'go'; id: number }
  | { what: 'piece'; id: number; start: Start | undefined; piece: Uint8Array; following: Following }
  | { what: 'end'; id: number }
  | { what: 'close' };

/** With the first piece of a transcript. */
export type Start = Pick<Wanted, 'agent' | 'before'>;

/** The answer to `read`, `go` and `piece`. */
export interface Answer {
  id: number;
  /** `undefined` where there is none. */
  found: { part: SentPart; last: boolean } | 'moved' | undefined;
  /** That were read for this answer. */
  bytes: number;
  error?: SentError;
}

export interface ReaderThread {
  /** One at a time of a transcript. Rejects with what went wrong, and where the thread has ended. */
  ask: (asked: Extract<Asked, { what: 'read' | 'go' | 'piece' }>) => Promise<Answer>;
  end: (id: number) => void;
  /** It has ended by itself, or could not go on. */
  hasEnded: () => boolean;
  close: () => Promise<void>;
}

/** For what is in hand to end, ms. */
const closingMs = 2000;
/** What is parsed of a line is garbage right behind it: with more room for it, it is collected less often. */
const youngMiB = 16;

export function beginReaderThread(place: Place | undefined): ReaderThread {
  const waiting = new Map<number, PromiseWithResolvers<Answer>>();
  let over: NexusError | undefined;
  // Beside this file in the source; built, it is one directory up from its chunk.
  const file = import.meta.url.endsWith('.ts') ? './usagereading.ts' : '../usagereading.js';
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: place,
    resourceLimits: { maxYoungGenerationSizeMb: youngMiB },
  });
  worker.on('message', (answer: Answer) => {
    const one = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (answer.error === undefined) one?.resolve(answer);
    else one?.reject(received(answer.error));
  });
  worker.once('error', ended);
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', () => {
      ended(new Error('It has ended.'));
      resolve();
    });
  });

  function ended(cause: unknown): void {
    over ??= new NexusError('unavailable', 'The thread that reads transcripts has ended.', { cause });
    for (const one of waiting.values()) one.reject(over);
    waiting.clear();
  }

  function post(asked: Asked, memory: ArrayBuffer[] = []): void {
    worker.postMessage(asked, memory);
  }

  return {
    async ask(asked) {
      if (over !== undefined) throw over;
      const answer = Promise.withResolvers<Answer>();
      waiting.set(asked.id, answer);
      post(asked, asked.what === 'piece' ? owned(asked.piece) : []);
      return await answer.promise;
    },
    end: (id) => post({ what: 'end', id }),
    hasEnded: () => over !== undefined,
    async close() {
      post({ what: 'close' });
      const late = setTimeout(() => void worker.terminate(), closingMs);
      await exited;
      clearTimeout(late);
    },
  };
}

/** The memory to hand over; what is part of something larger is copied. */
function owned({ buffer, byteLength }: Uint8Array): ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && byteLength === buffer.byteLength ? [buffer] : [];
}
