import { failedWith } from '../../../src/errors.ts';
import type { Store } from '../../../src/stores/store.ts';
import { historyOf } from '../../../src/transcripts.ts';
import type { Broken } from '../part.ts';

/**
 * What OpenClaw ever wrote under each name, and what Nexus said of it is stored. A history is kept whole: it is at most
 * some tens of KiB.
 */
export interface Truth {
  /** OpenClaw begins a history under this name, of which there may be others. */
  begin(name: string, bytes: Buffer): void;
  /** It writes on at the end of the latest. */
  grow(name: string, bytes: Buffer): void;
  latest(name: string): Buffer;
  /** Nexus said, or its exit status did, that these bytes are stored. */
  owe(name: string, bytes: Buffer, saying: string): void;
  /** Bytes that are stored now, by blob. */
  lengths(store: Store): Promise<Map<string, number>>;
  /** Compares these names, or all, with what is stored; answers how many bytes that were. */
  check(store: Store, names: Iterable<string> | 'all', broken: (one: Broken) => void): Promise<number>;
  names(): string[];
}

/** A name here is `{agent}/{transcript}`, as below `sessions/inbox/`. */
export function openTruth(again: () => string): Truth {
  const versions = new Map<string, Buffer[]>();
  const owed = new Map<string, { bytes: Buffer; saying: string }[]>();

  const isPrefix = (short: Buffer, long: Buffer): boolean =>
    short.length <= long.length && short.equals(long.subarray(0, short.length));

  async function checkName(store: Store, name: string, broken: (one: Broken) => void): Promise<number> {
    const say = (what: string): void => broken({ what: `${name}: ${what}`, again: again() });
    let stored: Buffer[];
    try {
      stored = await storedUnder(store, name);
    } catch (error) {
      if (!failedWith(error, 'corrupt', 'range')) throw error;
      say(`what is stored cannot be read: ${error.message}`);
      return 0;
    }
    for (const { bytes, saying } of owed.get(name) ?? [])
      if (!stored.some((history) => isPrefix(bytes, history)))
        say(`${bytes.length} bytes are not stored that were said to be, by ${saying}`);
    for (const [n, history] of stored.entries()) {
      if (!(versions.get(name) ?? []).some((version) => isPrefix(history, version)))
        say(`the ${history.length} bytes stored as history ${n + 1} were never written so`);
      // What OpenClaw wrote anew here differs from its first line on.
      if (stored.some((other, m) => m !== n && isPrefix(history, other)))
        say(`history ${n + 1} is stored in another history too`);
    }
    return stored.reduce((sum, { length }) => sum + length, 0);
  }

  return {
    begin(name, bytes) {
      versions.set(name, [...(versions.get(name) ?? []), bytes]);
    },
    grow(name, bytes) {
      const all = versions.get(name) ?? [];
      all.push(Buffer.concat([all.pop() ?? Buffer.alloc(0), bytes]));
      versions.set(name, all);
    },
    latest: (name) => versions.get(name)?.at(-1) ?? Buffer.alloc(0),
    owe(name, bytes, saying) {
      // What is owed as a part of more is owed with that.
      const others = (owed.get(name) ?? []).filter((one) => !isPrefix(one.bytes, bytes));
      if (!others.some((one) => isPrefix(bytes, one.bytes))) others.push({ bytes, saying });
      owed.set(name, others);
    },
    async lengths(store) {
      const found = new Map<string, number>();
      for await (const { name, length } of store.list('sessions/')) found.set(name, length);
      return found;
    },
    async check(store, names, broken) {
      let bytes = 0;
      for (const name of names === 'all' ? versions.keys() : names)
        bytes += await checkName(store, name, broken);
      return bytes;
    },
    names: () => [...versions.keys()],
  };
}

/** The histories X, X~2, … up to the first that is absent, as they are read from the store. */
async function storedUnder(store: Store, name: string): Promise<Buffer[]> {
  const histories: Buffer[] = [];
  for (;;) {
    const blob = `sessions/inbox/${historyOf(name, histories.length + 1)}.jsonl`;
    if ((await store.stat(blob)) === undefined) return histories;
    const pieces: Uint8Array[] = [];
    for await (const piece of store.open(blob)) pieces.push(piece);
    histories.push(Buffer.concat(pieces));
  }
}
